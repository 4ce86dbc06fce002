//! `bench step`: a training step or a part of it, over a synthetic batch.

use super::super::choices::Recomputation;
use super::super::global::Global;
use super::super::machine;
use super::options::{Baselines, Ceiling, Known};
use super::{KernelRow, Subject, energy_line, rows};
use clap::ValueEnum;
use serde::Serialize;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use wattention::bench::Meters;
use wattention::bench::baseline::Entry;
use wattention::bench::step::{Measured, Work, step};
use wattention::device::Precision;
use wattention::energy::{self, Sampler};
use wattention::train::synthetic;
use wattention::units::{Bytes, Flops, Seconds};

#[derive(clap::Args, Debug)]
pub struct StepArgs {
    #[command(flatten)]
    subject: Subject,

    /// How much of a step to run
    #[arg(long, value_name = "MODE", default_value = "train")]
    mode: Mode,

    /// Examples of a step
    #[arg(long, value_name = "N", default_value = "1")]
    batch_size: NonZeroUsize,

    /// Tokens of every input
    #[arg(long, value_name = "L", default_value_t = 1024)]
    max_source_length: usize,

    /// Tokens of every target
    #[arg(long, value_name = "T", default_value_t = 128)]
    max_target_length: usize,

    #[command(flatten)]
    recomputation: Recomputation,

    /// Runs before the counted ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: usize,

    /// Counted runs
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeat: usize,

    /// Time one more run kernel by kernel
    #[arg(long)]
    kernels: bool,

    #[command(flatten)]
    ceiling: Ceiling,

    #[command(flatten)]
    baselines: Baselines,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Encoder,
    Forward,
    ForwardBackward,
    Train,
}

impl From<Mode> for synthetic::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Encoder => synthetic::Mode::Encoder,
            Mode::Forward => synthetic::Mode::Forward,
            Mode::ForwardBackward => synthetic::Mode::ForwardBackward,
            Mode::Train => synthetic::Mode::Train,
        }
    }
}

#[derive(Serialize)]
struct Report {
    model: PathBuf,
    mode: &'static str,
    batch_size: usize,
    max_source_length: usize,
    max_target_length: usize,
    device: String,
    precision: Precision,
    threads: usize,
    #[serde(flatten)]
    known: Known,
    #[serde(flatten)]
    measured: Measured,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<KernelRow>,
}

pub fn run(args: StepArgs, global: &Global) -> anyhow::Result<()> {
    let device = global.open_device()?;
    let label = machine::device_label(&device);
    let known = args.ceiling.open(&label, global)?;
    let judge = args.baselines.open("step", &label)?;
    let options = args.recomputation.options();
    let (model, loaded) = args.subject.open(&device, options, global)?;
    let mode = synthetic::Mode::from(args.mode);
    let work = Work {
        mode,
        batch_size: args.batch_size.get(),
        max_source_length: args.max_source_length,
        max_target_length: args.max_target_length,
        seed: global.seed,
        warmup: args.warmup,
        repeat: args.repeat,
    };
    let sampler = Sampler::start(energy::open(&device))?;
    let meters = Meters { sampler: &sampler, limits: known.limits.as_ref() };
    let (measured, kernels) = step(loaded, options, work, args.kernels, meters)?;
    let sizes = format!("{} x {} to {}", work.batch_size, work.max_source_length, work.max_target_length);
    let name = format!("{} {}, {sizes}, {}", model.display(), mode.name(), global.precision);
    let entry = Entry { name, quantiles: measured.quantiles };
    let report = Report {
        model,
        mode: mode.name(),
        batch_size: args.batch_size.get(),
        max_source_length: args.max_source_length,
        max_target_length: args.max_target_length,
        device: device.name(),
        precision: global.precision,
        threads: rayon::current_num_threads(),
        kernels: rows(kernels),
        known,
        measured,
    };
    judge.finish(report, vec![entry], global)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.measured;
        let q = &m.quantiles;
        writeln!(
            f,
            "{} {}, batch {}, {} tokens to {}, {} threads",
            self.model.display(),
            self.mode,
            self.batch_size,
            self.max_source_length,
            self.max_target_length,
            self.threads
        )?;
        writeln!(
            f,
            "time      {} median of {}, {} to {} (20th to 80th percentile)",
            Seconds(q.median_s),
            m.seconds.len(),
            Seconds(q.p20_s),
            Seconds(q.p80_s)
        )?;
        writeln!(
            f,
            "work      {} a run, {:.1} GFLOP/s, {:.2} samples/s, {:.0} tokens/s",
            Flops(m.flops),
            m.gflops_per_second,
            m.samples_per_second,
            m.tokens_per_second
        )?;
        match m.mfu {
            Some(mfu) => {
                writeln!(f, "mfu       {:.1} % of the rate of products of {}", 100.0 * mfu, self.known.says)?
            }
            None => writeln!(f, "mfu       {}", self.known.says)?,
        }
        writeln!(f, "energy    {}", energy_line(m.joules_per_sample, &m.energy))?;
        let resident = m
            .peak_bytes
            .map_or_else(|| "n/a: the system does not tell".to_string(), |b| Bytes(b).to_string());
        write!(
            f,
            "memory    {} weights and state, {} arena, {resident} resident at most",
            Bytes(m.persistent_bytes as u64),
            Bytes(m.arena_bytes as u64)
        )?;
        self.kernels.iter().try_for_each(|row| write!(f, "\n{row}"))
    }
}
