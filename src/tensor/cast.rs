//! Conversion between storage types.

use super::{Launch, Tensor};
use crate::device::{CpuCall, Gpu, Kernel, Pass};
use crate::error::Result;
use rayon::prelude::*;

pub static CAST: Kernel = Kernel {
    name: "cast",
    outputs: &["y"],
    inputs: &["x"],
    sizes: &["n"],
    scalars: &[],
    // The executor itself widens and rounds what a CPU function sees.
    cpu: |call: &mut CpuCall| {
        let (y, x) = (call.out::<f32>("y"), call.input::<f32>("x"));
        y.par_chunks_mut(1 << 15).zip(x.par_chunks(1 << 15)).for_each(|(y, x)| y.copy_from_slice(x));
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("cast", call.size("n").div_ceil(1024), 256)]),
};

/// y = x, rounded to y's type; x is f32.
pub fn cast(y: &Tensor, x: &Tensor) -> Result<()> {
    x.same_shape("cast", y)?;
    Launch::of(&CAST).output("y", y).input("x", x).size("n", x.len()).run(y.device())
}
