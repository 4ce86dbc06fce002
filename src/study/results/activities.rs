//! A cell's time and energy by what its run was doing.

use crate::energy::{Activity, RunEnergy};
use crate::reading::Reading;
use serde::{Deserialize, Serialize};

/// What one activity took.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Taken {
    pub seconds: Reading,
    pub energy_joules: Reading,
}

/// Every moment of a cell's run, which belongs to one activity: they sum to the whole.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Activities {
    /// Reading and tokenising, and waiting for batches.
    pub data: Taken,
    /// Forward, backward and optimizer.
    pub training: Taken,
    /// Losses and predictions with their scores, in training and at its end.
    pub evaluation: Taken,
    /// Saving: what it holds the run up.
    pub checkpoint: Taken,
    /// Reading and planning the model, and whatever else.
    pub rest: Taken,
    pub whole: Taken,
}

impl Activities {
    /// The activities of a run, whose every activity has one of these names.
    pub fn of(run: &RunEnergy) -> Self {
        let of = |activities: &[Activity]| {
            let spent = run.together(activities);
            let why = spent.why.as_deref().unwrap_or("it did not happen");
            Taken {
                seconds: Reading::measured(spent.time.0),
                energy_joules: Reading::or_why(spent.energy.map(|energy| energy.0), why),
            }
        };
        Activities {
            data: of(&[Activity::Data]),
            training: of(&[Activity::Training]),
            evaluation: of(&[Activity::Evaluation, Activity::Generation]),
            checkpoint: of(&[Activity::Checkpoint]),
            rest: of(&[Activity::Rest]),
            whole: Taken {
                seconds: Reading::measured(run.whole.time.0),
                energy_joules: Reading::or_why(run.whole.energy.map(|energy| energy.0), &run.whole.note),
            },
        }
    }
}
