//! Global gradient norm: the square root of the sum of squares, in f64.
//!
//! Shapes: g `[n]`, norm `[1]`. No gradient.

use super::{Gradient, OpSpec};
use crate::device::cpu::vector;
use crate::device::{CpuCall, Gpu, Kernel};
use crate::error::Result;
use crate::tensor::{Launch, Tensor};

pub static OP: OpSpec = OpSpec {
    name: "gradient_norm",
    gradient: Gradient::None("it reads gradients, not activations"),
    kernels: &[&FORWARD],
};

static FORWARD: Kernel = Kernel {
    name: "gradient_norm_fwd",
    outputs: &["norm"],
    inputs: &["g"],
    sizes: &["n"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        call.out::<f32>(0)[0] = vector::sum_squares(call.input::<f32>(0)).sqrt() as f32;
    },
    gpu: Gpu::Passes(|_| Vec::new()),
};

/// norm `[1]` of all gradients in the slab g.
pub fn gradient_norm(g: &Tensor) -> Result<Tensor> {
    let norm = g.like_f32([1])?;
    Launch::of(&FORWARD).output(&norm).input(g).size(g.len()).flops(2 * g.len() as u64).run(g.device())?;
    Ok(norm)
}
