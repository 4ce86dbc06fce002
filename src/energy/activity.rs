//! What a run can be doing.

use serde::{Deserialize, Serialize};

/// One thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Reading and tokenising what is learnt from or answered, and waiting for batches.
    Data,
    /// Forward, backward and optimizer.
    Training,
    /// Losses and predictions, with their scores.
    Evaluation,
    /// Predictions that are not scored.
    Generation,
    /// Saving: what it holds the run up.
    Checkpoint,
    /// Everything else, such as reading the model.
    Rest,
}

impl Activity {
    pub fn name(self) -> &'static str {
        match self {
            Activity::Data => "data",
            Activity::Training => "training",
            Activity::Evaluation => "evaluation",
            Activity::Generation => "generation",
            Activity::Checkpoint => "checkpoint",
            Activity::Rest => "rest",
        }
    }
}
