//! What the attention ops share: saved tensors, launch order and the recorded backward.
//!
//! o = softmax(scale q kᵀ over the pattern) v per head, scale 1/sqrt(D). Shapes: q, o `[B, T, C]`,
//! k v `[B, rows, C]`, lse `[B, H, T]`. Online softmax forward, scores recomputed in the backward,
//! never a score matrix (Dao 2023, arXiv 2307.08691). A row that sees no key gives zeros. On a GPU the
//! backward runs in passes, over queries and over keys, after one that writes delta `[B, H, T]`, the
//! sums of do o over a row: an output that nobody reads.

pub mod block_sparse_attention;
mod block_table;
pub mod decode_attention;
pub mod dense_attention;
mod tile;
pub mod window_attention;

use crate::device::cpu::attention::Gradients;
use crate::device::cpu::gemm::Store;
use crate::device::{CpuCall, Kernel};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::tape::{Dropout, Slot, Tape};
use crate::tensor::{Launch, Tensor};

/// A kernel and what it takes beside q, k, v and the tensors saved for the backward.
struct Side {
    kernel: &'static Kernel,
    /// The pattern's tensors; `None` for an absent one.
    inputs: Vec<Option<Tensor>>,
    sizes: Vec<usize>,
    /// Elements of the output that holds what parts of a sum give, where the kernel has one.
    partial: Option<usize>,
}

/// One attention op: kernels, pattern tensors, sizes, scalars and cost.
struct Attention {
    heads: usize,
    forward: Side,
    backward: Side,
    /// Of the probabilities, for patterns that have dropout.
    dropout: Option<Dropout>,
    scalars: Vec<f32>,
    /// Query-key pairs, all heads and samples together.
    pairs: u64,
}

impl Attention {
    fn partial(side: &Side, like: &Tensor, launch: Launch) -> Result<Launch> {
        let Some(len) = side.partial else {
            return Ok(launch);
        };
        let partial = (len > 0).then(|| like.like_f32([len])).transpose()?;
        Ok(launch.output_or_absent(partial.as_ref(), DType::F32))
    }

    fn arguments(&self, side: &Side, launch: Launch, flops_per_pair: usize, d: usize) -> Launch {
        let inputs = side.inputs.iter();
        let mut launch =
            inputs.fold(launch, |launch, input| launch.input_or_absent(input.as_ref(), DType::I32));
        if let Some(dropout) = &self.dropout {
            launch = launch.input_or_absent(dropout.randomness.as_ref(), DType::I32);
        }
        launch = side.sizes.iter().fold(launch, |launch, &size| launch.size(size));
        if let Some(dropout) = &self.dropout {
            launch = launch.size(dropout.site.into());
        }
        self.scalars
            .iter()
            .fold(launch, |launch, &scalar| launch.scalar(scalar))
            .flops(self.pairs * (flops_per_pair * d) as u64)
            .exponentials(self.pairs)
    }

    /// Launches the forward kernel and records the backward one; o `[B, T, C]`.
    fn run(self, tape: &Tape, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let [b, t, c] = q.shape().dims3("attention")?;
        let d = c / self.heads;
        let (o, lse) = (q.like([b, t, c])?, q.like_f32([b, self.heads, t])?);
        let launch = Launch::of(self.forward.kernel).output(&o).output(&lse);
        let launch = Self::partial(&self.forward, q, launch)?.input(q).input(k).input(v);
        self.arguments(&self.forward, launch, 4, d).run(q.device())?;
        let saved = [q, k, v].map(Tensor::clone);
        let saved_o = o.clone();
        Ok(tape.record(&[q, k, v], o, move |d_o, gradients| {
            let mut slots = Vec::with_capacity(3);
            for x in &saved {
                slots.push(gradients.slot(x)?);
            }
            let launch = slots.iter().fold(Launch::of(self.backward.kernel), |launch, slot| {
                launch.output_or_absent(slot.as_ref().map(|s| &s.tensor), d_o.dtype())
            });
            let delta = d_o.like_f32(lse.shape())?;
            let launch = Self::partial(&self.backward, &d_o, launch.output(&delta))?;
            let launch = saved
                .iter()
                .fold(launch.input(&d_o), |launch, x| launch.input(x))
                .input(&saved_o)
                .input(&lse);
            let launch = self.arguments(&self.backward, launch, 10, d);
            slots
                .iter()
                .fold(launch, |launch, slot| launch.size(slot.as_ref().map_or(0, Slot::flag)))
                .run(d_o.device())
        }))
    }
}

/// B, H, D, T, rows of q `[B, T, C]` against k and v `[B, rows, C]`, or an error that names `op`.
fn dimensions(op: &'static str, [q, k, v]: [&Tensor; 3], heads: usize) -> Result<[usize; 5]> {
    let [b, t, c] = q.shape().dims3(op)?;
    let [k_b, rows, k_c] = k.shape().dims3(op)?;
    k.same_shape(op, v)?;
    if k_b != b || k_c != c || heads == 0 || !c.is_multiple_of(heads) {
        return Err(Error::shape(op, format!("k, v [{b}, S, {c}] for {heads} heads"), k.shape()));
    }
    Ok([b, heads, c / heads, t, rows])
}

/// 1/sqrt(D).
fn scale(d: usize) -> f32 {
    1.0 / (d as f32).sqrt()
}

/// dq, dk and dv of a backward call whose three accumulate flags start at size `first`.
fn gradients<'a>(call: &mut CpuCall<'a>, first: usize) -> Gradients<'a> {
    let store = [first, first + 1, first + 2].map(|i| match call.size(i) {
        0 => Store::Assign,
        _ => Store::Add,
    });
    Gradients { dq: call.out(0), dk: call.out(1), dv: call.out(2), store }
}
