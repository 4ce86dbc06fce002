//! What the benchmarks are asked in the same words: how long, against which limits, beside which baseline.

use super::super::global::Global;
use super::super::values::{percent, seconds};
use super::super::{machine, output};
use crate::bench::baseline::{Baseline, Comparison, Entry};
use crate::bench::repeat::{Flush, Schedule};
use crate::device::{Device, Precision};
use crate::error::Result;
use crate::files;
use crate::limits::{Limits, Origin};
use crate::reading::Reading;
use crate::settings::named;
use crate::table::Table;
use serde::Serialize;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::Duration;

/// For how long each row is measured, and with which caches.
#[derive(clap::Args, Debug)]
pub struct Repetition {
    /// Seconds of each row before it is measured
    #[arg(long, value_name = "S", default_value = "0.2", value_parser = seconds::<Duration>)]
    warmup_seconds: Duration,

    /// Seconds for which each row is measured; three runs at least
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds::<Duration>)]
    seconds: Duration,

    /// Leave in the caches what the run before left there, instead of writing a larger buffer between runs
    #[arg(long)]
    no_flush: bool,
}

impl Repetition {
    pub fn schedule(&self) -> Schedule {
        Schedule { warm_up: self.warmup_seconds, time: self.seconds }
    }

    pub fn flush(&self, device: &Device) -> Result<Option<Flush>> {
        if self.no_flush { Ok(None) } else { Flush::new(device) }
    }

    /// Whether the caches are cleared between runs.
    pub fn flushes(&self) -> bool {
        !self.no_flush
    }
}

/// In which number formats each row is measured.
#[derive(clap::Args, Debug)]
pub struct Formats {
    /// Number formats: fp32, tf32, tf32x3, bf16 [default: --precision]
    #[arg(long, value_name = "FORMAT,..", value_delimiter = ',', value_parser = named::<Precision>())]
    precisions: Vec<Precision>,
}

impl Formats {
    /// The device asked for, opened once in each format.
    pub fn open(&self, global: &Global) -> anyhow::Result<Vec<Device>> {
        let device = global.open_device()?;
        if self.precisions.is_empty() {
            return Ok(vec![device]);
        }
        let name = super::base_name(&device);
        let formats = self.each(global).into_iter();
        Ok(formats.map(|format| Device::open(&name, format)).collect::<Result<_>>()?)
    }

    /// Each of them once.
    pub fn each(&self, global: &Global) -> Vec<Precision> {
        let mut formats: Vec<Precision> = Vec::new();
        for &format in &self.precisions {
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        if formats.is_empty() { vec![global.precision] } else { formats }
    }
}

/// What the rates are compared with.
#[derive(clap::Args, Debug)]
pub struct Ceiling {
    /// The device's limits, as `bench limits --save` writes them [default: of a GPU that has a name here, its data
    /// sheet's]
    #[arg(long, value_name = "FILE.json")]
    limits: Option<PathBuf>,
}

/// The limits that percentages are of, and their description.
#[derive(Serialize)]
pub struct Known {
    #[serde(skip)]
    pub limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits_origin: Option<Origin>,
    /// The device whose limits these are, or why there are none.
    #[serde(rename = "limits")]
    pub says: String,
}

impl Ceiling {
    /// The limits of the device that goes by the name `device`.
    pub fn open(&self, device: &str, global: &Global) -> Result<Known> {
        let limits = match &self.limits {
            Some(path) => Some(Limits::read(path)?),
            None => Limits::described_in(device),
        };
        let measured_elsewhere =
            |limits: &&Limits| limits.origin == Origin::Measured && limits.device != device;
        if let Some(limits) = limits.as_ref().filter(measured_elsewhere) {
            global.warn(format_args!(
                "the limits are of '{}' and this is '{device}': percentages of them say little; measure this one with \
                 `bench limits --save FILE`",
                limits.device
            ));
        }
        let says = match &limits {
            Some(limits) => limits.device.clone(),
            None => "n/a: measure them with `bench limits --save FILE` and give --limits FILE".into(),
        };
        Ok(Known { limits_origin: limits.as_ref().map(|limits| limits.origin), limits, says })
    }
}

impl Known {
    /// A share of the limits, or why it is not known.
    pub fn share(&self, share: Option<f64>) -> Reading {
        Reading::or_why(share, self.says.trim_start_matches("n/a: "))
    }

    /// What stands below a table: what percentages are of, and what its marks mean.
    pub fn notes(&self, table: &Table) -> Vec<String> {
        let says = &self.says;
        let limits = match self.limits_origin {
            Some(Origin::Measured) => {
                Some(format!("of limit: the least time at the measured limits of {says}"))
            }
            Some(Origin::Described) => Some(format!("of limit: the least time by the data sheet of {says}")),
            None => None,
        };
        limits.into_iter().chain(table.notes()).collect()
    }
}

/// Measurements kept, and judged by those that were.
#[derive(clap::Args, Debug)]
pub struct Baselines {
    /// Keep what is measured under this name
    #[arg(long, value_name = "NAME")]
    save_baseline: Option<String>,

    /// Judge every row by what was kept under this name; the exit code is 1 where one is slower
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,

    /// Where baselines lie
    #[arg(long, value_name = "DIR", default_value = ".wattention/baselines")]
    baseline_dir: PathBuf,

    /// Percent up to which a difference of the medians is none
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    tolerance: f64,
}

/// Baselines, looked up before the work.
pub struct Judge {
    bench: &'static str,
    device: String,
    save: Option<PathBuf>,
    against: Option<(String, Baseline)>,
    tolerance: f64,
}

/// A report with its rows' verdicts.
#[derive(Serialize)]
struct Judged<R> {
    #[serde(flatten)]
    report: R,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

impl Baselines {
    /// Those of `bench` on the device that goes by the name `device`.
    pub fn open(&self, bench: &'static str, device: &str) -> Result<Judge> {
        let path = |name: &String| Baseline::path(&self.baseline_dir, name, bench);
        let save = self.save_baseline.as_ref().map(path).transpose()?;
        if let Some(path) = &save {
            path.parent().map_or(Ok(()), files::create_dir)?;
            output::check_file(path)?;
        }
        let against = self
            .baseline
            .as_ref()
            .map(|name| -> Result<_> { Ok((name.clone(), Baseline::load(&path(name)?, bench, device)?)) });
        Ok(Judge {
            bench,
            device: device.into(),
            save,
            against: against.transpose()?,
            tolerance: self.tolerance / 100.0,
        })
    }
}

impl Judge {
    /// Prints `report` with the verdicts on its rows, and keeps them where that was asked for.
    pub fn finish<R: Serialize + Display>(
        self,
        report: R,
        rows: Vec<Entry>,
        global: &Global,
    ) -> anyhow::Result<()> {
        let compared = self.against.as_ref().map(|(name, kept)| kept.judge(name, &rows, self.tolerance));
        let comparison = compared.transpose()?;
        if let Some(path) = &self.save {
            let Judge { bench, device, .. } = &self;
            let (bench, device) = ((*bench).to_string(), device.clone());
            let (version, date) = (env!("CARGO_PKG_VERSION").into(), machine::today());
            Baseline { bench, device, version, date, rows }.save(path)?;
            global.note(format_args!("baseline: {}", path.display()));
        }
        let judged = Judged { report, comparison };
        global.print(&judged, &judged)?;
        judged.comparison.map_or(Ok(()), |comparison| Ok(comparison.outcome()?))
    }
}

impl<R: Display> Display for Judged<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.report)?;
        self.comparison.iter().try_for_each(|comparison| write!(f, "\n\n{comparison}"))
    }
}
