//! `bench generate`: greedy decoding or beam search over a synthetic batch.

use super::super::global::Global;
use super::super::machine;
use super::options::{Baselines, Ceiling, Known};
use super::{KernelRow, Subject};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use wattention::bench::Meters;
use wattention::bench::baseline::Entry;
use wattention::bench::generate::{Measured, Work, generation};
use wattention::device::Precision;
use wattention::energy::{self, Sampler};
use wattention::models::Options;
use wattention::units::{Bytes, Seconds};

#[derive(clap::Args, Debug)]
pub struct GenerateArgs {
    #[command(flatten)]
    subject: Subject,

    /// Inputs of a batch
    #[arg(long, value_name = "N", default_value = "1")]
    batch_size: NonZeroUsize,

    /// Tokens of every input
    #[arg(long, value_name = "L", default_value_t = 1024)]
    max_source_length: usize,

    /// Tokens of every answer: none ends earlier
    #[arg(long, value_name = "T", default_value_t = 64)]
    max_new_tokens: usize,

    /// Beams of every input
    #[arg(long, value_name = "N", default_value = "1")]
    num_beams: NonZeroUsize,

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

#[derive(Serialize)]
struct Report {
    model: PathBuf,
    batch_size: usize,
    max_source_length: usize,
    max_new_tokens: usize,
    num_beams: usize,
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

pub fn run(args: GenerateArgs, global: &Global) -> anyhow::Result<()> {
    let device = global.open_device()?;
    let label = machine::device_label(&device);
    let known = args.ceiling.open(&label, global)?;
    let judge = args.baselines.open("generate", &label)?;
    let options = Options::default();
    let (model, loaded) = args.subject.open(&device, options, global)?;
    let work = Work {
        batch_size: args.batch_size.get(),
        max_source_length: args.max_source_length,
        max_new_tokens: args.max_new_tokens,
        num_beams: args.num_beams.get(),
        seed: global.seed,
        warmup: args.warmup,
        repeat: args.repeat,
    };
    let sampler = Sampler::start(energy::open(&device))?;
    let meters = Meters { sampler: &sampler, limits: known.limits.as_ref() };
    let (measured, kernels) = generation(loaded, options, work, args.kernels, meters)?;
    let sizes = format!("{} x {} to {}", work.batch_size, work.max_source_length, work.max_new_tokens);
    let name = format!("{}, {sizes}, {} beams, {}", model.display(), work.num_beams, global.precision);
    let entry = Entry { name, quantiles: measured.quantiles };
    let report = Report {
        model,
        batch_size: work.batch_size,
        max_source_length: work.max_source_length,
        max_new_tokens: work.max_new_tokens,
        num_beams: work.num_beams,
        device: device.name(),
        precision: global.precision,
        threads: rayon::current_num_threads(),
        known,
        measured,
        kernels: super::rows(kernels),
    };
    judge.finish(report, vec![entry], global)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.measured;
        let q = &m.quantiles;
        writeln!(
            f,
            "{} generation, batch {}, {} tokens to {}, {} beams, {} threads",
            self.model.display(),
            self.batch_size,
            self.max_source_length,
            self.max_new_tokens,
            self.num_beams,
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
        write!(
            f,
            "step      {}, {:.1} steps/s after the first, {:.1} tokens/s with it",
            Seconds(m.step_median_s),
            m.steps_per_second,
            m.tokens_per_second
        )?;
        write!(f, "\nenergy    {}", super::energy_line(m.joules_per_sample, &m.energy))?;
        if let (Some(speed), Some(share)) = (m.memory_bytes_per_second, m.share_of_limit) {
            let b = m.step_bytes;
            write!(
                f,
                "\nlimit     {:.0} % of it: {} of weights, {} of keys and values, read at {}/s",
                100.0 * share,
                Bytes(b.weights),
                Bytes(b.cross_attention + b.self_attention),
                Bytes(speed as u64)
            )?;
        }
        self.kernels.iter().try_for_each(|row| write!(f, "\n{row}"))
    }
}
