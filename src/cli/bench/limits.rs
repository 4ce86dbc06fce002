//! `bench limits`: the rates that nothing on this device exceeds.

use super::super::global::Global;
use super::super::values::seconds;
use super::super::{machine, output};
use super::options::Baselines;
use crate::bench::baseline::Entry;
use crate::bench::limits::{Found, Rate, limits};
use crate::device::Device;
use crate::error::Error;
use crate::files;
use crate::stats::Quantiles;
use crate::table::{Column, Table, width};
use crate::units::{Format, Seconds, decimals};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

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
    if let Some(warning) = found.conditions.warning() {
        global.warn(warning);
    }
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
        let value = |rate: &Rate| match rate.unit {
            "s" => Seconds(rate.value).to_string(),
            "1/s" => format!("{} G/s", decimals(rate.value / 1e9, 1)),
            unit => format!("{} G{unit}", decimals(rate.value / 1e9, 1)),
        };
        let spread = |q: Quantiles| (q.p80_s - q.p20_s) / q.median_s;
        let columns = [
            Column::words("limit", |rate: &Rate| rate.name.clone()),
            Column::words("of what", |rate: &Rate| rate.how.clone()),
            Column::size("rate", value),
            Column::number("spread", Format::Percent, |rate: &Rate| rate.quantiles.map(spread)),
            Column::size("runs", |rate: &Rate| rate.runs),
        ];
        let table = Table::new(&columns, &self.found.rates).text(width());
        let device = &self.found.limits.device;
        write!(f, "limits of {device}, measured {}: the best of each rate's runs\n{table}", self.date)
    }
}
