//! `bench gemm`: matrix products alone.

use super::super::global::Global;
use super::super::machine;
use super::options::{Baselines, Ceiling, Formats, Known, Repetition};
use super::table::table;
use serde::Serialize;
use std::fmt;
use wattention::bench::baseline::Entry;
use wattention::bench::gemm::{self, Row, Size, product};
use wattention::units::Seconds;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Products y = x Wᵀ of x [M, K] and W [N, K] [default: those of LED-base's layers, over 1024 tokens and in decoding]
    #[arg(long, value_name = "MxNxK,..", value_delimiter = ',', value_parser = size)]
    sizes: Vec<Size>,

    #[command(flatten)]
    formats: Formats,

    #[command(flatten)]
    repetition: Repetition,

    #[command(flatten)]
    ceiling: Ceiling,

    #[command(flatten)]
    baselines: Baselines,
}

fn size(text: &str) -> Result<Size, String> {
    Size::parse(text).ok_or_else(|| "give three numbers above 0, such as 1024x768x3072".into())
}

#[derive(Serialize)]
struct Report {
    device: String,
    seed: u64,
    /// Whether the caches were cleared between runs.
    flushed: bool,
    #[serde(flatten)]
    known: Known,
    rows: Vec<Row>,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let devices = args.formats.open(global)?;
    let label = machine::device_label(&devices[0]);
    let known = args.ceiling.open(&label, global)?;
    let judge = args.baselines.open("gemm", &label)?;
    let sizes = if args.sizes.is_empty() { gemm::LED_BASE.to_vec() } else { args.sizes };
    let mut rows: Vec<Row> = Vec::new();
    for device in &devices {
        let flush = args.repetition.flush(device)?;
        for &size in &sizes {
            global.detail(size);
            let schedule = args.repetition.schedule();
            rows.push(product(device, size, global.seed, schedule, flush.as_ref(), known.limits.as_ref())?);
        }
    }
    for row in &rows {
        row.warnings.iter().for_each(|warning| global.warn(format_args!("{}: {warning}", name(row))));
    }
    let entries = rows.iter().map(|row| Entry { name: name(row), quantiles: row.quantiles }).collect();
    let flushed = args.repetition.flushes();
    let report = Report { device: label, seed: global.seed, flushed, known, rows };
    judge.finish(report, entries, global)
}

fn name(row: &Row) -> String {
    format!("{} {}", row.size, row.precision)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caches = if self.flushed { "cleared" } else { "warm" };
        write!(f, "{}, caches {caches} between runs", self.device)?;
        let header =
            ["M x N x K", "format", "median", "20 % to 80 %", "runs", "GFLOP/s", "GB/s", "of limit", "by"];
        let cells = |row: &Row| {
            let q = &row.quantiles;
            vec![
                row.size.to_string(),
                row.precision.to_string(),
                Seconds(q.median_s).to_string(),
                format!("{} to {}", Seconds(q.p20_s), Seconds(q.p80_s)),
                row.runs.to_string(),
                format!("{:.1}", row.gflops_per_second),
                format!("{:.1}", row.gigabytes_per_second),
                super::share(row.share_of_limit),
                row.bound.map_or("", |bound| bound.name()).into(),
            ]
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(cells).collect();
        table(f, &header, &rows, 2)?;
        write!(f, "\n{}", self.known)
    }
}
