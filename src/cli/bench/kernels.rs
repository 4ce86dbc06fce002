//! `bench kernels`: every kernel on the cases of the tests.

use super::super::global::Global;
use super::super::machine;
use super::options::Baselines;
use serde::Serialize;
use std::fmt;
use std::time::Duration;
use wattention::bench::baseline::Entry;
use wattention::bench::kernels::{Measured, measure};
use wattention::cases;
use wattention::device::Precision;
use wattention::error::Error;
use wattention::ops;
use wattention::units::Seconds;

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
    let mut kernels = Vec::new();
    for case in &cases {
        global.detail(format_args!("{}: {}", case.op, case.name));
        kernels.extend(measure(case, &device, warm_up, time)?);
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
        write!(f, "{} in {}, forward and backward", self.device, self.precision)?;
        let mut case = ("", "");
        for row in &self.kernels {
            if case != (row.op, row.case.as_str()) {
                case = (row.op, &row.case);
                write!(f, "\n{}, {}", row.op, row.case)?;
            }
            let q = &row.quantiles;
            let spread = format!("{} to {}", Seconds(q.p20_s), Seconds(q.p80_s));
            let rate = |count: u64| count as f64 / q.median_s / 1e9;
            write!(
                f,
                "\n  {:<30} {:>3} x {:>10} {spread:>24} {:>9.2} GFLOP/s {:>8.2} GB/s",
                row.kernel,
                row.calls,
                Seconds(q.median_s / row.calls as f64).to_string(),
                rate(row.flops),
                rate(row.bytes)
            )?;
        }
        Ok(())
    }
}
