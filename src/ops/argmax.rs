//! Index of the largest element of each row, the first one of equals; NaN is never chosen.
//!
//! Shapes: x `[N, V]`, y `[N]` i32. No gradient.

use super::{Gradient, OpSpec, row_threads};
use crate::device::{CpuCall, Gpu, Kernel, Pass};
use crate::error::Result;
use crate::shape::DType;
use crate::tape::Tape;
use crate::tensor::{Launch, Tensor};
use rayon::prelude::*;

const REASON: &str = "an index does not vary smoothly";

pub static OP: OpSpec = OpSpec { name: "argmax", gradient: Gradient::None(REASON), kernels: &[&FORWARD] };

static FORWARD: Kernel = Kernel {
    name: "argmax_fwd",
    outputs: &["y"],
    inputs: &["x"],
    sizes: &["N", "V"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let v = call.size("V");
        let (y, x) = (call.out::<i32>("y"), call.input::<f32>("x"));
        y.par_iter_mut().zip(x.par_chunks(v)).for_each(|(y, row)| {
            let mut best = (f32::NEG_INFINITY, 0);
            for (i, &value) in row.iter().enumerate() {
                if value > best.0 {
                    best = (value, i as i32);
                }
            }
            *y = best.1;
        });
    },
    gpu: Gpu::Passes(|call| {
        let threads = row_threads(call.size("V"));
        vec![Pass::new("argmax_fwd", call.size("N"), threads).shared(threads as usize / 32 * 8)]
    }),
};

/// `y[i] = argmax` over the last dimension.
pub fn argmax(tape: &Tape, x: &Tensor) -> Result<Tensor> {
    tape.no_gradient("argmax", REASON, &[x])?;
    let (n, v) = (x.shape().rows(), x.shape().last());
    let y = Tensor::empty(x.device(), [n], DType::I32)?;
    Launch::of(&FORWARD).output("y", &y).input("x", x).size("N", n).size("V", v).run(x.device())?;
    Ok(y)
}
