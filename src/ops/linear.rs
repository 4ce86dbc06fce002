//! Affine map of the last dimension: y = x Wᵀ + b.
//!
//! Shapes: x `[.., I]`, W `[O, I]` (as in torch.nn.Linear), b `[O]`, y `[.., O]`. Saved: x.
//! Backward: dx = dy W, dW = dyᵀ x, db = sum of dy over rows; on a GPU from partial sums `[parts, O]`.

use super::{Gradient, OpSpec, wide};
use crate::device::cpu::vector;
use crate::device::{CpuCall, Gpu, Kernel, Pass};
use crate::error::{Error, Result};
use crate::tape::Tape;
use crate::tensor::int8::Int8;
use crate::tensor::matmul::{Form, MATMUL, Planes, Product, matmul, matmul_bias, matmul_planes};
use crate::tensor::{Launch, Tensor};
use rayon::prelude::*;

pub static OP: OpSpec =
    OpSpec { name: "linear", gradient: Gradient::Recorded, kernels: &[&MATMUL, &BACKWARD_BIAS] };

static BACKWARD_BIAS: Kernel = Kernel {
    name: "linear_bwd_bias",
    outputs: &["db", "partial"],
    inputs: &["dy"],
    sizes: &["N", "O", "parts", "accumulate"],
    scalars: &[],
    cpu: backward_bias_cpu,
    gpu: Gpu::Passes(|call| {
        let [o, parts] = call.sizes(["O", "parts"]);
        let wide = wide(call);
        let columns =
            Pass::new("linear_bwd_bias", o.div_ceil(32 * wide), 256).y(parts).shared(256 * wide * 4);
        vec![columns, Pass::new("linear_bwd_bias_sum", o.div_ceil(32), 512).shared(4 * 512)]
    }),
};

/// y = x Wᵀ (+ b).
pub fn linear(tape: &Tape, x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let [o, i] = w.shape().dims2("linear")?;
    let n = x.shape().rows();
    if x.shape().last() != i || b.is_some_and(|b| b.len() != o) {
        return Err(Error::shape("linear", format!("[.., {i}] for a weight {}", w.shape()), x.shape()));
    }
    let y = x.like(x.shape().with_last(o))?;
    let forward = Product { a: x, b: w, form: Form::RightTransposed, m: n, n: o, k: i };
    matmul_bias(&y, forward, b)?;
    Ok(record(tape, x, w, b, y))
}

/// y = x Wᵀ (+ b) with a weight in 8 bits, which no gradient passes.
pub fn linear_int8(tape: &Tape, x: &Tensor, w: &Int8, b: Option<&Tensor>) -> Result<Tensor> {
    if tape.is_recording() {
        return Err(Error::internal("a weight in 8 bits has no gradient"));
    }
    let [o, _] = w.values.shape().dims2("linear")?;
    let y = x.like(x.shape().with_last(o))?;
    w.product(&y, o, x, b)?;
    Ok(y)
}

/// y_p = x W_pᵀ + b_p of several layers over one input, `[.., O]` each.
///
/// Weights of one shape at equal distances, as the parameters of alike layers lie, are one product.
pub fn linears(tape: &Tape, x: &Tensor, layers: &[(&Tensor, Option<&Tensor>)]) -> Result<Vec<Tensor>> {
    let weights: Vec<&Tensor> = layers.iter().map(|(w, _)| *w).collect();
    let biases: Option<Vec<&Tensor>> = layers.iter().map(|(_, b)| *b).collect();
    let none = layers.iter().all(|(_, b)| b.is_none());
    let spaced_biases = biases.as_deref().and_then(Tensor::spaced);
    let (Some((w, b_step)), true) = (Tensor::spaced(&weights), none || spaced_biases.is_some()) else {
        return layers.iter().map(|(w, b)| linear(tape, x, w, *b)).collect();
    };
    let [o, i] = weights[0].shape().dims2("linear")?;
    let (n, count) = (x.shape().rows(), layers.len());
    if x.shape().last() != i
        || spaced_biases.as_ref().is_some_and(|_| layers[0].1.is_some_and(|b| b.len() != o))
    {
        return Err(Error::shape("linear", format!("[.., {i}] for weights [{o}, {i}]"), x.shape()));
    }
    let y = x.like([count, n, o])?;
    let (bias, bias_step) = spaced_biases.map_or((None, 0), |(bias, step)| (Some(bias), step));
    let product = Product { a: x, b: &w, form: Form::RightTransposed, m: n, n: o, k: i };
    matmul_planes(&y, product, bias.as_ref(), Planes { count, b_step, bias_step })?;
    let planes = layers.iter().enumerate().map(|(p, (w, b))| {
        let plane = y.slice(p * n * o, x.shape().with_last(o))?;
        Ok(record(tape, x, w, *b, plane))
    });
    planes.collect()
}

/// y with the gradients of x, W and b recorded.
fn record(tape: &Tape, x: &Tensor, w: &Tensor, b: Option<&Tensor>, y: Tensor) -> Tensor {
    let inputs: Vec<&Tensor> = [Some(x), Some(w), b].into_iter().flatten().collect();
    let (x, w, b) = (x.clone(), w.clone(), b.cloned());
    tape.record(&inputs, y, move |dy, gradients| {
        let (n, [o, i]) = (x.shape().rows(), w.shape().dims2("linear")?);
        if let Some(dx) = gradients.slot(&x)? {
            let product = Product { a: &dy, b: &w, form: Form::Plain, m: n, n: i, k: o };
            matmul(&dx.tensor, product, dx.accumulate)?;
        }
        if let Some(dw) = gradients.slot(&w)? {
            let product = Product { a: &dy, b: &x, form: Form::LeftTransposed, m: o, n: i, k: n };
            matmul(&dw.tensor, product, dw.accumulate)?;
        }
        let Some(b) = b else { return Ok(()) };
        let Some(db) = gradients.slot(&b)? else {
            return Ok(());
        };
        // Fixed by the rows, so that the bits do not depend on the GPU. Enough blocks for one of 132 processors also
        // where O is small, and eight rows to a warp, so that the partial sums are little beside what was read.
        let parts = n.div_ceil(64).clamp(1, 256);
        Launch::of(&BACKWARD_BIAS)
            .gradient("db", "accumulate", Some(&db))
            .output("partial", &dy.like_f32([parts, o])?)
            .input("dy", &dy)
            .size("N", n)
            .size("O", o)
            .size("parts", parts)
            .flops((n * o) as u64)
            .run(dy.device())
    })
}

/// Rows one task sums; fixed, so that the bits do not depend on the threads.
const ROWS: usize = 64;

fn backward_bias_cpu(call: &mut CpuCall) {
    let [o, accumulate] = call.sizes(["O", "accumulate"]);
    let (db, dy) = (call.out::<f32>("db"), call.input::<f32>("dy"));
    let partials: Vec<Vec<f32>> = dy
        .par_chunks(ROWS * o)
        .map(|rows| {
            let mut sum = vec![0.0; o];
            rows.chunks(o).for_each(|row| vector::add_assign(&mut sum, row));
            sum
        })
        .collect();
    if accumulate == 0 {
        db.fill(0.0);
    }
    partials.iter().for_each(|partial| vector::add_assign(db, partial));
}
