//! AdamW over all parameters in one launch, with clipping by the global norm.
//!
//! m = b1 m + (1-b1) g; v = b2 v + (1-b2) g²; p -= lr (m/c1 / (sqrt(v/c2) + eps) + wd p).
//! In HF's form: p -= lr sqrt(c2)/c1 m / (sqrt(v) + eps), then p -= lr wd p.
//! Shapes: p, m, v, g `[n]` slabs; segments i32, see [`table`]; norm `[1]`; rates `[4]`, see [`AdamW::rates`].
//! Loshchilov and Hutter 2019, arXiv 1711.05101, as torch.optim.AdamW; HF's form is that of
//! `transformers.AdamW`, which version 5 has no more. No gradient.

use super::{Gradient, OpSpec};
use crate::device::cpu::optimizer;
use crate::device::{CpuCall, Device, Gpu, Kernel, Pass};
use crate::error::Result;
use crate::tensor::{Launch, Tensor};
use rayon::prelude::*;

pub static OP: OpSpec =
    OpSpec { name: "adamw", gradient: Gradient::None("it updates parameters in place"), kernels: &[&UPDATE] };

static UPDATE: Kernel = Kernel {
    name: "adamw_update",
    outputs: &["p", "m", "v", "copy"],
    inputs: &["g", "segments", "norm", "rates"],
    sizes: &["n", "parts"],
    scalars: &["beta1", "beta2", "eps", "max_norm"],
    cpu: update_cpu,
    gpu: Gpu::Passes(|call| vec![Pass::new("adamw_update", call.size("n").div_ceil(SPAN), 256)]),
};

/// Elements that a block of the kernel updates.
const SPAN: usize = 4096;

/// What the update of a slab of `n` elements reads of its `segments`, (first, length, decays) each, ascending and apart:
/// themselves, and for every 4096 elements the number of the first segment that ends beyond their start, so that nobody
/// searches.
pub fn table(segments: &[i32], n: usize) -> Vec<i32> {
    let ends: Vec<usize> = segments.chunks(3).map(|part| part[0] as usize + part[1] as usize).collect();
    let firsts = (0..n).step_by(SPAN).map(|start| ends.partition_point(|&end| end <= start) as i32);
    segments.iter().copied().chain(firsts).collect()
}

/// What stays the same from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub weight_decay: f32,
    /// Gradients are scaled down to this norm; 0 leaves them as they are.
    pub max_grad_norm: f32,
    /// HF's form: epsilon without bias correction, and decay of the updated parameter.
    pub hf: bool,
}

impl AdamW {
    /// [`State::rates`] of a step, which counts from 1, each combined in f64 and rounded once: what a parameter that decays
    /// is multiplied with, the step of one that does not and of one that does, and the factor of sqrt(v).
    pub fn rates(&self, device: &Device, learning_rate: f32, step: u64) -> Result<Tensor> {
        let correction = |beta: f32| f64::from((1.0 - f64::from(beta).powf(step as f64)) as f32);
        let keep = (1.0 - f64::from(learning_rate) * f64::from(self.weight_decay)) as f32;
        let size = f64::from(learning_rate) / correction(self.beta1);
        let root = correction(self.beta2).sqrt();
        // (p - s d) keep = p keep - (s keep) d: decaying last is a smaller step of the same form.
        let [still, decaying, root_scale] = match self.hf {
            true => [size * root, size * root * f64::from(keep), 1.0],
            false => [size, size, 1.0 / root],
        };
        Tensor::upload(device, [4], &[keep, still as f32, decaying as f32, root_scale as f32])
    }
}

/// The slabs one update touches.
pub struct State<'a> {
    pub p: &'a Tensor,
    pub m: &'a Tensor,
    pub v: &'a Tensor,
    /// The parameters in another storage type, brought up to date.
    pub copy: Option<&'a Tensor>,
    pub g: &'a Tensor,
    /// [`table`].
    pub segments: &'a Tensor,
    pub norm: &'a Tensor,
    /// `[4]`: what changes from step to step, see [`AdamW::rates`].
    pub rates: &'a Tensor,
}

/// Updates p, m and v in place; leaves them as they are where the norm is not finite.
pub fn adamw(state: State, rule: AdamW) -> Result<()> {
    let n = state.p.len();
    for slab in [state.m, state.v, state.g] {
        state.p.same_shape("adamw", slab)?;
    }
    Launch::of(&UPDATE)
        .output("p", state.p)
        .output("m", state.m)
        .output("v", state.v)
        .output("copy", state.copy)
        .input("g", state.g)
        .input("segments", state.segments)
        .input("norm", state.norm)
        .input("rates", state.rates)
        .size("n", n)
        .size("parts", (state.segments.len() - n.div_ceil(SPAN)) / 3)
        .scalar("beta1", rule.beta1)
        .scalar("beta2", rule.beta2)
        .scalar("eps", rule.eps)
        .scalar("max_norm", rule.max_grad_norm)
        .flops(14 * n as u64)
        .run(state.p.device())
}

/// Elements one task updates.
const CHUNK: usize = 1 << 14;

fn update_cpu(call: &mut CpuCall) {
    let (p, m, v) = (call.out::<f32>("p"), call.out::<f32>("m"), call.out::<f32>("v"));
    let (g, segments, norm) =
        (call.input::<f32>("g"), call.input::<i32>("segments"), call.input::<f32>("norm"));
    if !norm[0].is_finite() {
        return;
    }
    let (rates, max_norm) = (call.input::<f32>("rates"), call.scalar("max_norm"));
    // torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm.
    let gradient_scale = match max_norm > 0.0 {
        true => (max_norm / (norm[0] + 1e-6)).min(1.0),
        false => 1.0,
    };
    let decaying = optimizer::AdamW {
        beta1: call.scalar("beta1"),
        beta2: call.scalar("beta2"),
        epsilon: call.scalar("eps"),
        keep: rates[0],
        step_size: rates[2],
        root_scale: rates[3],
        gradient_scale,
    };
    let still = optimizer::AdamW { keep: 1.0, step_size: rates[1], ..decaying };
    for segment in segments[..3 * call.size("parts")].chunks(3) {
        let (from, len) = (segment[0] as usize, segment[1] as usize);
        let rule = if segment[2] == 1 { decaying } else { still };
        let part = from..from + len;
        (
            p[part.clone()].par_chunks_mut(CHUNK),
            m[part.clone()].par_chunks_mut(CHUNK),
            v[part.clone()].par_chunks_mut(CHUNK),
            g[part].par_chunks(CHUNK),
        )
            .into_par_iter()
            .for_each(|(p, m, v, g)| optimizer::adamw_update(p, m, v, g, rule));
    }
    let copy = call.out::<f32>("copy");
    if !copy.is_empty() {
        copy.par_chunks_mut(CHUNK).zip(p.par_chunks(CHUNK)).for_each(|(copy, p)| copy.copy_from_slice(p));
    }
}
