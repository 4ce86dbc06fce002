//! Attention of LED's global rows without projecting every token to keys and values.
//!
//! With few global tokens the projections move to the other side of the sums: with u = scale Wkᵀ q,
//! a score is u·x (the key bias shifts a row's scores equally, so it cancels), and with
//! z = sum of p x, the output is Wv z + bv. That replaces 4 B S C² FLOPs by 8 B G H S C.
//! Shapes: x `[B, S, C]`, q `[B, G, C]`, Wk Wv `[C, C]`, bv `[C]`, key_state `[B, S]` i32 (0 masked),
//! o `[B, G, C]`; inside, with R = G*H rows (g, h), u and z `[B, R, C]`, scores `[B, R, S]`; on a GPU sums
//! over the tokens of one of P splits, part_z and part_du `[B, P, R, C]`, part_max and part_sum `[B, P, R]`.
//! Saved: x, q, u, z, lse, scores. HF LEDEncoderSelfAttention, `_compute_global_attn_output_from_hidden`.

use super::{Gradient, OpSpec};
use crate::device::cpu::gemm::{Matrix, Size, Store, gemm};
use crate::device::cpu::{softmax, vector};
use crate::device::{Call, CpuCall, Gpu, Kernel, Pass};
use crate::error::{Error, Result};
use crate::tape::Tape;
use crate::tensor::{Launch, Tensor};
use rayon::prelude::*;

pub static OP: OpSpec =
    OpSpec { name: "global_attention", gradient: Gradient::Recorded, kernels: &[&FORWARD, &BACKWARD] };

static FORWARD: Kernel = Kernel {
    name: "global_attention_fwd",
    outputs: &["o", "u", "z", "lse", "scores", "part_z", "part_max", "part_sum"],
    inputs: &["q", "x", "wk", "wv", "bv", "key_state"],
    sizes: &["B", "G", "S", "H", "D", "P"],
    scalars: &["scale"],
    cpu: forward_cpu,
    gpu: Gpu::Passes(|call| {
        let on = Grids::of(call);
        vec![
            on.projection("global_attention_fwd"),
            on.scores("global_attention_fwd_scores"),
            on.values("global_attention_fwd_values"),
            Pass::new("global_attention_fwd_z", on.c.div_ceil(32), 512)
                .y(on.rows)
                .z(on.b)
                .shared(4 * (512 + on.splits)),
            Pass::new("global_attention_fwd_o", on.c.div_ceil(4), 128).y(on.queries),
        ]
    }),
};

static BACKWARD: Kernel = Kernel {
    name: "global_attention_bwd",
    outputs: &["dq", "dx", "dwk", "dwv", "dbv", "du", "dz", "dp", "mean", "part_du"],
    inputs: &["d_o", "q", "x", "u", "z", "lse", "scores", "wk", "wv", "key_state"],
    sizes: &["B", "G", "S", "H", "D", "P", "add_q", "add_x", "add_wk", "add_wv", "add_bv"],
    scalars: &["scale"],
    cpu: backward_cpu,
    gpu: Gpu::Passes(|call| {
        let on = Grids::of(call);
        let mut passes = vec![
            on.projection("global_attention_bwd"),
            on.scores("global_attention_bwd_scores"),
            on.values("global_attention_bwd_values"),
            Pass::new("global_attention_bwd_du", (on.rows * on.c).div_ceil(32), 512).y(on.b).shared(4 * 512),
            Pass::new("global_attention_bwd_weights", on.c, 128),
        ];
        // The gradient of x may not be wanted.
        if call.output("dx").len > 0 {
            let dx = Pass::new("global_attention_bwd_dx", on.c.div_ceil(128), 128);
            passes.push(dx.y(on.s.div_ceil(16)).z(on.b).shared(4 * 2 * 16 * 16));
        }
        passes
    }),
};

/// Grids that the forward and the backward share.
struct Grids {
    b: usize,
    queries: usize,
    rows: usize,
    s: usize,
    h: usize,
    d: usize,
    c: usize,
    splits: usize,
}

impl Grids {
    fn of(call: &Call) -> Self {
        let [b, g, s, h, d, splits] = call.sizes(["B", "G", "S", "H", "D", "P"]);
        Grids { b, queries: b * g, rows: g * h, s, h, d, c: h * d, splits }
    }

    /// u and dz: head by head, eight queries at a time.
    fn projection(&self, entry: &'static str) -> Pass {
        let queries = self.queries.div_ceil(8);
        Pass::new(entry, self.c.div_ceil(128), 128).y(self.h).z(queries).shared(4 * 8 * self.d)
    }

    /// Products with x: tiles of at most 16 rows that any GPU's shared memory holds.
    fn scores(&self, entry: &'static str) -> Pass {
        let row_bytes = 4 * self.c.next_multiple_of(4);
        let tiles = self.rows.div_ceil(((99 << 10) / row_bytes).clamp(1, 16));
        let shared = self.rows.div_ceil(tiles) * row_bytes;
        // A warp has four tokens; few tokens are spread over more blocks.
        let warps = if self.s <= 4096 { 4 } else { 8 };
        let blocks = self.s.div_ceil(4 * warps).min(264);
        Pass::new(entry, blocks, 32 * warps as u32).y(tiles).z(self.b).shared(shared)
    }

    /// Weighted sums of x: 20 floats of shared memory for each token of a split.
    fn values(&self, entry: &'static str) -> Pass {
        let shared = 4 * 20 * self.s.div_ceil(self.splits);
        let tiles = self.rows.div_ceil(16);
        Pass::new(entry, self.c.div_ceil(256), 128).y(self.splits).z(self.b * tiles).shared(shared)
    }
}

/// Parts of the tokens that are summed apart; fixed by S, so that the bits do not depend on the GPU.
fn splits(s: usize) -> usize {
    s.div_ceil(32).clamp(1, 128)
}

/// The global projections of one layer.
#[derive(Clone)]
pub struct Projections {
    /// `[C, C]`.
    pub key: Tensor,
    /// `[C, C]`.
    pub value: Tensor,
    /// `[C]`.
    pub value_bias: Tensor,
}

/// o `[B, G, C]` for projected queries q `[B, G, C]` over all unmasked rows of x `[B, S, C]`.
pub fn global_attention(
    tape: &Tape,
    q: &Tensor,
    x: &Tensor,
    w: &Projections,
    key_state: &Tensor,
    heads: usize,
) -> Result<Tensor> {
    let [b, s, c] = x.shape().dims3("global_attention")?;
    let [q_b, g, q_c] = q.shape().dims3("global_attention")?;
    if q_b != b || q_c != c || key_state.len() != b * s || !c.is_multiple_of(heads) {
        return Err(Error::shape("global_attention", format!("queries [{b}, G, {c}]"), q.shape()));
    }
    let square = |w: &Tensor| w.shape() == [c, c].into();
    if !square(&w.key) || !square(&w.value) || w.value_bias.len() != c {
        return Err(Error::shape("global_attention", format!("projections [{c}, {c}]"), w.key.shape()));
    }
    let splits = splits(s);
    let sizes = [("B", b), ("G", g), ("S", s), ("H", heads), ("D", c / heads), ("P", splits)];
    let scale = 1.0 / ((c / heads) as f32).sqrt();
    let rows = g * heads;
    let o = q.like([b, g, c])?;
    let (u, z) = (x.like_f32([b, rows, c])?, x.like_f32([b, rows, c])?);
    let (lse, scores) = (x.like_f32([b, rows])?, x.like_f32([b, rows, s])?);
    let pass = 2 * (b * rows * s * c) as u64;
    Launch::of(&FORWARD)
        .output("o", &o)
        .output("u", &u)
        .output("z", &z)
        .output("lse", &lse)
        .output("scores", &scores)
        .output("part_z", &x.like_f32([b, splits, rows, c])?)
        .output("part_max", &x.like_f32([b, splits, rows])?)
        .output("part_sum", &x.like_f32([b, splits, rows])?)
        .input("q", q)
        .input("x", x)
        .input("wk", &w.key)
        .input("wv", &w.value)
        .input("bv", &w.value_bias)
        .input("key_state", key_state)
        .sizes(sizes)
        .scalar("scale", scale)
        .flops(2 * pass + 4 * (b * g * c * c) as u64)
        .exponentials((b * rows * s) as u64)
        .run(x.device())?;
    let (q_in, x_in, w_in, key_state) = (q.clone(), x.clone(), w.clone(), key_state.clone());
    Ok(tape.record(&[q, x, &w.key, &w.value, &w.value_bias], o, move |d_o, gradients| {
        let dq = gradients.slot(&q_in)?;
        let dx = gradients.slot(&x_in)?;
        let dwk = gradients.slot(&w_in.key)?;
        let dwv = gradients.slot(&w_in.value)?;
        let dbv = gradients.slot(&w_in.value_bias)?;
        let x = &x_in;
        Launch::of(&BACKWARD)
            .gradient("dq", "add_q", dq.as_ref())
            .gradient("dx", "add_x", dx.as_ref())
            .gradient("dwk", "add_wk", dwk.as_ref())
            .gradient("dwv", "add_wv", dwv.as_ref())
            .gradient("dbv", "add_bv", dbv.as_ref())
            .output("du", &x.like_f32([b, rows, c])?)
            .output("dz", &x.like_f32([b, rows, c])?)
            .output("dp", &x.like_f32([b, rows, s])?)
            .output("mean", &x.like_f32([b, rows])?)
            .output("part_du", &x.like_f32([b, splits, rows, c])?)
            .input("d_o", &d_o)
            .input("q", &q_in)
            .input("x", x)
            .input("u", &u)
            .input("z", &z)
            .input("lse", &lse)
            .input("scores", &scores)
            .input("wk", &w_in.key)
            .input("wv", &w_in.value)
            .input("key_state", &key_state)
            .sizes(sizes)
            .scalar("scale", scale)
            .flops(4 * pass + 8 * (b * g * c * c) as u64)
            .exponentials((b * rows * s) as u64)
            .run(d_o.device())
    }))
}

/// scores = u·x of one sample, -inf where a key is masked.
fn masked_scores(scores: &mut [f32], u: &[f32], x: &[f32], keys: &[i32], c: usize) {
    let s = keys.len();
    let size = Size { m: u.len() / c, n: s, k: c };
    gemm(scores, s, Matrix::rows(u, c), Matrix::transposed(x, c), size, 1.0, Store::Assign);
    scores.par_chunks_mut(s).for_each(|row| {
        for (score, &key) in row.iter_mut().zip(keys) {
            if key == 0 {
                *score = f32::NEG_INFINITY;
            }
        }
    });
}

fn forward_cpu(call: &mut CpuCall) {
    let [b, g, s, h, d] = call.sizes(["B", "G", "S", "H", "D"]);
    let (c, rows, scale) = (h * d, g * h, call.scalar("scale"));
    let (o, u, z) = (call.out::<f32>("o"), call.out::<f32>("u"), call.out::<f32>("z"));
    let (lse, scores) = (call.out::<f32>("lse"), call.out::<f32>("scores"));
    let (q, x) = (call.input::<f32>("q"), call.input::<f32>("x"));
    let (wk, wv, bv) = (call.input::<f32>("wk"), call.input::<f32>("wv"), call.input::<f32>("bv"));
    let keys = call.input::<i32>("key_state");
    let mut p = vec![0.0f32; rows * s];
    for b in 0..b {
        let (q, o) = (&q[b * g * c..][..g * c], &mut o[b * g * c..][..g * c]);
        let x = &x[b * s * c..][..s * c];
        let (u, z) = (&mut u[b * rows * c..][..rows * c], &mut z[b * rows * c..][..rows * c]);
        // Head by head: rows (g, h) of u take D rows of Wk.
        for head in 0..h {
            let (q, wk) = (&q[head * d..], &wk[head * d * c..]);
            let size = Size { m: g, n: c, k: d };
            gemm(&mut u[head * c..], h * c, strided(q, c), Matrix::rows(wk, c), size, scale, Store::Assign);
        }
        let scores = &mut scores[b * rows * s..][..rows * s];
        masked_scores(scores, u, x, &keys[b * s..][..s], c);
        let lse = &mut lse[b * rows..][..rows];
        (p.par_chunks_mut(s), scores.par_chunks(s), lse).into_par_iter().for_each(|(p, scores, lse)| {
            *lse = softmax::log_sum_exp(scores);
            softmax::softmax_row(p, scores, *lse);
        });
        let size = Size { m: rows, n: c, k: s };
        gemm(z, c, Matrix::rows(&p, s), Matrix::rows(x, c), size, 1.0, Store::Assign);
        for row in o.chunks_mut(c) {
            row.copy_from_slice(bv);
        }
        for head in 0..h {
            let (z, wv) = (&z[head * c..], &wv[head * d * c..]);
            let size = Size { m: g, n: d, k: c };
            gemm(&mut o[head * d..], c, strided(z, h * c), Matrix::transposed(wv, c), size, 1.0, Store::Add);
        }
    }
}

fn backward_cpu(call: &mut CpuCall) {
    let [b, g, s, h, d] = call.sizes(["B", "G", "S", "H", "D"]);
    let (c, rows, scale) = (h * d, g * h, call.scalar("scale"));
    let gradients =
        [("dq", "add_q"), ("dx", "add_x"), ("dwk", "add_wk"), ("dwv", "add_wv"), ("dbv", "add_bv")];
    let [dq, dx, dwk, dwv, dbv] = gradients.map(|(name, add)| {
        let out = call.out::<f32>(name);
        if call.size(add) == 0 {
            out.par_chunks_mut(1 << 15).for_each(|part| part.fill(0.0));
        }
        out
    });
    let [du, dz, dp] = ["du", "dz", "dp"].map(|name| call.out::<f32>(name));
    let (du, dz, dp) = (&mut du[..rows * c], &mut dz[..rows * c], &mut dp[..rows * s]);
    let (d_o, q, x) = (call.input::<f32>("d_o"), call.input::<f32>("q"), call.input::<f32>("x"));
    let (u, z, lse) = (call.input::<f32>("u"), call.input::<f32>("z"), call.input::<f32>("lse"));
    let (scores, wk, wv) = (call.input::<f32>("scores"), call.input::<f32>("wk"), call.input::<f32>("wv"));
    let mut p = vec![0.0f32; rows * s];
    for b in 0..b {
        let (d_o, q) = (&d_o[b * g * c..][..g * c], &q[b * g * c..][..g * c]);
        let x = &x[b * s * c..][..s * c];
        let (u, z) = (&u[b * rows * c..][..rows * c], &z[b * rows * c..][..rows * c]);
        for head in 0..h {
            let (d_o, z) = (&d_o[head * d..], &z[head * c..]);
            let wv = &wv[head * d * c..];
            let size = Size { m: g, n: c, k: d };
            gemm(&mut dz[head * c..], h * c, strided(d_o, c), Matrix::rows(wv, c), size, 1.0, Store::Assign);
            if !dwv.is_empty() {
                let size = Size { m: d, n: c, k: g };
                let left = transposed(d_o, c);
                gemm(&mut dwv[head * d * c..], c, left, strided(z, h * c), size, 1.0, Store::Add);
            }
        }
        if !dbv.is_empty() {
            d_o.chunks(c).for_each(|row| vector::add_assign(dbv, row));
        }
        p.copy_from_slice(&scores[b * rows * s..][..rows * s]);
        let size = Size { m: rows, n: s, k: c };
        gemm(dp, s, Matrix::rows(dz, c), Matrix::transposed(x, c), size, 1.0, Store::Assign);
        let lse = &lse[b * rows..][..rows];
        (p.par_chunks_mut(s), dp.par_chunks_mut(s), lse, z.par_chunks(c), dz.par_chunks(c))
            .into_par_iter()
            .for_each(|(p, dp, &lse, z, dz)| {
                softmax::softmax_row_in_place(p, lse, 1.0, 0.0);
                // sum of p dp = z·dz, because z = sum of p x.
                let mean = vector::dot(z, dz);
                dp.iter_mut().zip(p.iter()).for_each(|(dp, p)| *dp = p * (*dp - mean));
            });
        let size = Size { m: rows, n: c, k: s };
        gemm(du, c, Matrix::rows(dp, s), Matrix::rows(x, c), size, 1.0, Store::Assign);
        if !dx.is_empty() {
            let dx = &mut dx[b * s * c..][..s * c];
            let size = Size { m: s, n: c, k: rows };
            gemm(dx, c, Matrix::transposed(&p, s), Matrix::rows(dz, c), size, 1.0, Store::Add);
            gemm(dx, c, Matrix::transposed(dp, s), Matrix::rows(u, c), size, 1.0, Store::Add);
        }
        for head in 0..h {
            let (du, q) = (&du[head * c..], &q[head * d..]);
            if !dq.is_empty() {
                let size = Size { m: g, n: d, k: c };
                let out = &mut dq[b * g * c + head * d..];
                let right = Matrix::transposed(&wk[head * d * c..], c);
                gemm(out, c, strided(du, h * c), right, size, scale, Store::Add);
            }
            if !dwk.is_empty() {
                let size = Size { m: d, n: c, k: g };
                let left = transposed(q, c);
                gemm(&mut dwk[head * d * c..], c, left, strided(du, h * c), size, scale, Store::Add);
            }
        }
    }
}

/// Row-major rows that are `stride` elements apart.
fn strided(data: &[f32], stride: usize) -> Matrix<'_> {
    Matrix { data, row_stride: stride, column_stride: 1 }
}

/// The transpose of [`strided`].
fn transposed(data: &[f32], stride: usize) -> Matrix<'_> {
    Matrix { data, row_stride: 1, column_stride: stride }
}
