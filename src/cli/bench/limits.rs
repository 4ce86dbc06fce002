//! `bench limits`: the rates that nothing on this device exceeds.

use super::super::global::Global;
use super::super::values::seconds;
use super::super::{machine, output};
use super::options::Baselines;
use super::table::table;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use wattention::bench::baseline::Entry;
use wattention::bench::limits::{Found, Rate, limits};
use wattention::device::Device;
use wattention::error::Error;
use wattention::files;
use wattention::units::Seconds;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Seconds for which each rate is measured; three runs at least
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds::<Duration>)]
    seconds: Duration,

    /// Write the limits where --limits of other commands reads them
    #[arg(long, value_name = "FILE.json")]
    save: Option<PathBuf>,

    #[command(flatten)]
    baselines: Baselines,
}

/// The limits, with when they were measured.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    found: Found,
    date: String,
    version: &'static str,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    args.save.as_deref().map_or(Ok(()), output::check_file)?;
    let device = global.open_device()?;
    let label = machine::device_label(&device);
    let judge = args.baselines.open("limits", &label)?;
    let name = super::base_name(&device);
    let found = limits(|precision| Device::open(&name, precision), &label, args.seconds)?;
    let report = Report { found, date: machine::today(), version: env!("CARGO_PKG_VERSION") };
    if let Some(path) = &args.save {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|e| Error::internal(format!("limits are not JSON: {e}")))?;
        files::write_text(path, &(text + "\n"))?;
    }
    let entry = |rate: &Rate| Some(Entry { name: rate.name.clone(), quantiles: rate.quantiles? });
    let entries = report.found.rates.iter().filter_map(entry).collect();
    judge.finish(report, entries, global)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "limits of {}, measured {}: the best of each rate's runs",
            self.found.limits.device, self.date
        )?;
        let cells = |rate: &Rate| {
            let value = match rate.unit {
                "s" => Seconds(rate.value).to_string(),
                unit => format!("{:.1} G{unit}", rate.value / 1e9),
            };
            let spread = rate.quantiles.map_or_else(
                || "n/a".into(),
                |q| format!("{:.0} %", 100.0 * (q.p80_s - q.p20_s) / q.median_s),
            );
            vec![
                rate.name.clone(),
                rate.how.clone(),
                value.replace("G1/s", "G/s"),
                spread,
                rate.runs.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = self.found.rates.iter().map(cells).collect();
        table(f, &["limit", "of what", "rate", "spread", "runs"], &rows, 2)
    }
}
