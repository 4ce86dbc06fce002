//! Runs the cells of a study one after the other, and keeps what they found.

use super::super::energy;
use super::super::finetune::signals::Signals;
use super::super::global::Global;
use super::super::machine;
use super::budget::{Budget, SPENT};
use super::watch::Watch;
use super::{StudyArgs, open};
use crate::device::{Device, Precision};
use crate::energy::Sampler;
use crate::error::{Error, Result};
use crate::files::{self, lock::Lock};
use crate::study::cell::{self, Shared};
use crate::study::grid::{CellPlan, Grid, in_keys};
use crate::study::published::Places;
use crate::study::report::sentences;
use crate::study::results::{Cell, Failure, Results, text};
use crate::table::width;
use crate::units::counted;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// Sentences of the summary that are printed at the end.
const SENTENCES: usize = 3;

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(flatten)]
    results: &'a Results,
    report: &'a Path,
}

/// Which finished cells are run again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    Nothing,
    /// Those measured on a disturbed machine.
    Disturbed,
    All,
}

/// How the cells came to an end.
#[derive(Default)]
struct End {
    /// The signal, or the budget, that stopped the study.
    stopped: Option<i32>,
    /// Why the first of the cells that failed did.
    failed: Option<Error>,
}

/// The study's folder and what its cells share.
struct Study<'a> {
    out: &'a Path,
    places: &'a Places,
    global: &'a Global,
    /// Whether the report is opened at the end.
    open: bool,
    intensity: Option<f64>,
    sampler: Sampler,
    signals: Signals,
    budget: Budget,
    devices: HashMap<Precision, Device>,
}

pub fn run(
    args: &StudyArgs,
    grid: &Grid,
    cells: &[CellPlan],
    places: &Places,
    global: &Global,
) -> anyhow::Result<()> {
    let out = args.output_dir.as_path();
    let mut devices = HashMap::new();
    for plan in cells {
        if !devices.contains_key(&plan.precision) {
            // The device is said once.
            let quiet = global.quiet || !devices.is_empty();
            let global = Global { precision: plan.precision, quiet, ..global.clone() };
            devices.insert(plan.precision, global.open_device()?);
        }
    }
    let Some(device) = cells.first().and_then(|plan| devices.get(&plan.precision)) else {
        return Err(Error::internal("a study without cells").into());
    };
    let sampler = energy::open(device)?;
    let budget = Budget::new(args.max_hours, args.max_kwh, device)?;
    files::create_dir(&out.join("cells"))?;
    let _lock = Lock::take(out)?;
    files::remove_leftovers(out)?;
    let mut results = Results {
        title: grid.title.clone(),
        environment: environment(&device.name(), &sampler.name()),
        left: cells.iter().map(|plan| plan.name.clone()).collect(),
        ..Results::default()
    };
    let signals = Signals::catch().map_err(|e| Error::internal(format!("signals cannot be caught: {e}")))?;
    let (open, intensity) = (args.open, args.carbon_intensity);
    let study = Study { out, places, global, open, intensity, sampler, signals, budget, devices };
    let again = match (args.overwrite_output_dir, args.redo_disturbed) {
        (true, _) => Again::All,
        (false, true) => Again::Disturbed,
        (false, false) => Again::Nothing,
    };
    let end = study.run_all(cells, again, &mut results)?;
    study.tell(&results, end)
}

impl Study<'_> {
    /// Runs every cell that is not done.
    fn run_all(&self, cells: &[CellPlan], again: Again, results: &mut Results) -> Result<End> {
        let mut end = End::default();
        for (i, plan) in cells.iter().enumerate() {
            let title = format!("[{}/{}] {}", i + 1, cells.len(), plan.name);
            let dir = self.out.join("cells").join(&plan.name);
            let mut finished = cell::finished(&dir, plan);
            let is_disturbed = |cells: &Vec<Cell>| cells.iter().any(|cell| !cell.disturbed.is_empty());
            let runs_again = match again {
                Again::Nothing => false,
                Again::Disturbed => finished.as_ref().is_some_and(is_disturbed),
                Again::All => true,
            };
            if runs_again {
                cell::forget(&dir)?;
                finished = None;
            }
            let found = match finished {
                Some(found) => {
                    self.global.note(format_args!("{title}: already there"));
                    Ok(found)
                }
                None => self.run_one(plan, &dir, title.clone()),
            };
            match found {
                Ok(found) => results.cells.extend(found),
                Err(Error::Interrupted(signal)) => {
                    self.keep(results)?;
                    return Ok(End { stopped: Some(signal), ..end });
                }
                // Nothing more could be written either.
                Err(error @ Error::Output { .. }) => return Err(error),
                Err(error) => {
                    self.global.warn(format_args!("{title} failed: {error}"));
                    let (cell, exit_code) = (plan.name.clone(), error.exit_code());
                    results.failed.push(Failure { cell, error: error.to_string(), exit_code });
                    end.failed = end.failed.or(Some(error));
                }
            }
            results.left.retain(|name| *name != plan.name);
            self.keep(results)?;
        }
        Ok(end)
    }

    fn run_one(&self, plan: &CellPlan, dir: &Path, title: String) -> Result<Vec<Cell>> {
        if self.budget.spent().is_some() {
            return Err(Error::Interrupted(SPENT));
        }
        if let Some(signal) = self.signals.caught() {
            return Err(Error::Interrupted(signal));
        }
        let device = self
            .devices
            .get(&plan.precision)
            .ok_or_else(|| Error::internal("a device was opened for every precision"))?;
        let mut watch = Watch::new(self.global, &self.signals, &self.budget, title);
        let shared = Shared { sampler: &self.sampler, places: self.places, beside: self.out };
        let found = cell::run(plan, dir, device, &shared, &mut watch).map_err(in_keys)?;
        watch.finish(&found);
        Ok(found)
    }

    /// All files, after every cell: a study that is stopped leaves what it has.
    fn keep(&self, results: &Results) -> Result<()> {
        super::write(results, self.out, self.intensity)
    }

    /// The table, the place of the report, what failed and what is left.
    fn tell(&self, results: &Results, end: End) -> anyhow::Result<()> {
        let report = self.out.join("report.html");
        self.global.print(&Outcome { results, report: &report }, text(&results.cells, width()))?;
        for sentence in sentences(results, SENTENCES) {
            self.global.note(sentence);
        }
        self.global.note(format_args!("report: {}", report.display()));
        if self.open {
            open::page(&report, self.global);
        }
        if !results.left.is_empty() {
            let why = self.budget.spent().unwrap_or_else(|| "the study was stopped".into());
            self.global.warn(format_args!(
                "{why}; the same command runs the {} left: {}",
                counted(results.left.len(), "cell"),
                results.left.join(", ")
            ));
        }
        match (end.stopped, end.failed) {
            (Some(signal), _) if signal != SPENT => Err(Error::Interrupted(signal).into()),
            (_, Some(error)) => Err(anyhow::Error::new(error).context(format!(
                "{} failed and will be tried again by the same command, first {}",
                counted(results.failed.len(), "cell"),
                results.failed.first().map_or("", |failure| &failure.cell)
            ))),
            _ => Ok(()),
        }
    }
}

/// What the results were made on and with.
fn environment(device: &str, energy: &str) -> Vec<(String, String)> {
    let pairs = [
        ("device", device.to_string()),
        ("processor", machine::processor()),
        ("energy", energy.to_string()),
        ("threads", rayon::current_num_threads().to_string()),
        ("system", std::env::consts::OS.to_string()),
        ("wattention", env!("CARGO_PKG_VERSION").to_string()),
        ("command", std::env::args().collect::<Vec<_>>().join(" ")),
    ];
    pairs.map(|(key, value)| (key.to_string(), value)).into()
}
