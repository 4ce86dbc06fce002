//! What the attention ops share: saved tensors, launch order and the recorded backward.
//!
//! o = softmax(scale q kᵀ over the pattern) v per head, scale 1/sqrt(D). Shapes: q, o `[B, T, C]`,
//! k v `[B, rows, C]`, lse `[B, H, T]`. Online softmax forward, scores recomputed in the backward,
//! never a score matrix (Dao 2023, arXiv 2307.08691). A row that sees no key gives zeros. On a GPU the
//! backward runs in passes, over queries and over keys, after one that writes lse_delta `[B, H, T, 2]`, lse
//! in base 2 and the sums of do o over a row: an output that no op reads.

pub mod block_sparse_attention;
mod block_table;
pub mod decode_attention;
pub mod dense_attention;
mod hopper;
mod tile;
pub mod window_attention;

use crate::device::cpu::attention::{self as cpu, Gradients, Way};
use crate::device::cpu::gemm::Store;
use crate::device::{CpuCall, Kernel};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::tape::{Dropout, Tape};
use crate::tensor::{Launch, Tensor};
use half::bf16;

/// A kernel and what it takes beside q, k, v and the tensors saved for the backward.
struct Side {
    kernel: &'static Kernel,
    /// The pattern's tensors; `None` for an absent one.
    inputs: Vec<(&'static str, Option<Tensor>)>,
    sizes: Vec<(&'static str, usize)>,
    /// Elements of the output that holds what parts of a sum give, where the kernel has one.
    partial: Option<usize>,
}

/// One attention op: kernels, pattern tensors, sizes and cost.
struct Attention {
    heads: usize,
    forward: Side,
    backward: Side,
    /// Dropout of the probabilities, for patterns that have it.
    dropout: Option<Dropout>,
    /// Query-key pairs, all heads and samples together.
    pairs: u64,
}

impl Attention {
    /// Gives the arguments that both sides have; `like` is on their device.
    fn shared(&self, side: &Side, launch: Launch, like: &Tensor, d: usize) -> Result<Launch> {
        let mut launch = launch.sizes(side.sizes.iter().copied()).scalar("scale", scale(d));
        for (name, tensor) in &side.inputs {
            launch = launch.input(name, tensor.as_ref());
        }
        if let Some(Dropout { p, site, randomness }) = &self.dropout {
            let site = usize::from(*site);
            launch = launch.input("randomness", randomness.as_ref()).size("site", site).scalar("p", *p);
        }
        if let Some(len) = side.partial {
            let partial = (len > 0).then(|| like.like_f32([len])).transpose()?;
            launch = launch.output("partial", partial.as_ref());
        }
        Ok(launch.exponentials(self.pairs))
    }

    /// Launches the forward kernel and records the backward one; o `[B, T, C]`.
    fn run(self, tape: &Tape, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let [b, t, c] = q.shape().dims3("attention")?;
        let d = c / self.heads;
        let (o, lse) = (q.like([b, t, c])?, q.like_f32([b, self.heads, t])?);
        let launch = Launch::of(self.forward.kernel).output("o", &o).output("lse", &lse);
        self.shared(&self.forward, launch, q, d)?
            .input("q", q)
            .input("k", k)
            .input("v", v)
            .flops(self.pairs * 4 * d as u64)
            .run(q.device())?;
        let [saved_q, saved_k, saved_v, saved_o] = [q, k, v, &o].map(Tensor::clone);
        Ok(tape.record(&[q, k, v], o, move |d_o, gradients| {
            let dq = gradients.slot(&saved_q)?;
            let dk = gradients.slot(&saved_k)?;
            let dv = gradients.slot(&saved_v)?;
            let lse_delta = d_o.like_f32([b, self.heads, t, 2])?;
            let launch = Launch::of(self.backward.kernel).output("lse_delta", &lse_delta);
            self.shared(&self.backward, launch, &d_o, d)?
                .gradient("dq", "add_q", dq.as_ref())
                .gradient("dk", "add_k", dk.as_ref())
                .gradient("dv", "add_v", dv.as_ref())
                .input("d_o", &d_o)
                .input("q", &saved_q)
                .input("k", &saved_k)
                .input("v", &saved_v)
                .input("o", &saved_o)
                .input("lse", &lse)
                .flops(self.pairs * 10 * d as u64)
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

/// What a call says to the CPU, with q, k and v as they are asked for.
type Operands<E> = for<'a> fn(&CpuCall<'a>) -> cpu::Attention<'a, E>;

/// How a call is computed whose tensors are in bf16, where the processor multiplies pairs of these.
fn pairs(call: &CpuCall) -> Option<Way<bf16>> {
    Way::pairs().filter(|_| call.stored("q") == DType::BF16)
}

fn forward_cpu(call: &mut CpuCall, floats: Operands<f32>, bf16s: Operands<bf16>) {
    let (o, lse) = (call.out("o"), call.out("lse"));
    match pairs(call) {
        Some(way) => cpu::attention_forward(way, o, lse, &bf16s(call)),
        None => cpu::attention_forward(Way::floats(), o, lse, &floats(call)),
    }
}

fn backward_cpu(call: &mut CpuCall, floats: Operands<f32>, bf16s: Operands<bf16>) {
    let (gradients, lse) = (gradients(call), call.input("lse"));
    match pairs(call) {
        Some(way) => {
            let (d_o, o) = (call.input("d_o"), call.input("o"));
            cpu::attention_backward(way, gradients, d_o, o, lse, &bf16s(call));
        }
        None => {
            let (d_o, o) = (call.input("d_o"), call.input("o"));
            cpu::attention_backward(Way::floats(), gradients, d_o, o, lse, &floats(call));
        }
    }
}

/// The outputs of a backward call.
fn gradients<'a>(call: &mut CpuCall<'a>) -> Gradients<'a> {
    let store = ["add_q", "add_k", "add_v"].map(|add| match call.size(add) {
        0 => Store::Assign,
        _ => Store::Add,
    });
    Gradients { dq: call.out("dq"), dk: call.out("dk"), dv: call.out("dv"), store }
}
