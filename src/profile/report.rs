//! A profile as it is printed, kept and compared.

use super::energy::Energy;
use super::measure::Planned;
use super::rows::{self, Key, Row};
use super::runs::Runs;
use crate::disturbance::Conditions;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::stats::{Quantiles, quantiles};
use crate::units::Seconds;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Where the times of a profile come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Measured,
    /// The least times that the limits allow: nothing was run.
    Predicted,
}

/// A profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    pub origin: Origin,
    /// What was run and where: model, sizes, device, precision, threads.
    pub work: Map<String, Value>,
    /// The limits that percentages are of.
    pub limits: Option<Limits>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_limits: Option<String>,
    /// Whole runs; none in a prediction.
    pub runs: Runs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Planned>,
    /// Conditions of the counted runs; empty in a prediction.
    #[serde(default)]
    pub conditions: Conditions,
    /// By phase, pass and kernel, in order of the first launch.
    pub rows: Vec<Row>,
    pub energy: Energy,
}

/// How rows are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    Phase,
    Kernel,
    /// By phase, and within each by kernel.
    Both,
}

impl Profile {
    /// Reads what `--save` or `--json` wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, &e))?;
        let profile: Profile = serde_json::from_str(&text).map_err(|e| {
            let what = format!("this is no profile ({e}); `profile ... --save FILE` writes one");
            Error::data(path.display(), what)
        })?;
        match profile.rows.iter().flat_map(|row| &row.seconds).all(|s| s.is_finite() && *s >= 0.0) {
            true => Ok(profile),
            false => Err(Error::data(path.display(), "a time is not a number of seconds")),
        }
    }

    /// Rows by phase, the longest first, each with its kernels where they are asked for; or by kernel.
    pub fn groups(&self, by: By) -> Vec<(Row, Vec<Row>)> {
        let mut groups: Vec<(Row, Vec<Row>)> = match by {
            By::Kernel => {
                rows::grouped(&self.rows, Key::kernel).into_iter().map(|row| (row, Vec::new())).collect()
            }
            By::Phase | By::Both => {
                let parts = |key: &Key| match by {
                    By::Both => longest_first(
                        self.rows.iter().filter(|row| row.key.phase() == *key).cloned().collect(),
                    ),
                    _ => Vec::new(),
                };
                let phases = rows::grouped(&self.rows, Key::phase);
                phases
                    .into_iter()
                    .map(|row| (parts(&row.key), row))
                    .map(|(parts, row)| (row, parts))
                    .collect()
            }
        };
        groups.sort_by(|a, b| b.0.time().0.total_cmp(&a.0.time().0));
        groups
    }

    /// All launches of a run together, and the host's work between them.
    pub fn total(&self) -> Row {
        rows::total(&self.rows)
    }

    /// The host's work between launches; empty in a prediction.
    pub fn host(&self) -> Row {
        rows::total(&self.rows.iter().filter(|row| row.key.is_host()).cloned().collect::<Vec<_>>())
    }

    /// A whole run as it is without a profiler.
    pub fn untraced(&self) -> Option<Quantiles> {
        quantiles(&self.runs.untraced_s)
    }

    /// The time of the untraced run that neither phases nor host explain; negative where tracing made them longer.
    pub fn residual(&self) -> Option<Seconds> {
        Some(Seconds(self.untraced()?.median_s - self.total().time().0))
    }
}

fn longest_first(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| b.time().0.total_cmp(&a.time().0));
    rows
}
