//! `bench kernels`: every kernel on the cases of the tests.

use super::super::global::Global;
use super::super::machine;
use super::options::Baselines;
use super::report::{conditions, times};
use crate::bench::baseline::Entry;
use crate::bench::kernels::{Measured, measure};
use crate::cases;
use crate::device::Precision;
use crate::energy::{self, Sampler};
use crate::error::Error;
use crate::ops;
use crate::table::{Column, Table, width};
use crate::units::{Format, Quantity};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only the cases of this op
    #[arg(long, value_name = "OP")]
    op: Option<String>,

    /// Only the cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,

    /// Milliseconds of each case before it is measured
    #[arg(long, value_name = "MS", default_value_t = 25)]
    warmup_ms: u64,

    /// Milliseconds for which each case is measured
    #[arg(long, value_name = "MS", default_value_t = 100)]
    time_ms: u64,

    #[command(flatten)]
    baselines: Baselines,
}

#[derive(Serialize)]
struct Report {
    device: String,
    precision: Precision,
    threads: usize,
    kernels: Vec<Measured>,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    if let Some(op) = &args.op
        && !ops::ALL.iter().any(|known| known.name == op)
    {
        let names: Vec<&str> = ops::ALL.iter().map(|op| op.name).collect();
        return Err(Error::usage(format!("there is no op '{op}'; the ops are {}", names.join(", "))).into());
    }
    let mut cases = cases::all();
    cases.retain(|case| {
        args.op.as_deref().is_none_or(|op| case.op == op)
            && args.case.as_deref().is_none_or(|text| case.name.contains(text))
    });
    if cases.is_empty() {
        return Err(Error::usage("no case has such a name; leave out --case to see them all").into());
    }
    let device = global.open_device()?;
    let judge = args.baselines.open("kernels", &machine::device_label(&device))?;
    let [warm_up, time] = [args.warmup_ms, args.time_ms].map(Duration::from_millis);
    let sampler = Sampler::start(energy::open(&device))?;
    let mut kernels: Vec<Measured> = Vec::new();
    for case in &cases {
        global.detail(format_args!("{}: {}", case.op, case.name));
        let measured = measure(case, &device, warm_up, time, &sampler)?;
        if let Some(warning) = measured.first().and_then(|row| row.conditions.warning()) {
            global.warn(format_args!("{}, {}: {warning}", case.op, case.name));
        }
        kernels.extend(measured);
    }
    let report = Report {
        device: device.name(),
        precision: device.precision(),
        threads: rayon::current_num_threads(),
        kernels,
    };
    let precision = report.precision;
    let name = |row: &Measured| format!("{} {}, {}, {precision}", row.op, row.case, row.kernel);
    let entries =
        report.kernels.iter().map(|row| Entry { name: name(row), quantiles: row.quantiles }).collect();
    judge.finish(report, entries, global)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |count: u64, row: &Measured| count as f64 / row.quantiles.median_s / 1e9;
        let mut columns = vec![
            Column::words("op", |row: &Measured| row.op),
            Column::words("case", |row: &Measured| row.case.clone()),
            Column::words("kernel", |row: &Measured| row.kernel),
            Column::number("calls", Format::Integer, |row: &Measured| row.calls),
            Column::number("a call", Format::Each(Quantity::Time), |row: &Measured| {
                row.quantiles.median_s / row.calls as f64
            }),
        ];
        columns.extend(times(|row: &Measured| (row.quantiles, row.runs)));
        columns.push(Column::number("GFLOP/s", Format::Decimals(2), |row: &Measured| rate(row.flops, row)));
        columns.push(Column::number("GB/s", Format::Decimals(2), |row: &Measured| rate(row.bytes, row)));
        columns.extend(conditions(|row: &Measured| &row.conditions));
        let table = Table::new(&columns, &self.kernels);
        write!(f, "{} in {}, forward and backward\n{}", self.device, self.precision, table.text(width()))
    }
}
