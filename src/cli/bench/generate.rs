//! `bench generate`: greedy decoding or beam search over a synthetic batch.

use super::super::global::Global;
use super::options::Known;
use super::scan::{ROWS, Row, Scan, Sizes, absent_or, peak, seconds, times};
use super::{KernelRow, Subject, energy_line, memory_line, mfu_line, rows};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use wattention::bench::Meters;
use wattention::bench::generate::{Measured, Work, generation};
use wattention::device::{Device, Precision};
use wattention::energy::joules;
use wattention::models::Options;
use wattention::stats::Quantiles;
use wattention::train::Lengths;
use wattention::units::{Bytes, Flops, Joules, Seconds};

#[derive(clap::Args, Debug)]
#[command(after_help = ROWS)]
pub struct GenerateArgs {
    #[command(flatten)]
    scan: Scan,

    /// Inputs of a batch
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1")]
    batch_size: Vec<NonZeroUsize>,

    /// Tokens of every input
    #[arg(long, value_name = "L,..", value_delimiter = ',', default_value = "1024")]
    max_source_length: Vec<NonZeroUsize>,

    /// Tokens of every answer, 2 or more: none ends earlier
    #[arg(long, value_name = "T", default_value_t = 64)]
    max_new_tokens: usize,

    /// Beams of every input
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1")]
    num_beams: Vec<NonZeroUsize>,

    /// Runs before the counted ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: usize,

    /// Counted runs
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeat: usize,
}

/// The work of one row.
#[derive(Clone, Copy, PartialEq)]
struct Generation {
    work: Work,
    kernels: bool,
}

#[derive(Serialize)]
pub struct GenerationRow {
    model: PathBuf,
    batch_size: usize,
    max_source_length: usize,
    max_new_tokens: usize,
    num_beams: usize,
    precision: Precision,
    #[serde(flatten)]
    measured: Measured,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<KernelRow>,
}

pub fn run(args: GenerateArgs, global: &Global) -> anyhow::Result<()> {
    let mut all: Vec<Generation> = Vec::new();
    for num_beams in &args.num_beams {
        for batch_size in &args.batch_size {
            for length in &args.max_source_length {
                let work = Work {
                    batch_size: batch_size.get(),
                    max_source_length: length.get(),
                    max_new_tokens: args.max_new_tokens,
                    num_beams: num_beams.get(),
                    seed: global.seed,
                    warmup: args.warmup,
                    repeat: args.repeat,
                };
                all.push(Generation { work, kernels: args.scan.kernels });
            }
        }
    }
    args.scan.run(&all, global)
}

impl Sizes for Generation {
    type Row = GenerationRow;
    const BENCH: &'static str = "generate";

    fn name(&self, model: &Path, precision: Precision) -> String {
        let Work { batch_size, max_source_length, max_new_tokens, num_beams, .. } = self.work;
        let sizes = format!("{batch_size} x {max_source_length} to {max_new_tokens}");
        format!("{}, {sizes}, {num_beams} beams, {precision}", model.display())
    }

    fn batch_size(&self) -> usize {
        self.work.batch_size
    }

    fn lengths(&self) -> Lengths {
        Lengths { source: self.work.max_source_length, target: 0 }
    }

    fn measure(
        &self,
        subject: &Subject,
        device: &Device,
        meters: Meters,
        global: &Global,
    ) -> anyhow::Result<GenerationRow> {
        let options = Options::default();
        let (model, loaded) = subject.open(device, options, global)?;
        let (measured, kernels) = generation(loaded, options, self.work, self.kernels, meters)?;
        Ok(GenerationRow {
            model,
            batch_size: self.work.batch_size,
            max_source_length: self.work.max_source_length,
            max_new_tokens: self.work.max_new_tokens,
            num_beams: self.work.num_beams,
            precision: device.precision(),
            measured,
            kernels: rows(kernels),
        })
    }
}

impl Row for GenerationRow {
    fn quantiles(&self) -> Quantiles {
        self.measured.quantiles
    }

    fn kernels(&self) -> &[KernelRow] {
        &self.kernels
    }

    fn cells(&self) -> Vec<(&'static str, String)> {
        let m = &self.measured;
        let sizes = [
            ("model", self.model.display().to_string()),
            ("format", self.precision.to_string()),
            ("beams", self.num_beams.to_string()),
            ("batch", self.batch_size.to_string()),
            ("source", self.max_source_length.to_string()),
            ("answer", self.max_new_tokens.to_string()),
        ];
        let found = [
            ("step", Seconds(m.step_median_s).to_string()),
            ("tokens/s", format!("{:.1}", m.tokens_per_second)),
            ("of memory", super::share(m.share_of_limit)),
            ("mfu", super::share(m.mfu)),
            ("a sample", absent_or(m.joules_per_sample.map(|each| joules(Joules(each))))),
            ("a token", absent_or(m.joules_per_token.map(|each| joules(Joules(each))))),
            ("resident", peak(&m.resident)),
        ];
        sizes.into_iter().chain(times(&m.quantiles)).chain(found).collect()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let m = &self.measured;
        let sizes = [
            ("model", self.model.display().to_string()),
            ("precision", self.precision.to_string()),
            ("num_beams", self.num_beams.to_string()),
            ("batch_size", self.batch_size.to_string()),
            ("max_source_length", self.max_source_length.to_string()),
            ("max_new_tokens", self.max_new_tokens.to_string()),
        ];
        let found = [
            ("step_median_s", m.step_median_s.to_string()),
            ("steps_per_second", m.steps_per_second.to_string()),
            ("samples_per_second", m.samples_per_second.to_string()),
            ("tokens_per_second", m.tokens_per_second.to_string()),
            ("flops", m.flops.to_string()),
            ("gflops_per_second", m.gflops_per_second.to_string()),
            ("mfu", absent_or(m.mfu)),
            ("share_of_limit", absent_or(m.share_of_limit)),
            ("joules_per_sample", absent_or(m.joules_per_sample)),
            ("joules_per_token", absent_or(m.joules_per_token)),
            ("energy_note", m.energy.note.clone()),
            ("peak_bytes", absent_or(m.resident.peak_bytes)),
            ("persistent_bytes", m.persistent_bytes.to_string()),
            ("arena_bytes", m.arena_bytes.to_string()),
        ];
        sizes.into_iter().chain(seconds(&m.quantiles, m.seconds.len())).chain(found).collect()
    }

    fn lines(&self, f: &mut fmt::Formatter<'_>, known: &Known, threads: usize) -> fmt::Result {
        let m = &self.measured;
        let q = &m.quantiles;
        writeln!(
            f,
            "{} generation, batch {}, {} tokens to {}, {} beams, {threads} threads",
            self.model.display(),
            self.batch_size,
            self.max_source_length,
            self.max_new_tokens,
            self.num_beams,
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
            "step      {}, {:.1} steps/s after the first, {:.1} tokens/s with it",
            Seconds(m.step_median_s),
            m.steps_per_second,
            m.tokens_per_second
        )?;
        if let (Some(speed), Some(share)) = (m.memory_bytes_per_second, m.share_of_limit) {
            let b = m.step_bytes;
            writeln!(
                f,
                "limit     {:.0} % of it in a step: {} of weights, {} of keys and values, read at {}/s",
                100.0 * share,
                Bytes(b.weights),
                Bytes(b.cross_attention + b.self_attention),
                Bytes(speed as u64)
            )?;
        }
        writeln!(
            f,
            "work      {} a run, {:.1} GFLOP/s, {:.2} samples/s",
            Flops(m.flops),
            m.gflops_per_second,
            m.samples_per_second
        )?;
        writeln!(f, "mfu       {}", mfu_line(m.mfu, known))?;
        writeln!(f, "energy    {}", energy_line([m.joules_per_sample, m.joules_per_token], &m.energy))?;
        write!(f, "memory    {}", memory_line(&m.resident, m.persistent_bytes, m.arena_bytes))
    }
}
