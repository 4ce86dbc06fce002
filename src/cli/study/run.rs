//! Runs the cells of a study that are left, beside other workers or alone, and says what came of them.

use super::super::energy;
use super::super::finetune::signals::Signals;
use super::super::global::Global;
use super::super::machine;
use super::budget::{Budget, SPENT};
use super::worker::{Again, Before, End, Worker};
use super::{StudyArgs, open};
use crate::error::Error;
use crate::files::lock::Contender;
use crate::study::folder::{Folder, Registered};
use crate::study::grid::{CellPlan, in_keys};
use crate::study::published::Places;
use crate::study::report::sentences;
use crate::study::results::{Results, text};
use crate::table::width;
use crate::units::counted;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// Sentences of the summary that are printed at the end.
const SENTENCES: usize = 3;

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(flatten)]
    results: &'a Results,
    report: &'a Path,
}

/// Runs those of `mine`, cells of `study`, that are not done, and writes the results of all.
pub fn run(
    args: &StudyArgs,
    study: &Registered,
    mine: &[CellPlan],
    places: &Places,
    global: &Global,
) -> anyhow::Result<()> {
    let folder = Folder::new(&args.definition.output_dir);
    let mut devices = HashMap::new();
    for plan in mine {
        if !devices.contains_key(&plan.precision) {
            // The device is said once.
            let quiet = global.quiet || !devices.is_empty();
            let global = Global { precision: plan.precision, quiet, ..global.clone() };
            let device = global.open_device()?;
            plan.weights.iter().try_for_each(|weights| weights.check(&device)).map_err(in_keys)?;
            devices.insert(plan.precision, device);
        }
    }
    let Some(device) = mine.first().and_then(|plan| devices.get(&plan.precision)) else {
        return Err(Error::internal("a study without cells").into());
    };
    let sampler = energy::open(device)?;
    let budget = Budget::new(args.max_hours, args.max_kwh, device)?;
    let environment = environment(&device.name(), &sampler.name());
    let signals = Signals::catch().map_err(|e| Error::internal(format!("signals cannot be caught: {e}")))?;
    let again = match (args.overwrite_output_dir, args.redo_disturbed) {
        (true, _) => Again::All,
        (false, true) => Again::Disturbed,
        (false, false) => Again::Nothing,
    };
    let mut worker = Worker {
        folder,
        study,
        environment,
        places,
        global,
        intensity: args.carbon_intensity,
        waits: args.cell.is_none(),
        sampler,
        signals,
        budget,
        devices,
        contender: Contender::new(Duration::from_secs(args.lease)),
        before: Before::default(),
    };
    worker.begin(mine, again)?;
    let end = worker.run_all(mine)?;
    let mut results = worker.keep()?;
    if args.cell.is_some() {
        let is_mine = |name: &String| mine.iter().any(|plan| plan.name == *name);
        results.cells.retain(|cell| is_mine(&cell.run));
        results.failed.retain(|failure| is_mine(&failure.cell));
        results.left.retain(is_mine);
    }
    tell(args, &worker, &results, end)
}

/// The table, the place of the report, what failed and what is left.
fn tell(args: &StudyArgs, worker: &Worker, results: &Results, end: End) -> anyhow::Result<()> {
    let global = worker.global;
    let report = worker.folder.root().join("report.html");
    global.print(&Outcome { results, report: &report }, text(&results.cells, width()))?;
    for sentence in sentences(results, SENTENCES) {
        global.note(sentence);
    }
    global.note(format_args!("report: {}", report.display()));
    if args.open {
        open::page(&report, global);
    }
    if !results.left.is_empty() {
        let why = worker.budget.spent().unwrap_or_else(|| "the study was stopped".into());
        global.warn(format_args!(
            "{why}; the same command runs the {} left: {}",
            counted(results.left.len(), "cell"),
            results.left.join(", ")
        ));
    }
    match (end.stopped, end.failed, results.failed.first()) {
        (Some(signal), ..) if signal != SPENT => Err(Error::Interrupted(signal).into()),
        (_, Some(error), Some(first)) => Err(anyhow::Error::new(error).context(format!(
            "{} failed and will be tried again by the same command, first {}",
            counted(results.failed.len(), "cell"),
            first.cell
        ))),
        _ => Ok(()),
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
