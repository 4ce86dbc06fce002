//! The time of a step, or of a part of it, over a synthetic batch.

use super::Meters;
use super::resident::Resident;
use crate::device::Used;
use crate::energy::{Measurement, Window};
use crate::error::{Error, Result};
use crate::models::{Loaded, Options};
use crate::stats::{Quantiles, quantiles};
use crate::trace::{self, Phase, Timing};
use crate::train::synthetic::{Mode, Stepper, synthetic_batch};
use serde::Serialize;
use std::time::Instant;

/// What to run and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub mode: Mode,
    pub batch_size: usize,
    pub max_source_length: usize,
    pub max_target_length: usize,
    pub seed: u64,
    /// Runs before the counted ones.
    pub warmup: usize,
    pub repeat: usize,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    #[serde(flatten)]
    pub quantiles: Quantiles,
    /// Every counted run, in order.
    pub seconds: Vec<f64>,
    pub samples_per_second: f64,
    /// Of the inputs.
    pub tokens_per_second: f64,
    /// Floating-point operations of one run, as planned.
    pub flops: u64,
    pub gflops_per_second: f64,
    /// Model FLOPs utilisation: the FLOPs a second over the device's rate of products; none without limits.
    pub mfu: Option<f64>,
    /// Absent where `energy` says why.
    pub joules_per_sample: Option<f64>,
    /// Of the inputs' tokens.
    pub joules_per_token: Option<f64>,
    /// Of all counted runs together.
    pub energy: Measurement,
    #[serde(flatten)]
    pub resident: Resident,
    /// Bytes of tensors: weights, gradients, moments, and the step arena.
    pub persistent_bytes: usize,
    pub arena_bytes: usize,
    pub loss: f32,
}

/// Host time of each kernel in each phase.
pub type Kernels = Vec<((Phase, &'static str), Timing)>;

/// Runs `work` over one random batch; with `kernels`, one more run is timed kernel by kernel.
pub fn step(
    loaded: Loaded,
    options: Options,
    work: Work,
    kernels: bool,
    meters: Meters,
) -> Result<(Measured, Kernels)> {
    if work.repeat == 0 {
        return Err(Error::usage("--repeat must be at least 1"));
    }
    let limits = loaded.model.limits();
    let (source, target) =
        synthetic_batch(&limits, work.batch_size, work.max_source_length, work.max_target_length, work.seed)?;
    let mut stepper = Stepper::new(loaded, options, work.mode)?;
    for _ in 0..work.warmup {
        stepper.run(&source, &target)?;
    }
    let mut seconds = Vec::with_capacity(work.repeat);
    let mut loss = 0.0;
    let window = Window::start(meters.sampler);
    for _ in 0..work.repeat {
        let start = Instant::now();
        loss = stepper.run(&source, &target)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let energy = window.stop();
    let quantiles = quantiles(&seconds).ok_or_else(|| Error::internal("no run was measured"))?;
    let timings = match kernels {
        false => Kernels::new(),
        true => {
            trace::start_timing();
            stepper.run(&source, &target)?;
            trace::stop_timing().into_iter().collect()
        }
    };
    let flops = stepper.recordings().iter().map(|(_, r)| r.cost().flops.0).sum::<u64>();
    let Used { persistent, arena } = stepper.device().used();
    let rate = flops as f64 / quantiles.median_s;
    let precision = stepper.device().precision();
    let samples = (work.batch_size * work.repeat) as f64;
    let measured = Measured {
        samples_per_second: work.batch_size as f64 / quantiles.median_s,
        tokens_per_second: (work.batch_size * work.max_source_length) as f64 / quantiles.median_s,
        gflops_per_second: rate / 1e9,
        mfu: meters.limits.map(|limits| rate / limits.products(precision)),
        joules_per_sample: energy.energy.map(|joules| joules.0 / samples),
        joules_per_token: energy
            .energy
            .map(|joules| joules.0 / samples / work.max_source_length.max(1) as f64),
        energy,
        quantiles,
        seconds,
        flops,
        resident: meters.resident.found(),
        persistent_bytes: persistent,
        arena_bytes: arena,
        loss,
    };
    Ok((measured, timings))
}
