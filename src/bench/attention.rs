//! One attention op over random inputs: its kernels' time beside what its pattern computes.

mod subject;

use super::repeat::{Flush, Schedule, repeat, warnings};
use crate::device::plan::{Launch, Plan};
use crate::device::{Cost, Device, Engine, Precision};
use crate::disturbance::Conditions;
use crate::energy::Sampler;
use crate::error::{Error, Result};
use crate::limits::{Bound, Limits};
use crate::stats::{Quantiles, quantiles};
use crate::trace;
use serde::{Deserialize, Serialize};
use subject::Subject;

/// Which queries see which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Keys at most a window away, and the global ones (LED's encoder).
    Window,
    /// The blocks of BigBird's table.
    BlockSparse,
    /// Every key.
    Dense,
    /// The few global rows of LED's encoder, projections included.
    Global,
    /// One query a sample over its cache.
    Decode,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Window => "window",
            Kind::BlockSparse => "block-sparse",
            Kind::Dense => "dense",
            Kind::Global => "global",
            Kind::Decode => "decode",
        }
    }

    /// Whether training goes through it.
    pub fn has_backward(self) -> bool {
        self != Kind::Decode
    }
}

/// Which kernels are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pass {
    Forward,
    Backward,
    Both,
}

impl Pass {
    pub fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
            Pass::Both => "both",
        }
    }

    fn counts(self, pass: trace::Pass) -> bool {
        match self {
            Pass::Forward => pass == trace::Pass::Forward,
            Pass::Backward => pass == trace::Pass::Backward,
            Pass::Both => true,
        }
    }
}

/// One pattern and its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub kind: Kind,
    /// B.
    pub batch: usize,
    /// S; of `decode` the keys in the cache.
    pub length: usize,
    pub heads: usize,
    /// D.
    pub head_size: usize,
    /// W: keys to each side.
    pub window: usize,
    /// G: the first tokens of each sample.
    pub globals: usize,
    /// K.
    pub block_size: usize,
    /// R, random key blocks of a query block.
    pub random_blocks: usize,
}

impl Work {
    /// With zeros where the kind has no use for a size: works that differ in it alone are the same.
    pub fn reduced(self) -> Self {
        let windowed = self.kind == Kind::Window;
        let blocked = self.kind == Kind::BlockSparse;
        let or_zero = |used: bool, size: usize| if used { size } else { 0 };
        Work {
            window: or_zero(windowed, self.window),
            globals: or_zero(windowed || self.kind == Kind::Global, self.globals),
            block_size: or_zero(blocked, self.block_size),
            random_blocks: or_zero(blocked, self.random_blocks),
            ..self
        }
    }

    /// The pattern's sizes in words; empty where it has none.
    pub fn pattern(&self) -> String {
        let Work { window, globals, block_size, random_blocks, .. } = *self;
        match self.kind {
            Kind::Window => format!("window {window}, {globals} global"),
            Kind::BlockSparse => format!("blocks of {block_size}, {random_blocks} random"),
            Kind::Global => format!("{globals} global"),
            Kind::Dense | Kind::Decode => String::new(),
        }
    }
}

/// One pass over one piece of work.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub kind: Kind,
    pub pass: Pass,
    pub precision: Precision,
    /// The kernels, where the device has a choice.
    pub engine: Option<Engine>,
    pub batch_size: usize,
    pub length: usize,
    pub heads: usize,
    pub head_size: usize,
    /// The pattern's sizes in words.
    pub pattern: String,
    #[serde(flatten)]
    pub quantiles: Quantiles,
    pub runs: usize,
    /// As the op counts them, inside its pattern only.
    pub flops: u64,
    pub bytes: u64,
    pub exponentials: u64,
    /// At the median.
    pub gflops_per_second: f64,
    pub tokens_per_second: f64,
    /// The least time at the device's limits over the median; none without limits.
    pub share_of_limit: Option<f64>,
    pub bound: Option<Bound>,
    pub conditions: Conditions,
    pub warnings: Vec<String>,
}

impl Row {
    /// All that decides its work.
    pub fn name(&self) -> String {
        let Row { kind, pass, precision, batch_size, length, heads, head_size, pattern, .. } = self;
        let comma = if pattern.is_empty() { "" } else { ", " };
        let (kind, pass) = (kind.name(), pass.name());
        let sizes = format!("{batch_size} x {length}, {heads} heads of {head_size}");
        format!("{kind} {pass}, {sizes}{comma}{pattern}, {precision}")
    }
}

/// On what, for how long and beside what.
pub struct Setting<'a> {
    pub device: &'a Device,
    pub schedule: Schedule,
    /// Clears the caches between runs.
    pub flush: Option<&'a Flush>,
    pub limits: Option<&'a Limits>,
    /// Sees whether the clocks are held down.
    pub sampler: &'a Sampler,
    pub seed: u64,
}

/// Measures `passes` of `work`.
pub fn attention(setting: &Setting, work: &Work, passes: &[Pass]) -> Result<Vec<Row>> {
    let Setting { device, schedule, flush, limits, sampler, seed } = *setting;
    let backward = passes.iter().any(|pass| *pass != Pass::Forward);
    if backward && work.kind == Kind::Decode {
        return Err(Error::usage(
            "decode has no backward pass: nothing is trained through it; ask for --pass forward",
        ));
    }
    let plan = Plan::new(device.precision());
    let twin = Subject::new(work, &Device::new(plan.clone()))?;
    plan.record();
    let outcome = twin.run(backward, None);
    let recording = plan.finish()?;
    outcome?;
    let subject = Subject::new(work, device)?;
    subject.fill(seed)?;
    let samples = repeat(device, &recording.layout, schedule, sampler, || subject.run(backward, flush))?;
    let conditions = samples.conditions.clone();
    let row = |&pass: &Pass| -> Result<Row> {
        let seconds: Vec<f64> = match pass {
            Pass::Forward => samples.forward.clone(),
            Pass::Backward => samples.backward.clone(),
            Pass::Both => samples.forward.iter().zip(&samples.backward).map(|(f, b)| f + b).collect(),
        };
        let launches = || recording.launches.iter().filter(move |launch| pass.counts(launch.phase.pass));
        let cost = total(launches());
        let quantiles = quantiles(&seconds).ok_or_else(|| Error::internal("no run was measured"))?;
        let tokens = work.batch * if work.kind == Kind::Decode { 1 } else { work.length };
        let precision = device.precision();
        Ok(Row {
            kind: work.kind,
            pass,
            precision,
            engine: device.engine(),
            batch_size: work.batch,
            length: work.length,
            heads: work.heads,
            head_size: work.head_size,
            pattern: work.pattern(),
            runs: seconds.len(),
            flops: cost.flops.0,
            bytes: cost.bytes.0,
            exponentials: cost.exponentials,
            gflops_per_second: cost.flops.0 as f64 / quantiles.median_s / 1e9,
            tokens_per_second: tokens as f64 / quantiles.median_s,
            share_of_limit: limits.map(|l| l.least_of(launches(), precision).0 / quantiles.median_s),
            bound: limits.and_then(|l| bound(l, launches(), precision)),
            warnings: warnings(&seconds, &conditions),
            conditions: conditions.clone(),
            quantiles,
        })
    };
    passes.iter().map(row).collect()
}

fn total<'a>(launches: impl Iterator<Item = &'a Launch>) -> Cost {
    let mut total = Cost::default();
    launches.for_each(|launch| total += launch.cost);
    total
}

/// What bounds the launch that takes longest at the limits.
fn bound<'a>(
    limits: &Limits,
    launches: impl Iterator<Item = &'a Launch>,
    precision: Precision,
) -> Option<Bound> {
    let least = launches.map(|launch| limits.least(launch.kernel, launch.cost, precision));
    least.max_by(|a, b| a.0.0.total_cmp(&b.0.0)).map(|(_, bound)| bound)
}
