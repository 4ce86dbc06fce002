//! Global gradient norm: the square root of the sum of squares, in f64.
//!
//! Shapes: g `[n]`, norm `[1]`; on a GPU `parts` partial sums, each an f64 in two f32. No gradient.

use super::{Gradient, OpSpec};
use crate::device::cpu::vector;
use crate::device::{CpuCall, Gpu, Kernel, Pass};
use crate::error::Result;
use crate::tensor::{Launch, Tensor};

pub static OP: OpSpec = OpSpec {
    name: "gradient_norm",
    gradient: Gradient::None("it reads gradients, not activations"),
    kernels: &[&FORWARD],
};

static FORWARD: Kernel = Kernel {
    name: "gradient_norm_fwd",
    outputs: &["norm", "partial"],
    inputs: &["g"],
    sizes: &["n", "parts"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        call.out::<f32>("norm")[0] = vector::sum_squares(call.input::<f32>("g")).sqrt() as f32;
    },
    gpu: Gpu::Passes(|call| {
        let squares = Pass::new("gradient_norm_fwd", call.size("parts"), 256).shared(8 * 8);
        vec![squares, Pass::new("gradient_norm_fwd_sum", 1, 256).shared(8 * 8)]
    }),
};

/// norm `[1]` of all gradients in the slab g.
pub fn gradient_norm(g: &Tensor) -> Result<Tensor> {
    let n = g.len();
    // Fixed by n, so that the bits do not depend on the GPU.
    let parts = n.div_ceil(8192).clamp(1, 1024);
    let norm = g.like_f32([1])?;
    Launch::of(&FORWARD)
        .output("norm", &norm)
        .output("partial", &g.like_f32([parts, 2])?)
        .input("g", g)
        .size("n", n)
        .size("parts", parts)
        .flops(2 * n as u64)
        .run(g.device())?;
    Ok(norm)
}
