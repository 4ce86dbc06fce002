//! `bench step`: a training step or a part of it, over a synthetic batch.

use super::super::choices::Recomputation;
use super::super::global::Global;
use super::super::values::named;
use super::options::Known;
use super::scan::{ROWS, Row, Scan, Sizes, absent_or, peak, seconds, times};
use super::{KernelRow, Subject, energy_line, memory_line, mfu_line, rows};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use wattention::bench::Meters;
use wattention::bench::step::{Measured, Work, step};
use wattention::device::{Device, Precision};
use wattention::energy::joules;
use wattention::models::Options;
use wattention::stats::Quantiles;
use wattention::train::Lengths;
use wattention::train::synthetic::Mode;
use wattention::units::{Flops, Joules, Seconds};

#[derive(clap::Args, Debug)]
#[command(after_help = ROWS)]
pub struct StepArgs {
    #[command(flatten)]
    scan: Scan,

    /// How much of a step to run: encoder, forward, forward-backward, train
    #[arg(long, value_name = "MODE,..", value_delimiter = ',', default_value = "train", value_parser = named::<Mode>)]
    mode: Vec<Mode>,

    /// Examples of a step
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1")]
    batch_size: Vec<NonZeroUsize>,

    /// Tokens of every input
    #[arg(long, value_name = "L,..", value_delimiter = ',', default_value = "1024")]
    max_source_length: Vec<NonZeroUsize>,

    /// Tokens of every target
    #[arg(long, value_name = "T", default_value = "128")]
    max_target_length: NonZeroUsize,

    #[command(flatten)]
    recomputation: Recomputation,

    /// Runs before the counted ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: usize,

    /// Counted runs
    #[arg(long, value_name = "N", default_value = "5")]
    repeat: NonZeroUsize,
}

/// The work of one row.
#[derive(Clone, Copy, PartialEq)]
struct Step {
    work: Work,
    options: Options,
    kernels: bool,
}

#[derive(Serialize)]
pub struct StepRow {
    model: PathBuf,
    mode: &'static str,
    batch_size: usize,
    max_source_length: usize,
    max_target_length: usize,
    precision: Precision,
    #[serde(flatten)]
    measured: Measured,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<KernelRow>,
}

pub fn run(args: StepArgs, global: &Global) -> anyhow::Result<()> {
    let (options, kernels) = (args.recomputation.options(), args.scan.kernels);
    let mut steps: Vec<Step> = Vec::new();
    for &mode in &args.mode {
        for batch_size in &args.batch_size {
            for length in &args.max_source_length {
                let work = Work {
                    mode,
                    batch_size: batch_size.get(),
                    max_source_length: length.get(),
                    max_target_length: args.max_target_length.get(),
                    seed: global.seed,
                    warmup: args.warmup,
                    repeat: args.repeat.get(),
                };
                steps.push(Step { work, options, kernels });
            }
        }
    }
    args.scan.run(&steps, global)
}

impl Sizes for Step {
    type Row = StepRow;
    const BENCH: &'static str = "step";

    fn name(&self, model: &Path, precision: Precision) -> String {
        let Work { mode, batch_size, max_source_length, max_target_length, .. } = self.work;
        let sizes = format!("{batch_size} x {max_source_length} to {max_target_length}");
        format!("{} {}, {sizes}, {precision}", model.display(), mode.name())
    }

    fn batch_size(&self) -> usize {
        self.work.batch_size
    }

    fn lengths(&self) -> Lengths {
        Lengths { source: self.work.max_source_length, target: self.work.max_target_length }
    }

    fn measure(
        &self,
        subject: &Subject,
        device: &Device,
        meters: Meters,
        global: &Global,
    ) -> anyhow::Result<StepRow> {
        let (model, loaded) = subject.open(device, self.options, global)?;
        let (measured, kernels) = step(loaded, self.options, self.work, self.kernels, meters)?;
        Ok(StepRow {
            model,
            mode: self.work.mode.name(),
            batch_size: self.work.batch_size,
            max_source_length: self.work.max_source_length,
            max_target_length: self.work.max_target_length,
            precision: device.precision(),
            measured,
            kernels: rows(kernels),
        })
    }
}

impl Row for StepRow {
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
            ("mode", self.mode.into()),
            ("format", self.precision.to_string()),
            ("batch", self.batch_size.to_string()),
            ("source", self.max_source_length.to_string()),
            ("target", self.max_target_length.to_string()),
        ];
        let found = [
            ("samples/s", format!("{:.2}", m.samples_per_second)),
            ("tokens/s", format!("{:.0}", m.tokens_per_second)),
            ("GFLOP/s", format!("{:.1}", m.gflops_per_second)),
            ("mfu", super::share(m.mfu)),
            ("a sample", absent_or(m.joules_per_sample.map(|each| joules(Joules(each))))),
            ("resident", peak(&m.resident)),
        ];
        sizes.into_iter().chain(times(&m.quantiles)).chain(found).collect()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let m = &self.measured;
        let sizes = [
            ("model", self.model.display().to_string()),
            ("mode", self.mode.into()),
            ("precision", self.precision.to_string()),
            ("batch_size", self.batch_size.to_string()),
            ("max_source_length", self.max_source_length.to_string()),
            ("max_target_length", self.max_target_length.to_string()),
        ];
        let found = [
            ("samples_per_second", m.samples_per_second.to_string()),
            ("tokens_per_second", m.tokens_per_second.to_string()),
            ("flops", m.flops.to_string()),
            ("gflops_per_second", m.gflops_per_second.to_string()),
            ("mfu", absent_or(m.mfu)),
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
            "{} {}, batch {}, {} tokens to {}, {threads} threads",
            self.model.display(),
            self.mode,
            self.batch_size,
            self.max_source_length,
            self.max_target_length,
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
        writeln!(f, "mfu       {}", mfu_line(m.mfu, known))?;
        writeln!(f, "energy    {}", energy_line([m.joules_per_sample, m.joules_per_token], &m.energy))?;
        write!(f, "memory    {}", memory_line(&m.resident, m.persistent_bytes, m.arena_bytes))
    }
}
