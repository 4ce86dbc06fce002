//! `doctor --selftest`: every kernel on every case, against the CPU.

use super::super::global::Global;
use crate::cases::{self, check};
use crate::device::{Device, Engine, Precision};
use crate::error::{Error, Result};
use crate::ops;
use crate::ops::attention::{block_sparse_attention, dense_attention, window_attention};
use serde::Serialize;
use std::fmt;

#[derive(Serialize)]
struct Report {
    device: String,
    precision: Precision,
    cases: Vec<check::Comparison>,
    failed: usize,
    /// Why launches could not be recorded as graphs.
    refused_graphs: Vec<String>,
    /// Whether an exchange by NCCL can be part of a graph, where that could be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange_in_graph: Option<bool>,
}

/// Runs all cases on the device asked for; an error when one of them differs or cannot be a graph.
pub fn run(global: &Global) -> anyhow::Result<()> {
    let device = global.open_device()?;
    if device.name() == "cpu" {
        let text = "--selftest compares an executor with the CPU: give --device cuda or --device sim";
        return Err(Error::usage(text).into());
    }
    let mut compared = Vec::new();
    for case in cases::all() {
        global.detail(format_args!("{}: {}", case.op, case.name));
        compared.push(check::compare(&case, &device)?);
    }
    compared.extend(with_other_engines(&device, global)?);
    let failed = compared.iter().filter(|c| !c.passes()).count();
    let exchange_in_graph = cases::exchange::check(&device)?;
    let report = Report {
        device: device.name(),
        precision: device.precision(),
        cases: compared,
        failed,
        refused_graphs: device.refused_graphs(),
        exchange_in_graph,
    };
    global.print(&report, &report)?;
    match failed {
        0 => match report.refused_graphs.first() {
            None if report.exchange_in_graph == Some(false) => {
                let what = format!("an exchange by NCCL cannot be part of a graph on {}", report.device);
                Err(Error::internal(what).into())
            }
            None => Ok(()),
            Some(why) => {
                Err(Error::internal(format!("steps cannot be graphs on {}: {why}", report.device)).into())
            }
        },
        n => {
            let all = report.cases.len();
            Err(Error::internal(format!("{n} of {all} cases differ from the CPU on {}", report.device))
                .into())
        }
    }
}

/// Ops of which a device has several kernels.
const SEVERAL: [&str; 3] =
    [window_attention::OP.name, block_sparse_attention::OP.name, dense_attention::OP.name];

/// Their cases, by the kernels that the device does not take by itself.
fn with_other_engines(device: &Device, global: &Global) -> Result<Vec<check::Comparison>> {
    let Some(own) = device.engine().filter(|_| device.precision() == Precision::Bf16) else {
        return Ok(Vec::new());
    };
    let mut compared = Vec::new();
    for engine in Engine::ALL.into_iter().filter(|&engine| engine != own) {
        if device.set_engine(engine).is_err() {
            continue;
        }
        for mut case in cases::all().into_iter().filter(|case| SEVERAL.contains(&case.op)) {
            case.name = format!("{}, {engine}", case.name);
            global.detail(format_args!("{}: {}", case.op, case.name));
            compared.push(check::compare(&case, device)?);
        }
    }
    device.set_engine(own)?;
    Ok(compared)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} in {}, against the CPU in fp32", self.device, self.precision)?;
        writeln!(f, "{:<24} {:>5} {:>12} {:>10} {:>9}", "op", "cases", "worst error", "of bound", "time")?;
        for op in ops::ALL {
            let own: Vec<_> = self.cases.iter().filter(|c| c.op == op.name).collect();
            let share = |c: &check::Comparison| c.error / c.bound;
            // NaN first: it is the worst.
            let worst = own
                .iter()
                .max_by(|a, b| share(a).is_nan().cmp(&share(b).is_nan()).then(share(a).total_cmp(&share(b))));
            let Some(worst) = worst else { continue };
            let time: f64 = own.iter().map(|c| c.time.0).sum();
            let (error, percent) = (worst.error, 100.0 * share(worst));
            writeln!(
                f,
                "{:<24} {:>5} {error:>12.1e} {percent:>9.1}% {:>7.1} ms",
                op.name,
                own.len(),
                time * 1e3
            )?;
        }
        for c in self.cases.iter().filter(|c| !c.passes()) {
            let why = if c.repeats { "off by" } else { "differs between two runs, off by" };
            writeln!(f, "FAILED {}, {}: {why} {:.1e}, allowed {:.1e}", c.op, c.case, c.error, c.bound)?;
        }
        for why in &self.refused_graphs {
            writeln!(f, "FAILED steps cannot be graphs: {why}")?;
        }
        match self.exchange_in_graph {
            Some(true) => writeln!(f, "NCCL, one rank: its exchange is part of a graph")?,
            Some(false) => writeln!(f, "FAILED NCCL, one rank: its exchange is not part of a graph")?,
            None => {}
        }
        write!(f, "{} cases, {} failed", self.cases.len(), self.failed)
    }
}
