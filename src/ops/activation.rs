//! Activations, elementwise: gelu (exact erf), gelu_new and gelu_fast (tanh), relu.
//!
//! Shapes: x, y `[..]`. Saved: x. Hendrycks and Gimpel 2016, arXiv 1606.08415.

use super::{Gradient, OpSpec, wide_blocks};
use crate::device::cpu::activation as cpu;
use crate::device::{CpuCall, Gpu, Kernel, Pass};
use crate::error::Result;
use crate::tape::Tape;
use crate::tensor::{Launch, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub static OP: OpSpec =
    OpSpec { name: "activation", gradient: Gradient::Recorded, kernels: &[&FORWARD, &BACKWARD] };

/// The function, under the names that HF configs use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x Φ(x) with the exact error function.
    Gelu,
    /// The tanh form; `gelu_fast` and `gelu_pytorch_tanh` differ in rounding only.
    #[serde(alias = "gelu_fast", alias = "gelu_pytorch_tanh")]
    GeluNew,
    Relu,
}

static FORWARD: Kernel = Kernel {
    name: "activation_fwd",
    outputs: &["y"],
    inputs: &["x"],
    sizes: &["n", "kind"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let apply = match call.size("kind") {
            0 => cpu::gelu,
            1 => cpu::gelu_tanh,
            _ => cpu::relu,
        };
        let (y, x) = (call.out::<f32>("y"), call.input::<f32>("x"));
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| apply(y, x));
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("activation_fwd", wide_blocks(call, call.size("n")), 256)]),
};

static BACKWARD: Kernel = Kernel {
    name: "activation_bwd",
    outputs: &["dx"],
    inputs: &["dy", "x"],
    sizes: &["n", "kind", "accumulate"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let apply = match call.size("kind") {
            0 => cpu::gelu_backward,
            1 => cpu::gelu_tanh_backward,
            _ => cpu::relu_backward,
        };
        let accumulate = call.size("accumulate") == 1;
        let (dx, dy, x) = (call.out::<f32>("dx"), call.input::<f32>("dy"), call.input::<f32>("x"));
        (dx.par_chunks_mut(CHUNK), dy.par_chunks(CHUNK), x.par_chunks(CHUNK)).into_par_iter().for_each(
            |(dx, dy, x)| {
                if !accumulate {
                    dx.fill(0.0);
                }
                apply(dx, dy, x);
            },
        );
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("activation_bwd", wide_blocks(call, call.size("n")), 256)]),
};

/// Elements one task handles: three operands stay in the first-level cache.
const CHUNK: usize = 1 << 11;

/// y = f(x).
pub fn activation(tape: &Tape, x: &Tensor, kind: Activation) -> Result<Tensor> {
    let y = x.like(x.shape())?;
    let n = x.len();
    Launch::of(&FORWARD)
        .output("y", &y)
        .input("x", x)
        .size("n", n)
        .size("kind", kind as usize)
        .flops(12 * n as u64)
        .exponentials(n as u64)
        .run(x.device())?;
    let saved = x.clone();
    Ok(tape.record(&[x], y, move |dy, gradients| {
        let Some(dx) = gradients.slot(&saved)? else {
            return Ok(());
        };
        Launch::of(&BACKWARD)
            .gradient("dx", "accumulate", Some(&dx))
            .input("dy", &dy)
            .input("x", &saved)
            .size("n", n)
            .size("kind", kind as usize)
            .flops(20 * n as u64)
            .exponentials(2 * n as u64)
            .run(dy.device())
    }))
}
