//! The time of generation over a synthetic batch, and of one decoding step beside what memory allows.

use super::Meters;
use super::resident::Resident;
use super::step::Kernels;
use crate::device::Used;
use crate::device::cpu::vector;
use crate::energy::{Measurement, Window};
use crate::error::{Error, Result};
use crate::generate::{self, GenerateOptions, State, generate};
use crate::models::batch::Source;
use crate::models::session::Session;
use crate::models::{Loaded, Options};
use crate::stats::{Quantiles, quantiles};
use crate::trace;
use crate::train::synthetic::synthetic_batch;
use rayon::prelude::*;
use serde::Serialize;
use std::time::Instant;

/// What to run and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub batch_size: usize,
    pub max_source_length: usize,
    /// Tokens of every answer: none ends earlier.
    pub max_new_tokens: usize,
    pub num_beams: usize,
    pub seed: u64,
    /// Runs before the counted ones.
    pub warmup: usize,
    pub repeat: usize,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Of whole runs: the encoder and every step.
    #[serde(flatten)]
    pub quantiles: Quantiles,
    /// Every counted run, in order.
    pub seconds: Vec<f64>,
    /// Runs of one token beside them: the encoder and the first step.
    pub first_token_seconds: Vec<f64>,
    /// A step after the first: the difference, shared out.
    pub step_seconds: Vec<f64>,
    pub step_median_s: f64,
    pub steps_per_second: f64,
    /// Over whole runs.
    pub samples_per_second: f64,
    /// Of the answers, over whole runs.
    pub tokens_per_second: f64,
    /// Floating-point operations of a whole run, as planned step by step.
    pub flops: u64,
    pub gflops_per_second: f64,
    /// Model FLOPs utilisation of a whole run: the FLOPs a second over the device's rate of products; none without
    /// limits.
    pub mfu: Option<f64>,
    /// Of whole runs; absent where `energy` says why.
    pub joules_per_sample: Option<f64>,
    /// Of the answers' tokens, over whole runs.
    pub joules_per_token: Option<f64>,
    /// Of all counted runs together, those of one token included.
    pub energy: Measurement,
    #[serde(flatten)]
    pub resident: Resident,
    /// Bytes of tensors: weights and caches, and the step arena.
    pub persistent_bytes: usize,
    pub arena_bytes: usize,
    /// Bytes that a step must read: weights, and keys and values in the middle of the run.
    pub step_bytes: StepBytes,
    /// The limits' bandwidth, or else what all threads of a processor together read from memory.
    pub memory_bytes_per_second: Option<f64>,
    /// The time that reading them takes, over the time of a step.
    pub share_of_limit: Option<f64>,
}

/// What a decoding step reads once.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StepBytes {
    pub weights: u64,
    pub cross_attention: u64,
    pub self_attention: u64,
}

impl StepBytes {
    /// Of a model whose answers are `tokens` long; beams share the keys of their input.
    fn of(loaded: &Loaded, source: &Source, work: Work) -> Self {
        let (model, parameters) = (&loaded.model, &loaded.parameters);
        let size = parameters.device().precision().storage().size() as u64;
        // Once per input, not per step.
        let once =
            |name: &str| name.contains(".encoder_attn.k_proj.") || name.contains(".encoder_attn.v_proj.");
        let read = |name: &str| name.contains("decoder.layers.") && !once(name);
        let layers: usize = parameters.entries.iter().filter(|e| read(&e.name)).map(|e| e.shape.len()).sum();
        let states = 2 * model.decoder_layers() * model.d_model();
        let rows = work.batch_size * work.num_beams;
        StepBytes {
            weights: (layers + model.head().0.len()) as u64 * size,
            cross_attention: (states * source.batch * source.padded) as u64 * size,
            self_attention: (states * rows * work.max_new_tokens / 2) as u64 * size,
        }
    }

    fn total(self) -> u64 {
        self.weights + self.cross_attention + self.self_attention
    }
}

/// Generates over one random batch, in turn one token and all of them; with `kernels`, once more kernel by kernel.
pub fn generation(
    loaded: Loaded,
    options: Options,
    work: Work,
    kernels: bool,
    meters: Meters,
) -> Result<(Measured, Kernels)> {
    if work.repeat == 0 || work.max_new_tokens < 2 {
        return Err(Error::usage("--repeat must be at least 1, and --max-new-tokens at least 2"));
    }
    let limits = loaded.model.limits();
    let (source, _) = synthetic_batch(&limits, work.batch_size, work.max_source_length, 1, work.seed)?;
    let whole = GenerateOptions {
        max_new_tokens: work.max_new_tokens,
        num_beams: work.num_beams,
        eos_token_id: Vec::new(),
        ..GenerateOptions::new(&limits)
    };
    whole.check(&limits)?;
    let first = GenerateOptions { max_new_tokens: 1, ..whole.clone() };
    let step_bytes = StepBytes::of(&loaded, &source, work);
    let on_cpu = loaded.parameters.device().name() == "cpu";
    let mut session = Session::new(loaded, options, generate::state)?;
    let mut timed = |options: &GenerateOptions| -> Result<f64> { run(&mut session, &source, options) };
    for _ in 0..work.warmup {
        timed(&first)?;
        timed(&whole)?;
    }
    let (mut seconds, mut first_token_seconds) = (Vec::new(), Vec::new());
    let window = Window::start(meters.sampler);
    for _ in 0..work.repeat {
        first_token_seconds.push(timed(&first)?);
        seconds.push(timed(&whole)?);
    }
    let energy = window.stop();
    let timings = match kernels {
        false => Kernels::new(),
        true => {
            trace::start_timing();
            timed(&whole)?;
            trace::stop_timing().into_iter().collect()
        }
    };
    let resident = meters.resident.found();
    let flops: u64 = session
        .walk(|session| generate(session, &source, &whole))?
        .iter()
        .map(|step| step.cost().flops.0)
        .sum();
    let steps = (work.max_new_tokens - 1) as f64;
    let step_seconds: Vec<f64> =
        seconds.iter().zip(&first_token_seconds).map(|(whole, first)| (whole - first) / steps).collect();
    let missing = || Error::internal("no run was measured");
    let step_median_s = quantiles(&step_seconds).ok_or_else(missing)?.median_s;
    let quantiles = quantiles(&seconds).ok_or_else(missing)?;
    // The time of the runs of one token is shared out to them, and so is the energy.
    let share = seconds.iter().sum::<f64>() / (seconds.iter().chain(&first_token_seconds).sum::<f64>());
    let samples = (work.batch_size * work.repeat) as f64;
    let joules_per_sample = energy.energy.map(|joules| share * joules.0 / samples);
    let rate = flops as f64 / quantiles.median_s;
    let device = session.real().device();
    let Used { persistent, arena } = device.used();
    let limit = meters.limits.map(|limits| limits.bandwidth);
    let memory_bytes_per_second = limit.or_else(|| on_cpu.then(reading_speed));
    let measured = Measured {
        quantiles,
        samples_per_second: work.batch_size as f64 / quantiles.median_s,
        tokens_per_second: (work.batch_size * work.max_new_tokens) as f64 / quantiles.median_s,
        flops,
        gflops_per_second: rate / 1e9,
        mfu: meters.limits.map(|limits| rate / limits.products(device.precision())),
        joules_per_sample,
        joules_per_token: joules_per_sample.map(|joules| joules / work.max_new_tokens as f64),
        energy,
        resident,
        persistent_bytes: persistent,
        arena_bytes: arena,
        seconds,
        first_token_seconds,
        step_seconds,
        step_median_s,
        steps_per_second: 1.0 / step_median_s,
        step_bytes,
        memory_bytes_per_second,
        share_of_limit: memory_bytes_per_second
            .map(|speed| step_bytes.total() as f64 / speed / step_median_s),
    };
    Ok((measured, timings))
}

fn run(session: &mut Session<State>, source: &Source, options: &GenerateOptions) -> Result<f64> {
    let start = Instant::now();
    let rows = generate(session, source, options)?;
    let elapsed = start.elapsed().as_secs_f64();
    match rows.iter().all(|row| row.len() == options.max_new_tokens + 1) {
        true => Ok(elapsed),
        false => Err(Error::internal("an answer ended before its last token")),
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
