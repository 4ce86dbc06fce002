//! Conversion between storage types.

use super::{Launch, Tensor};
use crate::device::{CpuCall, Gpu, Kernel, Pass, narrow};
use crate::error::Result;
use crate::shape::DType;
use half::bf16;
use rayon::prelude::*;

pub static CAST: Kernel = Kernel {
    name: "cast",
    outputs: &["y"],
    inputs: &["x"],
    sizes: &["n"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let x = call.input::<f32>("x");
        match call.stored_out("y") {
            DType::BF16 => narrow(call.out::<bf16>("y"), x),
            _ => {
                let y = call.out::<f32>("y");
                y.par_chunks_mut(1 << 15).zip(x.par_chunks(1 << 15)).for_each(|(y, x)| y.copy_from_slice(x));
            }
        }
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("cast", call.size("n").div_ceil(1024), 256)]),
};

pub static CAST_TO_F32: Kernel = Kernel {
    name: "cast_to_f32",
    outputs: &["y"],
    inputs: &["x"],
    sizes: &["n"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let (y, x) = (call.out::<f32>("y"), call.input::<f32>("x"));
        y.par_chunks_mut(1 << 15).zip(x.par_chunks(1 << 15)).for_each(|(y, x)| y.copy_from_slice(x));
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("cast_to_f32", call.size("n").div_ceil(1024), 256)]),
};

/// y = x, rounded to y's type; x is f32.
pub fn cast(y: &Tensor, x: &Tensor) -> Result<()> {
    x.same_shape("cast", y)?;
    Launch::of(&CAST).output("y", y).input("x", x).size("n", x.len()).run(y.device())
}

/// y = x; y is f32, and x of any type.
pub fn cast_to_f32(y: &Tensor, x: &Tensor) -> Result<()> {
    x.same_shape("cast_to_f32", y)?;
    Launch::of(&CAST_TO_F32).output("y", y).input("x", x).size("n", x.len()).run(y.device())
}
