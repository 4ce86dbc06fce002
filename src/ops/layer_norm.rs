//! Layer normalisation, with residual add and dropout fused in front.
//!
//! s = x + dropout(a); y = (s - mean(s)) / sqrt(var(s) + eps) * w + b, over the last dimension.
//! Shapes: x, a, s, y `[.., C]`; w, b `[C]`. Saved for backward: s, mean `[N]`, rstd `[N]`.
//! Backward, on a GPU: partial sums of dw and db `[parts, 2, C]`.
//! Ba et al. 2016, arXiv 1607.06450; variance in two passes.

use super::{Gradient, OpSpec};
use crate::device::cpu::norm::{self, RowStatistics};
use crate::device::cpu::{philox, vector};
use crate::device::{CpuCall, Gpu, Kernel, Pass};
use crate::error::{Error, Result};
use crate::tape::{Dropout, Gradients, Tape};
use crate::tensor::{Launch, Tensor};
use rayon::prelude::*;

pub static OP: OpSpec =
    OpSpec { name: "layer_norm", gradient: Gradient::Recorded, kernels: &[&FORWARD, &BACKWARD] };

static FORWARD: Kernel = Kernel {
    name: "layer_norm_fwd",
    outputs: &["s", "y", "mean", "rstd"],
    inputs: &["x", "a", "w", "b", "randomness"],
    sizes: &["N", "C", "site"],
    scalars: &["eps", "p"],
    cpu: forward_cpu,
    gpu: Gpu::Passes(|call| vec![Pass::new("layer_norm_fwd", call.size("N").div_ceil(4), 128)]),
};

static BACKWARD: Kernel = Kernel {
    name: "layer_norm_bwd",
    outputs: &["ds", "da", "dw", "db", "partial"],
    inputs: &["dy", "ds_residual", "s", "mean", "rstd", "w", "randomness"],
    sizes: &["N", "C", "accumulate_w", "accumulate_b", "site", "parts"],
    scalars: &["p"],
    cpu: backward_cpu,
    gpu: Gpu::Passes(|call| {
        let (c, parts) = (call.size("C"), call.size("parts"));
        let warps = warps(c);
        let rows = Pass::new("layer_norm_bwd", parts, 32 * warps as u32).shared(sum_bytes(c) * warps);
        let sum = Pass::new("layer_norm_bwd_sum", (2 * c).div_ceil(32), 512).shared(4 * 512);
        match call.output("partial").len {
            0 => vec![rows],
            _ => vec![rows, sum],
        }
    }),
};

/// Bytes of a warp's sums of dw and of db in shared memory.
fn sum_bytes(c: usize) -> usize {
    2 * 4 * c.next_multiple_of(8)
}

/// Warps of a block of the backward: as many as any GPU has room for the sums of, up to 4.
fn warps(c: usize) -> usize {
    ((99 << 10) / sum_bytes(c).max(1)).clamp(1, 4)
}

/// Partial sums of dw and db; fixed by N, so that the bits do not depend on the GPU.
fn parts(n: usize) -> usize {
    n.div_ceil(8).clamp(1, 512)
}

/// Weight and bias `[C]`, and the variance floor.
#[derive(Clone)]
pub struct Affine {
    pub w: Tensor,
    pub b: Tensor,
    pub eps: f32,
}

/// y = LN(x).
pub fn layer_norm(tape: &Tape, x: &Tensor, affine: &Affine) -> Result<Tensor> {
    let out = forward(x, None, &Dropout::OFF, affine)?;
    let (y, saved, input, params) = (out.y.clone(), out, x.clone(), affine.clone());
    Ok(tape.record(&[x, &affine.w, &affine.b], y, move |dy, gradients| {
        let (ds, _) = backward(&dy, None, &saved, &params, &Dropout::OFF, gradients)?;
        gradients.add(&input, ds)
    }))
}

/// s = x + dropout(a) and y = LN(s); pre-norm models use both, post-norm ones y.
pub fn residual_layer_norm(
    tape: &Tape,
    x: &Tensor,
    a: &Tensor,
    dropout: Dropout,
    affine: &Affine,
) -> Result<(Tensor, Tensor)> {
    x.same_shape("layer_norm", a)?;
    let out = forward(x, Some(a), &dropout, affine)?;
    let pair = (out.s.clone(), out.y.clone());
    let (saved, params, residual, branch) = (out, affine.clone(), x.clone(), a.clone());
    let inputs = [x, a, &affine.w, &affine.b];
    Ok(tape.record_pair(&inputs, pair, move |ds_residual, dy, gradients| {
        let dy = dy.ok_or_else(|| Error::internal("layer_norm: y was never used"))?;
        let (ds, da) = backward(&dy, ds_residual.as_ref(), &saved, &params, &dropout, gradients)?;
        drop((dy, ds_residual, saved));
        gradients.add(&branch, da.unwrap_or_else(|| ds.clone()))?;
        gradients.add(&residual, ds)
    }))
}

struct Saved {
    s: Tensor,
    y: Tensor,
    mean: Tensor,
    rstd: Tensor,
}

fn forward(x: &Tensor, a: Option<&Tensor>, dropout: &Dropout, affine: &Affine) -> Result<Saved> {
    let (n, c) = (x.shape().rows(), x.shape().last());
    if affine.w.len() != c || affine.b.len() != c {
        return Err(Error::shape("layer_norm", format!("weight and bias [{c}]"), affine.w.shape()));
    }
    let saved = Saved {
        s: match a {
            Some(_) => x.like(x.shape())?,
            None => x.clone().with_node(None),
        },
        y: x.like(x.shape())?,
        mean: x.like_f32([n])?,
        rstd: x.like_f32([n])?,
    };
    Launch::of(&FORWARD)
        .output("s", a.map(|_| &saved.s))
        .output("y", &saved.y)
        .output("mean", &saved.mean)
        .output("rstd", &saved.rstd)
        .input("x", x)
        .input("a", a)
        .input("w", &affine.w)
        .input("b", &affine.b)
        .input("randomness", dropout.randomness.as_ref())
        .size("N", n)
        .size("C", c)
        .size("site", dropout.site.into())
        .scalar("eps", affine.eps)
        .scalar("p", dropout.p)
        .flops(8 * x.len() as u64)
        .run(x.device())?;
    Ok(saved)
}

/// d(s), and d(a) where dropout makes it differ; adds to the gradients of w and b.
fn backward(
    dy: &Tensor,
    ds_residual: Option<&Tensor>,
    saved: &Saved,
    affine: &Affine,
    dropout: &Dropout,
    gradients: &mut Gradients,
) -> Result<(Tensor, Option<Tensor>)> {
    let ds = dy.like(dy.shape())?;
    let da = match dropout.is_off() {
        true => None,
        false => Some(dy.like(dy.shape())?),
    };
    let (dw, db) = (gradients.slot(&affine.w)?, gradients.slot(&affine.b)?);
    let (n, c) = (dy.shape().rows(), dy.shape().last());
    let partial = match dw.is_some() || db.is_some() {
        true => Some(dy.like_f32([parts(n), 2, c])?),
        false => None,
    };
    Launch::of(&BACKWARD)
        .output("ds", &ds)
        .output("da", da.as_ref())
        .gradient("dw", "accumulate_w", dw.as_ref())
        .gradient("db", "accumulate_b", db.as_ref())
        .output("partial", partial.as_ref())
        .input("dy", dy)
        .input("ds_residual", ds_residual)
        .input("s", &saved.s)
        .input("mean", &saved.mean)
        .input("rstd", &saved.rstd)
        .input("w", &affine.w)
        .input("randomness", dropout.randomness.as_ref())
        .size("N", n)
        .size("C", c)
        .size("site", dropout.site.into())
        .size("parts", parts(n))
        .scalar("p", dropout.p)
        .flops(12 * dy.len() as u64)
        .run(dy.device())?;
    Ok((ds, da))
}

/// Rows one task handles; fixed, so that reductions do not depend on the number of threads.
const ROWS: usize = 32;

fn forward_cpu(call: &mut CpuCall) {
    let [n, c] = call.sizes(["N", "C"]);
    let (s, y) = (call.out::<f32>("s"), call.out::<f32>("y"));
    let (mean, rstd) = (call.out::<f32>("mean"), call.out::<f32>("rstd"));
    let (x, a) = (call.input::<f32>("x"), call.input::<f32>("a"));
    let (w, b) = (call.input::<f32>("w"), call.input::<f32>("b"));
    let eps = call.scalar("eps");
    let mask = philox::Mask::of_site(call.input("randomness"), call.size("site"), call.scalar("p"));
    debug_assert_eq!(x.len(), n * c);
    // An absent `s` still needs one chunk per task to zip with.
    let s_chunk = if s.is_empty() { 0 } else { ROWS * c };
    let s_rows = chunks_or_empty(s, s_chunk, n.div_ceil(ROWS));
    (s_rows, y.par_chunks_mut(ROWS * c), mean.par_chunks_mut(ROWS), rstd.par_chunks_mut(ROWS))
        .into_par_iter()
        .enumerate()
        .for_each(|(task, (s, y, mean, rstd))| {
            let first = task * ROWS;
            for row in 0..mean.len() {
                let at = (first + row) * c;
                let x_row = &x[at..at + c];
                let y_row = &mut y[row * c..(row + 1) * c];
                let statistics = if a.is_empty() {
                    norm::layer_norm_row(y_row, x_row, w, b, eps)
                } else {
                    let s_row = &mut s[row * c..(row + 1) * c];
                    s_row.copy_from_slice(&a[at..at + c]);
                    mask.apply(s_row, at as u64);
                    vector::add_assign(s_row, x_row);
                    norm::layer_norm_row(y_row, s_row, w, b, eps)
                };
                mean[row] = statistics.mean;
                rstd[row] = statistics.rstd;
            }
        });
}

fn backward_cpu(call: &mut CpuCall) {
    let [n, c, accumulate_w, accumulate_b] = call.sizes(["N", "C", "accumulate_w", "accumulate_b"]);
    let (ds, da) = (call.out::<f32>("ds"), call.out::<f32>("da"));
    let (dw, db) = (call.out::<f32>("dw"), call.out::<f32>("db"));
    let (dy, ds_residual) = (call.input::<f32>("dy"), call.input::<f32>("ds_residual"));
    let s = call.input::<f32>("s");
    let (mean, rstd) = (call.input::<f32>("mean"), call.input::<f32>("rstd"));
    let w = call.input::<f32>("w");
    let mask = philox::Mask::of_site(call.input("randomness"), call.size("site"), call.scalar("p"));
    let tasks = n.div_ceil(ROWS);
    let mut partials = vec![0.0f32; tasks * 2 * c];
    let da_chunk = if da.is_empty() { 0 } else { ROWS * c };
    let da_rows = chunks_or_empty(da, da_chunk, tasks);
    (ds.par_chunks_mut(ROWS * c), da_rows, partials.par_chunks_mut(2 * c))
        .into_par_iter()
        .enumerate()
        .for_each(|(task, (ds, da, partial))| {
            let (dw, db) = partial.split_at_mut(c);
            for (row, ds_row) in ds.chunks_mut(c).enumerate() {
                let i = task * ROWS + row;
                let at = i * c;
                match ds_residual.is_empty() {
                    true => ds_row.fill(0.0),
                    false => ds_row.copy_from_slice(&ds_residual[at..at + c]),
                }
                let statistics = RowStatistics { mean: mean[i], rstd: rstd[i] };
                norm::layer_norm_row_backward(ds_row, dw, db, &dy[at..at + c], &s[at..at + c], w, statistics);
                if !da.is_empty() {
                    let da_row = &mut da[row * c..(row + 1) * c];
                    da_row.copy_from_slice(ds_row);
                    mask.apply(da_row, at as u64);
                }
            }
        });
    for (out, accumulate, half) in [(dw, accumulate_w, 0), (db, accumulate_b, 1)] {
        if accumulate == 0 {
            out.fill(0.0);
        }
        if !out.is_empty() {
            for partial in partials.chunks(2 * c) {
                vector::add_assign(out, &partial[half * c..(half + 1) * c]);
            }
        }
    }
}

/// Chunks of `values`, or `count` empty ones for an absent argument.
fn chunks_or_empty(values: &mut [f32], chunk: usize, count: usize) -> Vec<&mut [f32]> {
    match chunk {
        0 => (0..count).map(|_| Default::default()).collect(),
        _ => values.chunks_mut(chunk).collect(),
    }
}
