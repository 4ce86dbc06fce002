//! `failed.json`: why a cell could not be run; other workers of the study leave it, and the next command tries again.

use crate::error::{Error, Result};
use crate::files::{self, lock};
use crate::study::grid::CellPlan;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// The file of a cell that could not be run.
pub(super) const NAME: &str = "failed.json";

/// A cell that could not be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    plan: CellPlan,
    /// Differs from one attempt to the next.
    pub attempt: String,
    pub error: String,
    pub exit_code: i32,
}

/// The failure in `dir` if it was of a cell of exactly this plan.
pub fn failed(dir: &Path, plan: &CellPlan) -> Option<Failed> {
    let text = fs::read_to_string(dir.join(NAME)).ok()?;
    let failed: Failed = serde_json::from_str(&text).ok()?;
    (failed.plan == *plan).then_some(failed)
}

/// Writes down in `dir`, whose lock the caller has, why the cell could not be run.
pub fn fail(dir: &Path, plan: &CellPlan, error: &Error) -> Result<()> {
    let failed = Failed {
        plan: plan.clone(),
        attempt: lock::unique(),
        error: error.to_string(),
        exit_code: error.exit_code(),
    };
    files::write_json(&dir.join(NAME), &failed)
}

/// Removes what an earlier attempt wrote.
pub(super) fn forget(dir: &Path) -> Result<()> {
    files::remove(&dir.join(NAME))
}
