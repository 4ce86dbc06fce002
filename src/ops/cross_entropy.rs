//! Cross-entropy of a language-model head over slices of rows, with label smoothing.
//!
//! logits = h Eᵀ + bias; loss = sum over rows of (1-e) (lse - `logit[label]`) + e (lse - mean logit),
//! divided by `normaliser`. Shapes: h `[M, C]` (labelled rows only), E `[V, C]`, bias `[V]`, labels
//! `[M]` i32, normaliser and loss `[1]`. Saved: h, lse `[M]`, and the logits when they are a single
//! slice; otherwise the backward computes each slice again, so no more than a slice is ever held. The
//! rows of the logits are padded, so that each starts on 16 bytes whatever V is. The bias is a buffer
//! and gets no gradient (HF `final_logits_bias`).

use super::{Gradient, OpSpec, row_threads};
use crate::device::cpu::{softmax, vector};
use crate::device::{CpuCall, Gpu, Kernel, Pass, Precision};
use crate::error::{Error, Result};
use crate::tape::Tape;
use crate::tensor::int8::Int8;
use crate::tensor::matmul::{Form, MATMUL, Padded, Product, matmul_padded};
use crate::tensor::{Launch, Tensor};
use rayon::prelude::*;

pub static OP: OpSpec = OpSpec {
    name: "cross_entropy",
    gradient: Gradient::Recorded,
    kernels: &[&MATMUL, &ROWS, &SUM, &BACKWARD],
};

/// Rows of logits held at a time. Each slice reads and writes the whole gradient of the table once more, 309 MB at 50265
/// words of 768 channels, which takes a GPU three times as long as 256 rows' products of bf16; and beyond one slice all
/// logits are computed twice. In fp32, in which CPUs run, memory counts more.
pub fn slice(precision: Precision) -> usize {
    match precision {
        Precision::Fp32 => 256,
        _ => 2048,
    }
}

/// Elements from one row of the logits to the next: a multiple of 16 bytes in every storage type. The vocabularies of
/// LED and of Pegasus are odd, and cuBLASLt has its fast algorithms only for rows that start on 16 bytes.
fn pitch(v: usize) -> usize {
    v.next_multiple_of(8)
}

static ROWS: Kernel = Kernel {
    name: "cross_entropy_rows",
    outputs: &["row_loss", "lse"],
    inputs: &["logits", "labels"],
    sizes: &["M", "V", "pitch"],
    scalars: &["smoothing"],
    cpu: |call: &mut CpuCall| {
        let ([v, pitch], smoothing) = (call.sizes(["V", "pitch"]), call.scalar("smoothing"));
        let (row_loss, lse) = (call.out::<f32>("row_loss"), call.out::<f32>("lse"));
        let (logits, labels) = (call.input::<f32>("logits"), call.input::<i32>("labels"));
        let rows = logits.par_chunks(pitch).map(|row| &row[..v]);
        (row_loss, lse, rows, labels).into_par_iter().for_each(|(loss, lse, row, &label)| {
            *lse = softmax::log_sum_exp(row);
            *loss = (1.0 - smoothing) * (*lse - row[label as usize]);
            if smoothing > 0.0 {
                *loss += smoothing * (*lse - vector::sum(row) / v as f32);
            }
        });
    },
    gpu: Gpu::Passes(|call| {
        let threads = row_threads(call.size("V"));
        vec![Pass::new("cross_entropy_rows", call.size("M"), threads).shared(threads as usize / 32 * 4)]
    }),
};

static SUM: Kernel = Kernel {
    name: "cross_entropy_sum",
    outputs: &["loss"],
    inputs: &["row_loss", "normaliser"],
    sizes: &["M"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let total: f64 = call.input::<f32>("row_loss").iter().map(|&l| l as f64).sum();
        call.out::<f32>("loss")[0] = (total / call.input::<f32>("normaliser")[0] as f64) as f32;
    },
    gpu: Gpu::Passes(|_| vec![Pass::new("cross_entropy_sum", 1, 256).shared(8 * 8)]),
};

static BACKWARD: Kernel = Kernel {
    name: "cross_entropy_bwd",
    // In place: logits become their own gradient.
    outputs: &["logits"],
    inputs: &["dloss", "lse", "labels", "normaliser"],
    sizes: &["M", "V", "pitch"],
    scalars: &["smoothing"],
    cpu: |call: &mut CpuCall| {
        let ([v, pitch], smoothing) = (call.sizes(["V", "pitch"]), call.scalar("smoothing"));
        let (logits, dloss) = (call.out::<f32>("logits"), call.input::<f32>("dloss")[0]);
        let (lse, labels) = (call.input::<f32>("lse"), call.input::<i32>("labels"));
        let scale = dloss / call.input::<f32>("normaliser")[0];
        let rows = logits.par_chunks_mut(pitch).map(|row| &mut row[..v]);
        (rows, lse, labels).into_par_iter().for_each(|(row, &lse, &label)| {
            softmax::softmax_row_in_place(row, lse, scale, -scale * smoothing / v as f32);
            row[label as usize] -= scale * (1.0 - smoothing);
        });
    },
    gpu: Gpu::Passes(|call| {
        let [m, v] = call.sizes(["M", "V"]);
        vec![Pass::new("cross_entropy_bwd", m, 256).y(v.div_ceil(8192))]
    }),
};

/// A language-model head and what its loss is measured against.
pub struct Head<'a> {
    /// `[V, C]`, usually the token embedding.
    pub table: &'a Tensor,
    /// What stands for the table in products, where nothing is trained.
    pub int8: Option<&'a Int8>,
    /// `[V]`.
    pub bias: &'a Tensor,
    /// `[M]` i32, each below V.
    pub labels: &'a Tensor,
    /// `[1]` f32, divides the summed loss: the target tokens of the whole (accumulated) batch.
    pub normaliser: &'a Tensor,
    pub smoothing: f32,
}

/// loss `[1]` of the rows h `[M, C]`.
pub fn cross_entropy(tape: &Tape, h: &Tensor, head: Head) -> Result<Tensor> {
    if head.int8.is_some() && tape.is_recording() {
        return Err(Error::internal("a table in 8 bits has no gradient"));
    }
    let [m, c] = h.shape().dims2("cross_entropy")?;
    let [v, table_c] = head.table.shape().dims2("cross_entropy")?;
    if m == 0 || table_c != c || head.labels.len() != m || head.bias.len() != v || head.normaliser.len() != 1
    {
        let want = format!("[M > 0, {table_c}] with {} labels", head.labels.len());
        return Err(Error::shape("cross_entropy", want, h.shape()));
    }
    let parts = Parts {
        h: h.clone(),
        table: head.table.clone(),
        int8: head.int8.cloned(),
        bias: head.bias.clone(),
        labels: head.labels.clone(),
        lse: h.like_f32([m])?,
        v,
        c,
    };
    let row_loss = h.like_f32([m])?;
    let slice = slice(h.device().precision());
    let mut held = None;
    for from in (0..m).step_by(slice) {
        let rows = slice.min(m - from);
        drop(held.take());
        let logits = parts.logits(from, rows)?;
        Launch::of(&ROWS)
            .output("row_loss", &row_loss.slice(from, [rows])?)
            .output("lse", &parts.lse.slice(from, [rows])?)
            .input("logits", &logits)
            .input("labels", &parts.labels.slice(from, [rows])?)
            .size("M", rows)
            .size("V", v)
            .size("pitch", pitch(v))
            .scalar("smoothing", head.smoothing)
            .flops(4 * (rows * v) as u64)
            .exponentials((rows * v) as u64)
            .run(h.device())?;
        held = Some(logits);
    }
    let held = held.filter(|_| m <= slice);
    let loss = h.like_f32([1])?;
    let (normaliser, smoothing) = (head.normaliser.clone(), head.smoothing);
    Launch::of(&SUM)
        .output("loss", &loss)
        .input("row_loss", &row_loss)
        .input("normaliser", &normaliser)
        .size("M", m)
        .flops(m as u64)
        .run(h.device())?;
    Ok(tape.record(&[h, head.table], loss, move |dloss, gradients| {
        let dh = gradients.slot(&parts.h)?;
        let dtable = gradients.slot(&parts.table)?;
        let mut held = held;
        for from in (0..m).step_by(slice) {
            let rows = slice.min(m - from);
            let logits = match held.take() {
                Some(logits) => logits,
                None => parts.logits(from, rows)?,
            };
            Launch::of(&BACKWARD)
                .output("logits", &logits)
                .input("dloss", &dloss)
                .input("lse", &parts.lse.slice(from, [rows])?)
                .input("labels", &parts.labels.slice(from, [rows])?)
                .input("normaliser", &normaliser)
                .size("M", rows)
                .size("V", v)
                .size("pitch", pitch(v))
                .scalar("smoothing", smoothing)
                .flops(4 * (rows * v) as u64)
                .exponentials((rows * v) as u64)
                .run(dloss.device())?;
            if let Some(dh) = &dh {
                let product = Product { a: &logits, b: &parts.table, form: Form::Plain, m: rows, n: c, k: v };
                let dh_rows = dh.tensor.slice(from * c, [rows, c])?;
                matmul_padded(&dh_rows, product, None, dh.accumulate, Padded::A(pitch(v)))?;
            }
            if let Some(dtable) = &dtable {
                let product = Product {
                    a: &logits,
                    b: &parts.h.slice(from * c, [rows, c])?,
                    form: Form::LeftTransposed,
                    m: v,
                    n: c,
                    k: rows,
                };
                let accumulate = dtable.accumulate || from > 0;
                matmul_padded(&dtable.tensor, product, None, accumulate, Padded::A(pitch(v)))?;
            }
        }
        Ok(())
    }))
}

struct Parts {
    h: Tensor,
    table: Tensor,
    int8: Option<Int8>,
    bias: Tensor,
    labels: Tensor,
    lse: Tensor,
    v: usize,
    c: usize,
}

impl Parts {
    /// Rows `from..from + rows` of the logits, `[rows, pitch(V)]`.
    fn logits(&self, from: usize, rows: usize) -> Result<Tensor> {
        let logits = self.h.like([rows, pitch(self.v)])?;
        let h = self.h.slice(from * self.c, [rows, self.c])?;
        if let Some(table) = &self.int8 {
            table.product(&logits, pitch(self.v), &h, Some(&self.bias))?;
            return Ok(logits);
        }
        let product =
            Product { a: &h, b: &self.table, form: Form::RightTransposed, m: rows, n: self.v, k: self.c };
        matmul_padded(&logits, product, Some(&self.bias), false, Padded::C(pitch(self.v)))?;
        Ok(logits)
    }
}
