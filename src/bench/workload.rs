//! The time of a workload, whole runs one after the other, and of a decoding step beside what memory allows.

use super::Meters;
use super::repeat::undisturbed;
use super::resident::Resident;
use crate::device::Used;
use crate::device::cpu::vector;
use crate::disturbance::{Conditions, Watch};
use crate::energy::{Measurement, Window};
use crate::error::{Error, Result};
use crate::stats::{Quantiles, quantiles};
use crate::trace::{self, Phase, Timing};
use crate::workload::{Amount, StepBytes, Workload};
use rayon::prelude::*;
use serde::Serialize;
use std::time::Instant;

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    /// Runs before the counted ones.
    pub warmup: usize,
    pub counted: usize,
    /// Whether one more run is timed kernel by kernel.
    pub kernels: bool,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Times of whole runs.
    #[serde(flatten)]
    pub quantiles: Quantiles,
    /// Every counted run, in order.
    pub seconds: Vec<f64>,
    pub samples_per_second: f64,
    /// Tokens of the inputs, or of the answers where those are generated.
    pub tokens_per_second: f64,
    /// Floating-point operations of one run, as planned step by step.
    pub flops: u64,
    pub gflops_per_second: f64,
    /// Model FLOPs utilisation: the FLOPs a second over the device's rate of products; none without limits.
    pub mfu: Option<f64>,
    /// Absent where `energy` says why.
    pub joules_per_sample: Option<f64>,
    /// Joules of each token that `tokens_per_second` counts.
    pub joules_per_token: Option<f64>,
    /// Energy of all counted runs together, those of one token included.
    pub energy: Measurement,
    /// Conditions of the counted runs.
    pub conditions: Conditions,
    #[serde(flatten)]
    pub resident: Resident,
    /// Bytes of tensors: weights and what lies beside them, and the step arena.
    pub persistent_bytes: usize,
    pub arena_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f32>,
    #[serde(flatten)]
    pub decoding: Option<DecodingTimes>,
}

/// Times of work that decodes token by token.
#[derive(Debug, Clone, Serialize)]
pub struct DecodingTimes {
    /// Runs of one token beside the whole ones: the encoder and the first step.
    pub first_token_seconds: Vec<f64>,
    /// A step after the first: the difference, shared out.
    pub step_seconds: Vec<f64>,
    pub step_median_s: f64,
    pub steps_per_second: f64,
    /// What a step must read.
    pub step_bytes: StepBytes,
    /// The limits' bandwidth, or else what all threads of a processor together read from memory.
    pub memory_bytes_per_second: Option<f64>,
    /// The time that reading them takes, over the time of a step.
    pub share_of_limit: Option<f64>,
}

/// Host time of each kernel in each phase.
pub type Kernels = Vec<((Phase, &'static str), Timing)>;

/// Seconds of runs.
#[derive(Default)]
struct Samples {
    whole: Vec<f64>,
    /// Empty unless it decodes.
    first_token: Vec<f64>,
}

/// Times `work`; where it decodes, runs of one token and whole ones in turn.
pub fn measure(work: &mut dyn Workload, repeats: Repeats, meters: Meters) -> Result<(Measured, Kernels)> {
    if repeats.counted == 0 {
        return Err(Error::usage("--repeat must be at least 1"));
    }
    for _ in 0..repeats.warmup {
        Samples::default().take(work)?;
    }
    let counted = || {
        let (mut samples, window, watch) =
            (Samples::default(), Window::start(meters.sampler), Watch::start());
        for _ in 0..repeats.counted {
            samples.take(work)?;
        }
        let energy = window.stop();
        let mut conditions = energy.judge(watch.stop());
        // All ranks measure again, or none.
        if work.any(conditions.disturbed.is_some()) && conditions.disturbed.is_none() {
            conditions.disturbed = Some("another rank was disturbed".into());
        }
        Ok((samples, energy, conditions))
    };
    let (samples, energy, conditions) = undisturbed(counted, |(_, _, conditions)| conditions)?;
    let timings = match repeats.kernels {
        false => Kernels::new(),
        true => {
            trace::start_timing();
            let outcome = work.run();
            let timings = trace::stop_timing().into_iter().collect();
            outcome?;
            timings
        }
    };
    let resident = meters.resident.found();
    let flops: u64 = work.plan()?.iter().map(|step| step.cost().flops.0).sum();
    let (amount, loss) = (work.amount(), work.loss());
    let precision = work.device().precision();
    let Used { persistent, arena } = work.device().used();
    let decoding = DecodingTimes::of(work, &samples, meters)?;
    let Samples { whole: seconds, first_token } = samples;
    let quantiles = quantiles(&seconds).ok_or_else(|| Error::internal("no run was measured"))?;
    // The time of the runs of one token is shared out to them, and so is the energy.
    let share = seconds.iter().sum::<f64>() / seconds.iter().chain(&first_token).sum::<f64>();
    let joules_per_run = energy.energy.map(|joules| share * joules.0 / repeats.counted as f64);
    let rate = flops as f64 / quantiles.median_s;
    let measured = Measured {
        samples_per_second: amount.samples as f64 / quantiles.median_s,
        tokens_per_second: amount.tokens as f64 / quantiles.median_s,
        gflops_per_second: rate / 1e9,
        mfu: meters.limits.map(|limits| rate / limits.products(precision)),
        joules_per_sample: joules_per_run.map(|joules| joules / amount.samples as f64),
        joules_per_token: joules_per_run.map(|joules| joules / amount.tokens.max(1) as f64),
        energy,
        conditions,
        quantiles,
        seconds,
        flops,
        resident,
        persistent_bytes: persistent,
        arena_bytes: arena,
        loss,
        decoding,
    };
    Ok((measured, timings))
}

impl Measured {
    /// Takes the energy of all devices that did the runs in place of that of one; each run did `amount`.
    pub fn take_energy(&mut self, energy: Measurement, amount: Amount) {
        let each = energy.energy.map(|joules| joules.0 / self.seconds.len() as f64);
        self.joules_per_sample = each.map(|joules| joules / amount.samples as f64);
        self.joules_per_token = each.map(|joules| joules / amount.tokens.max(1) as f64);
        self.energy = energy;
    }
}

impl Samples {
    /// One run, after one of a single token where it decodes.
    fn take(&mut self, work: &mut dyn Workload) -> Result<()> {
        let start = Instant::now();
        if let Some(decoding) = work.decoding() {
            decoding.first_token()?;
            self.first_token.push(start.elapsed().as_secs_f64());
        }
        let start = Instant::now();
        work.run()?;
        self.whole.push(start.elapsed().as_secs_f64());
        Ok(())
    }
}

impl DecodingTimes {
    fn of(work: &mut dyn Workload, samples: &Samples, meters: Meters) -> Result<Option<Self>> {
        let on_cpu = work.device().name() == "cpu";
        let Some(decoding) = work.decoding() else { return Ok(None) };
        let (steps, step_bytes) = (decoding.later_steps() as f64, decoding.step_bytes());
        let pairs = samples.whole.iter().zip(&samples.first_token);
        let step_seconds: Vec<f64> = pairs.map(|(whole, first)| (whole - first) / steps).collect();
        let quantiles = quantiles(&step_seconds).ok_or_else(|| Error::internal("no run was measured"))?;
        let step_median_s = quantiles.median_s;
        let limit = meters.limits.map(|limits| limits.bandwidth);
        let memory_bytes_per_second = limit.or_else(|| on_cpu.then(reading_speed));
        Ok(Some(DecodingTimes {
            first_token_seconds: samples.first_token.clone(),
            step_seconds,
            step_median_s,
            steps_per_second: 1.0 / step_median_s,
            step_bytes,
            memory_bytes_per_second,
            share_of_limit: memory_bytes_per_second
                .map(|speed| step_bytes.total() as f64 / speed / step_median_s),
        }))
    }
}

/// Bytes a second that all threads read from far more memory than the caches hold: the best of several times.
fn reading_speed() -> f64 {
    const FLOATS: usize = 64 << 20;
    const TIMES: usize = 7;
    let memory: Vec<f32> = vec![1.0; FLOATS];
    let mut best = 0.0f64;
    for _ in 0..TIMES {
        let start = Instant::now();
        let sum: f32 = memory.par_chunks(1 << 16).map(vector::sum).sum();
        let speed = (FLOATS * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64();
        // The sum is looked at, or nothing would be read.
        best = if sum > 0.0 { best.max(speed) } else { best };
    }
    best
}
