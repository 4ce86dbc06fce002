//! Joules of every phase of a step, in two independent ways that must agree with the whole.

mod in_place;
mod replayed;
#[cfg(test)]
mod tests;

pub use in_place::{InPlace, in_place};
pub use replayed::{Repetition, Replayed, replayed};

use super::rows::Key;
use serde::{Deserialize, Serialize};

/// What one phase of a step takes; of the whole step where the key is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    #[serde(flatten)]
    pub key: Key,
    /// Seconds of one step.
    pub time_s: f64,
    /// Mean while it runs.
    pub power_w: f64,
    pub energy_j: f64,
    /// Absent where nothing says how far off the energy may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error_j: Option<f64>,
    /// Less what the device takes when it does nothing; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above_idle_j: Option<f64>,
    /// Whether the energy is told from nothing, and from that of other phases.
    pub resolved: bool,
    /// More than this it does not take, resolved or not; absent where nothing says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most_j: Option<f64>,
}

/// What was measured, and why something was not.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Energy {
    /// The sensor; absent where none was read.
    pub sensor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<InPlace>,
    /// Why a figure is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Energy {
    /// Joules of the phase that `key` names, by the better way that has them: the repeated one.
    pub fn of(&self, key: &Key) -> Option<&Phase> {
        let replayed = self.replayed.iter().flat_map(|r| &r.phases);
        let in_place = self.in_place.iter().flat_map(|i| &i.phases);
        replayed.chain(in_place).find(|phase| phase.key == *key)
    }

    /// Joules of the whole step.
    pub fn step(&self) -> Option<&Phase> {
        self.replayed.as_ref().map(|r| &r.step).or(self.in_place.as_ref().map(|i| &i.step))
    }
}
