//! Dropout: y = x * mask / (1 - p), the mask a pure function of (seed, stream, element).
//!
//! Shapes: x, y `[..]`. Saved: nothing, the mask is recomputed (Philox4x32-10, Salmon et al. 2011).

use super::{Gradient, OpSpec};
use crate::device::cpu::philox;
use crate::device::{CpuCall, Gpu, Kernel, Pass};
use crate::error::Result;
use crate::tape::{Dropout, Tape};
use crate::tensor::{Launch, Tensor};
use rayon::prelude::*;

pub static OP: OpSpec = OpSpec { name: "dropout", gradient: Gradient::Recorded, kernels: &[&APPLY] };

static APPLY: Kernel = Kernel {
    name: "dropout_fwd",
    outputs: &["y"],
    inputs: &["x", "randomness"],
    sizes: &["n", "site"],
    scalars: &["p"],
    cpu: |call: &mut CpuCall| {
        let mask = philox::Mask::of_site(call.input("randomness"), call.size("site"), call.scalar("p"));
        let (y, x) = (call.out::<f32>("y"), call.input::<f32>("x"));
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(chunk, (y, x))| {
            y.copy_from_slice(x);
            mask.apply(y, (chunk * CHUNK) as u64);
        });
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("dropout_fwd", call.size("n").div_ceil(1024), 256)]),
};

/// Elements one task handles.
const CHUNK: usize = 1 << 13;

/// y = dropout(x); x itself when dropout is off.
pub fn dropout(tape: &Tape, x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    if dropout.is_off() {
        return Ok(x.clone());
    }
    let y = masked(x, &dropout)?;
    let input = x.clone();
    Ok(tape.record(&[x], y, move |dy, gradients| {
        // The mask is linear: its gradient is itself.
        let dx = masked(&dy, &dropout)?;
        gradients.add(&input, dx)
    }))
}

fn masked(x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
    let y = x.like(x.shape())?;
    Launch::of(&APPLY)
        .output("y", &y)
        .input("x", x)
        .input("randomness", dropout.randomness.as_ref())
        .size("n", x.len())
        .size("site", dropout.site.into())
        .scalar("p", dropout.p)
        .flops(x.len() as u64)
        .run(x.device())?;
    Ok(y)
}
