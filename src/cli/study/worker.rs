//! One of the processes that share out a study's cells: claims those that no process works on, runs them, and leaves the
//! results of all.

use super::super::finetune::signals::Signals;
use super::super::global::Global;
use super::super::machine;
use super::budget::{Budget, SPENT};
use super::watch::Watch;
use crate::device::{Device, Precision};
use crate::energy::Sampler;
use crate::error::{Error, Result};
use crate::files;
use crate::files::lock::{Attempt, Claim, Contender, Lock};
use crate::study::cell::{self, Shared};
use crate::study::folder::{Folder, Registered};
use crate::study::grid::{CellPlan, in_keys};
use crate::study::published::Places;
use crate::study::results::{Cell, Results};
use crate::units::counted;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a worker without a free cell waits until it looks again: the first time, and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// Which finished cells are run again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Again {
    Nothing,
    /// Those measured on a disturbed machine.
    Disturbed,
    All,
}

/// How this worker's cells came to an end.
#[derive(Default)]
pub struct End {
    /// The signal, or the budget, that stopped the study.
    pub stopped: Option<i32>,
    /// Why the first of the cells that failed here did.
    pub failed: Option<Error>,
}

/// What came of one look at a cell.
enum Look {
    /// It is finished, or failed for this worker or for another one.
    Over,
    /// Another process works on it.
    Held(Claim),
}

pub struct Worker<'a> {
    pub folder: Folder,
    pub study: &'a Registered,
    /// What is said of the machine in the results.
    pub environment: Vec<(String, String)>,
    pub places: &'a Places,
    pub global: &'a Global,
    /// Grams of CO2 for a kilowatt-hour.
    pub intensity: Option<f64>,
    /// Whether cells that others work on are waited for, and taken over if their owners die.
    pub waits: bool,
    pub sampler: Sampler,
    pub signals: Signals,
    pub budget: Budget,
    pub devices: HashMap<Precision, Device>,
    pub contender: Contender,
    pub before: Before,
}

/// What there was of the cells when this worker began, by their names.
#[derive(Default)]
pub struct Before {
    /// `cell.json` of those that are to run again; None of one that was not finished.
    again: HashMap<String, Option<Vec<u8>>>,
    /// The failed attempts, which are made once more.
    failed: HashMap<String, String>,
}

impl Worker<'_> {
    /// Writes down which study this is, and looks at what there is of it.
    pub fn begin(&mut self, mine: &[CellPlan], again: Again) -> Result<()> {
        self.folder.create()?;
        let lock = self.folder.lock(&mut self.contender)?;
        self.folder.register(self.study, again != Again::Nothing)?;
        for plan in mine {
            let dir = self.folder.cell(&plan.name);
            if let Some(failed) = cell::failed(&dir, plan) {
                self.before.failed.insert(plan.name.clone(), failed.attempt);
            }
            let is_disturbed = |cells: Vec<Cell>| cells.iter().any(|cell| !cell.disturbed.is_empty());
            let runs_again = match again {
                Again::Nothing => false,
                Again::Disturbed => cell::finished(&dir, plan).is_some_and(is_disturbed),
                Again::All => true,
            };
            if runs_again {
                self.before.again.insert(plan.name.clone(), finished_file(&dir));
            }
        }
        drop(lock);
        self.keep().map(drop)
    }

    /// Runs every cell that is left and that no other worker takes.
    pub fn run_all(&mut self, mine: &[CellPlan]) -> Result<End> {
        let mut end = End::default();
        let mut open: Vec<&CellPlan> = mine.iter().collect();
        let mut pause = PAUSES[0];
        let mut seen: Option<Claim> = None;
        while !open.is_empty() {
            let (all, mut held) = (open.len(), Vec::new());
            for plan in std::mem::take(&mut open) {
                match self.look(plan, &mut end) {
                    Ok(Look::Over) => {}
                    Ok(Look::Held(claim)) => held.push((plan, claim)),
                    Err(Error::Interrupted(signal)) => return Ok(End { stopped: Some(signal), ..end }),
                    Err(error) => return Err(error),
                }
            }
            if let Some((plan, claim)) = held.first().filter(|_| !self.waits) {
                // An owner of another machine may have died: one that lives changes its claim.
                let lives = claim.holder.is_here() || seen.as_ref().is_some_and(|seen| seen != claim);
                if lives {
                    let what = format!("{} is at work there; it will finish the cell", claim.holder);
                    return Err(Error::output(self.folder.cell(&plan.name), what));
                }
                seen.get_or_insert(claim.clone());
            }
            open = held.iter().map(|(plan, _)| *plan).collect();
            if open.len() < all {
                pause = PAUSES[0];
            }
            if let Some((_, claim)) = held.first() {
                if pause == PAUSES[0] {
                    let count = counted(open.len(), "cell");
                    self.global
                        .note(format_args!("waiting for {count} of other workers ({} ...)", claim.holder));
                }
                std::thread::sleep(pause);
                pause = (2 * pause).min(PAUSES[1]);
            }
        }
        Ok(end)
    }

    /// Runs the cell if it is left, and free.
    fn look(&mut self, plan: &CellPlan, end: &mut End) -> Result<Look> {
        let at = self.study.cells.iter().position(|one| one.name == plan.name).unwrap_or(0);
        let title = format!("[{}/{}] {}", at + 1, self.study.cells.len(), plan.name);
        let dir = self.folder.cell(&plan.name);
        if self.is_over(plan, &dir, &title) {
            self.tidy(plan, &dir)?;
            return Ok(Look::Over);
        }
        self.may_go_on()?;
        files::create_dir(&dir)?;
        let lock = match self.contender.attempt(&dir)? {
            Attempt::Taken(lock) => Arc::new(lock),
            Attempt::Held(claim) => return Ok(Look::Held(claim)),
        };
        // Another worker may have finished it before the lock was free.
        if self.is_over(plan, &dir, &title) {
            if cell::finished(&dir, plan).is_some() {
                cell::tidy(&dir, plan)?;
            }
            return Ok(Look::Over);
        }
        if self.before.again.remove(&plan.name).is_some() {
            cell::forget(&dir)?;
        }
        match self.run_one(plan, &dir, &lock, title.clone()) {
            Ok(()) => {}
            Err(error @ (Error::Interrupted(_) | Error::Output { .. })) => {
                // Where nothing can be written, neither can a failure.
                return Err(error);
            }
            Err(error) => {
                self.global.warn(format_args!("{title} failed: {error}"));
                cell::fail(&dir, plan, &error)?;
                self.before.failed.remove(&plan.name);
                end.failed.get_or_insert(error);
            }
        }
        drop(lock);
        self.keep()?;
        Ok(Look::Over)
    }

    /// Whether nothing is left to do for a cell.
    fn is_over(&self, plan: &CellPlan, dir: &Path, title: &str) -> bool {
        if self.before.again.get(&plan.name).is_some_and(|before| *before == finished_file(dir)) {
            return false;
        }
        if cell::finished(dir, plan).is_some() {
            self.global.note(format_args!("{title}: already there"));
            return true;
        }
        match cell::failed(dir, plan) {
            Some(failed) if self.before.failed.get(&plan.name) != Some(&failed.attempt) => {
                self.global.warn(format_args!("{title} failed for another worker: {}", failed.error));
                true
            }
            _ => false,
        }
    }

    /// Finishes what a worker left that died when its cell was done.
    fn tidy(&mut self, plan: &CellPlan, dir: &Path) -> Result<()> {
        if cell::finished(dir, plan).is_some()
            && !cell::is_tidy(dir, plan)
            && let Attempt::Taken(_lock) = self.contender.attempt(dir)?
        {
            cell::tidy(dir, plan)?;
        }
        Ok(())
    }

    /// Fails with the signal, or the budget, that stops the study.
    fn may_go_on(&self) -> Result<()> {
        if self.budget.spent().is_some() {
            return Err(Error::Interrupted(SPENT));
        }
        self.signals.caught().map_or(Ok(()), |signal| Err(Error::Interrupted(signal)))
    }

    fn run_one(&self, plan: &CellPlan, dir: &Path, lock: &Arc<Lock>, title: String) -> Result<()> {
        let device = self
            .devices
            .get(&plan.precision)
            .ok_or_else(|| Error::internal("a device was opened for every precision"))?;
        let mut watch = Watch::new(self.global, &self.signals, &self.budget, title);
        let (beside, processor) = (self.folder.root(), machine::processor());
        let shared = Shared { sampler: &self.sampler, places: self.places, beside, processor };
        let found = cell::run(plan, dir, lock, device, &shared, &mut watch).map_err(in_keys)?;
        watch.finish(&found);
        Ok(())
    }

    /// Writes the results of all cells, whoever ran them: a study that is stopped leaves what it has, and of several
    /// workers the last one leaves everything.
    pub fn keep(&mut self) -> Result<Results> {
        let _lock = self.folder.lock(&mut self.contender)?;
        let mut results = self.folder.results(self.study, self.environment.clone());
        results.set_carbon_intensity(self.intensity);
        super::write(&results, self.folder.root())?;
        Ok(results)
    }
}

fn finished_file(dir: &Path) -> Option<Vec<u8>> {
    std::fs::read(dir.join("cell.json")).ok()
}
