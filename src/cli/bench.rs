//! `bench`: throughput with its spread.

mod generate;
mod kernels;

use super::choices::{self, Recomputation};
use super::global::Global;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use wattention::bench::step::{Kernels, Measured, Work, step};
use wattention::device::{Device, Precision};
use wattention::models::{self, Loaded, Options};
use wattention::train::synthetic;
use wattention::units::{Bytes, Flops, Seconds};

/// Measure throughput on synthetic data, with its spread
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// A training step, or a part of it
    Step(StepArgs),
    /// Every kernel on the small inputs that the tests use: how its time spreads, and what a launch costs
    Kernels(kernels::Args),
    /// Greedy decoding or beam search, and what of a step's time memory explains
    Generate(generate::GenerateArgs),
}

/// What is measured.
#[derive(clap::Args, Debug)]
struct Subject {
    /// Model directory in HF layout, or the name of a repository in the Hugging Face cache: ORG/NAME[@REVISION]
    #[arg(long, value_name = "DIR_OR_NAME", required_unless_present = "config")]
    model: Option<PathBuf>,

    /// A config.json alone: weights are drawn at random
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    config: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct StepArgs {
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
    measured: Measured,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<KernelRow>,
}

#[derive(Serialize)]
struct KernelRow {
    phase: &'static str,
    pass: wattention::trace::Pass,
    kernel: &'static str,
    calls: u64,
    seconds: f64,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    match args.what {
        What::Step(args) => run_step(args, global),
        What::Generate(args) => generate::run(args, global),
        What::Kernels(args) => kernels::run(args, global),
    }
}

fn run_step(args: StepArgs, global: &Global) -> anyhow::Result<()> {
    let device = global.open_device()?;
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
    let (measured, kernels) = step(loaded, options, work, args.kernels)?;
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
        measured,
    };
    global.print(&report, &report)
}

impl Subject {
    /// The model of that name, or one of random weights for the configuration, and where it came from.
    fn open(&self, device: &Device, options: Options, global: &Global) -> anyhow::Result<(PathBuf, Loaded)> {
        Ok(match (&self.model, &self.config) {
            (Some(name), _) => {
                (name.clone(), models::load(&choices::model_dir(name, global)?, device, options)?)
            }
            (None, Some(config)) => (config.clone(), models::random(config, device, options, global.seed)?),
            (None, None) => anyhow::bail!("give --model DIR or --config FILE"),
        })
    }
}

/// Kernels, the costliest first.
fn rows(kernels: Kernels) -> Vec<KernelRow> {
    let mut rows: Vec<KernelRow> = kernels
        .into_iter()
        .map(|((phase, kernel), timing)| KernelRow {
            phase: phase.label,
            pass: phase.pass,
            kernel,
            calls: timing.calls,
            seconds: timing.time.as_secs_f64(),
        })
        .collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    rows
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
            "work      {} a run, {:.1} GFLOP/s, {:.2} samples/s",
            Flops(m.flops),
            m.gflops_per_second,
            m.samples_per_second
        )?;
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

impl fmt::Display for KernelRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pass = format!("{:?}", self.pass).to_lowercase();
        let time = Seconds(self.seconds).to_string();
        write!(f, "{:<20} {pass:<9} {:<28} {:>5} {time:>10}", self.phase, self.kernel, self.calls)
    }
}
