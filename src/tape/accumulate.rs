//! The two kernels that gradient bookkeeping itself needs: fill, and add or copy.

use crate::device::{CpuCall, Gpu, Kernel, Pass};
use crate::error::Result;
use crate::tensor::{Launch, Tensor};
use rayon::prelude::*;

/// Elements a thread handles at a time.
const CHUNK: usize = 1 << 15;

pub static FILL: Kernel = Kernel {
    name: "fill",
    outputs: &["y"],
    inputs: &[],
    sizes: &["n"],
    scalars: &["value"],
    cpu: |call: &mut CpuCall| {
        let value = call.scalar("value");
        call.out::<f32>("y").par_chunks_mut(CHUNK).for_each(|y| y.fill(value));
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("fill", call.size("n").div_ceil(1024), 256)]),
};

pub static ACCUMULATE: Kernel = Kernel {
    name: "accumulate",
    outputs: &["y"],
    inputs: &["x"],
    sizes: &["n", "accumulate"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let (y, x) = (call.out::<f32>("y"), call.input::<f32>("x"));
        let adds = call.size("accumulate") == 1;
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| match adds {
            true => y.iter_mut().zip(x).for_each(|(y, x)| *y += x),
            false => y.copy_from_slice(x),
        });
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("accumulate", call.size("n").div_ceil(1024), 256)]),
};

/// y = value, in every element.
pub fn fill(y: &Tensor, value: f32) -> Result<()> {
    Launch::of(&FILL).output("y", y).size("n", y.len()).scalar("value", value).run(y.device())
}

/// y += x when `accumulate`, else y = x.
pub fn add(y: &Tensor, x: &Tensor, accumulate: bool) -> Result<()> {
    Launch::of(&ACCUMULATE)
        .output("y", y)
        .input("x", x)
        .size("n", y.len())
        .size("accumulate", accumulate as usize)
        .flops(x.len() as u64)
        .run(y.device())
}
