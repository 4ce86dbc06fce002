//! `bench gemm`: matrix products alone.

use super::super::global::Global;
use super::super::{machine, output};
use super::options::{Baselines, Ceiling, Formats, Known, Repetition};
use super::report::{Measured, Report, conditions, of_limit, times};
use crate::bench::gemm::{self, Row, Size, product};
use crate::energy::{self, Sampler};
use crate::nn::Weights;
use crate::settings::{self, named};
use crate::stats::Quantiles;
use crate::table::Column;
use crate::units::Format;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Products y = x Wᵀ of x [M, K] and W [N, K] [default: those of LED-base's layers, over 1024 tokens and in decoding]
    #[arg(long, value_name = "MxNxK,..", value_delimiter = ',', value_parser = size)]
    sizes: Vec<Size>,

    #[command(flatten)]
    formats: Formats,

    /// How W is kept: as the format says (stored), or in 8 bits (int8)
    #[arg(long, value_name = "HOW,..", value_delimiter = ',', default_value = "stored", value_parser = named::<Weights>())]
    weights: Vec<Weights>,

    #[command(flatten)]
    repetition: Repetition,

    #[command(flatten)]
    ceiling: Ceiling,

    #[command(flatten)]
    baselines: Baselines,

    /// Write the rows as comma-separated values
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
}

fn size(text: &str) -> Result<Size, String> {
    Size::parse(text).ok_or_else(|| "give three numbers above 0, such as 1024x768x3072".into())
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    args.csv.as_deref().map_or(Ok(()), output::check_file)?;
    let devices = args.formats.open(global)?;
    let label = machine::device_label(&devices[0]);
    let known = args.ceiling.open(&label, global)?;
    let judge = args.baselines.open("gemm", &label)?;
    let sizes = if args.sizes.is_empty() { gemm::LED_BASE.to_vec() } else { args.sizes };
    let mut rows: Vec<Row> = Vec::new();
    for device in &devices {
        let flush = args.repetition.flush(device)?;
        let sampler = Sampler::start(energy::open(device))?;
        for &weights in &args.weights {
            for &size in &sizes {
                global.detail(size);
                let schedule = args.repetition.schedule();
                let (flush, limits) = (flush.as_ref(), known.limits.as_ref());
                rows.push(product(device, (size, weights), global.seed, schedule, flush, limits, &sampler)?);
            }
        }
    }
    let flushed = args.repetition.flushes();
    let report = Report { device: label, seed: global.seed, flushed, known, rows };
    report.finish(args.csv.as_deref(), judge, global)
}

impl Measured for Row {
    fn name(&self) -> String {
        let weights = if self.weights == Weights::Int8 { ", int8 weights" } else { "" };
        format!("{} {}{weights}", self.size, self.precision)
    }

    fn quantiles(&self) -> Quantiles {
        self.quantiles
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn columns(known: &Known) -> Vec<Column<'_, Row>> {
        let mut columns = vec![
            Column::words("M x N x K", |row: &Row| row.size.to_string()),
            Column::file("m", |row: &Row| row.size.m),
            Column::file("n", |row: &Row| row.size.n),
            Column::file("k", |row: &Row| row.size.k),
            Column::words("format", |row: &Row| row.precision.to_string()).key("precision"),
            Column::words("weights", |row: &Row| settings::name(&row.weights)).key("weights"),
        ];
        columns.extend(times(|row: &Row| (row.quantiles, row.runs)));
        columns.extend([
            Column::file("flops", |row: &Row| row.flops),
            Column::file("bytes", |row: &Row| row.bytes),
            Column::number("GFLOP/s", Format::Decimals(1), |row: &Row| row.gflops_per_second)
                .key("gflops_per_second"),
            Column::number("GB/s", Format::Decimals(1), |row: &Row| row.gigabytes_per_second)
                .key("gigabytes_per_second")
                .rank(2),
        ]);
        columns.extend(of_limit(known, |row: &Row| (row.share_of_limit, row.bound)));
        columns.extend(conditions(|row: &Row| &row.conditions));
        columns
    }
}
