//! A study's folder, which several processes and machines may share: what its cells are, which are done, and what they
//! come to together.

use super::cell;
use super::grid::CellPlan;
use super::results::{Failure, Results};
use crate::error::{Error, Result};
use crate::files;
use crate::files::lock::{self, Claim, Contender, Lock};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// `study.json`: the cells of the study in their order, by which results are put together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    pub title: String,
    pub cells: Vec<CellPlan>,
}

/// What has become of a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Finished,
    Failed { error: String, exit_code: i32 },
    Running { process: u32, host: String },
    Left,
}

/// The folder that a study writes to.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn new(root: &Path) -> Self {
        Folder { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The run directory of a cell.
    pub fn cell(&self, name: &str) -> PathBuf {
        self.root.join("cells").join(name)
    }

    /// Makes the folder.
    pub fn create(&self) -> Result<()> {
        files::create_dir(&self.root.join("cells"))
    }

    /// Takes the lock of the folder itself, under which its results are written; others have it for moments only.
    pub fn lock(&self, contender: &mut Contender) -> Result<Lock> {
        let lock = contender.wait(&self.root)?;
        files::remove_leftovers(&self.root)?;
        Ok(lock)
    }

    /// The study that was written down here last, if one was.
    pub fn registered(&self) -> Option<Registered> {
        let text = std::fs::read_to_string(self.root.join("study.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Writes down which study this is. The caller has the folder's lock.
    ///
    /// Fails while others are at work on another one there, or on this one if `alone`.
    pub fn register(&self, study: &Registered, alone: bool) -> Result<()> {
        let before = self.registered();
        let is_same = before.as_ref().is_some_and(|before| before.cells == study.cells);
        if (alone || !is_same)
            && let Some((name, claim)) = before
                .iter()
                .flat_map(|before| &before.cells)
                .find_map(|plan| Some((&plan.name, lock::holder(&self.cell(&plan.name))?)))
        {
            let what = match is_same {
                true => format!(
                    "{} is at work there, on {name}: cells are run again by one process; start it first, and the \
                     others without that flag",
                    claim.holder
                ),
                false => format!(
                    "{} is at work there on another study; wait for it or choose another folder",
                    claim.holder
                ),
            };
            return Err(Error::output(&self.root, what));
        }
        match before.as_ref() == Some(study) {
            true => Ok(()),
            false => files::write_json(&self.root.join("study.json"), study),
        }
    }

    /// Who is at work on a cell.
    pub fn holder(&self, plan: &CellPlan) -> Option<Claim> {
        lock::holder(&self.cell(&plan.name))
    }

    pub fn state(&self, plan: &CellPlan) -> State {
        let dir = self.cell(&plan.name);
        if cell::finished(&dir, plan).is_some() {
            return State::Finished;
        }
        if let Some(claim) = self.holder(plan) {
            return State::Running { process: claim.holder.process, host: claim.holder.host };
        }
        match cell::failed(&dir, plan) {
            Some(failed) => State::Failed { error: failed.error, exit_code: failed.exit_code },
            None => State::Left,
        }
    }

    /// What all cells come to, whoever ran them, in the order of the study, at the carbon intensity that is known.
    pub fn results(&self, study: &Registered, environment: Vec<(String, String)>) -> Results {
        let known = Results::read(&self.root.join("results.json")).ok();
        let mut results = Results { title: study.title.clone(), environment, ..Results::default() };
        for plan in &study.cells {
            let dir = self.cell(&plan.name);
            if let Some(found) = cell::finished(&dir, plan) {
                results.cells.extend(found);
            } else if let Some(cell::Failed { error, exit_code, .. }) = cell::failed(&dir, plan) {
                results.failed.push(Failure { cell: plan.name.clone(), error, exit_code });
            } else {
                results.left.push(plan.name.clone());
            }
        }
        results.set_carbon_intensity(known.and_then(|results| results.carbon_intensity()));
        results
    }
}
