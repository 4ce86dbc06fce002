//! Where a run is: all that its next step depends on besides weights and moments, as a checkpoint holds it.

use super::options::Options;
use super::outliers::LastValues;
use super::stopping::Best;
use crate::units::Seconds;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A place in the data and in the random numbers, a pure function of the step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    pub epoch: u64,
    /// Examples of the epoch's order that are done.
    pub position: u64,
    /// Counter of the next micro-batch's dropout.
    pub micro_batch: u64,
}

impl Cursor {
    /// Where `step` begins, over `examples` examples.
    pub fn at(step: u64, examples: usize, options: &Options) -> Self {
        let per_epoch = options.steps_per_epoch(examples);
        let accumulation = options.gradient_accumulation_steps as u64;
        Cursor {
            epoch: step / per_epoch,
            position: step % per_epoch * accumulation * options.per_device_train_batch_size as u64,
            micro_batch: step * accumulation,
        }
    }
}

/// Wall-clock time by what it was spent on, all processes of a run together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// Forward, backward and optimizer.
    pub steps: Seconds,
    /// Waiting for batches.
    pub data: Seconds,
    pub evaluation: Seconds,
    /// Copying what is saved and waiting for its writing; the writing itself happens beside the steps.
    pub checkpoints: Seconds,
}

impl Times {
    pub fn total(&self) -> Seconds {
        self.steps + self.data + self.evaluation + self.checkpoints
    }
}

/// The state between two steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Steps done, skipped ones included.
    pub global_step: u64,
    /// Steps that updated the weights: AdamW's bias correction counts these.
    pub updates: u64,
    pub cursor: Cursor,
    /// Examples trained on, counted as often as they were.
    pub samples: u64,
    /// Source and target tokens trained on, padding not counted.
    pub tokens: u64,
    /// Sum over the steps that updated the weights.
    pub loss_sum: f64,
    /// Losses of the last of them, a tenth of the planned steps at most.
    pub last_losses: VecDeque<f64>,
    /// Steps in a row until now whose loss or gradient was not finite.
    pub bad_steps: u64,
    /// Whether the evaluation after the last step has still to be made.
    pub evaluation_due: bool,
    pub eval_loss: Option<f64>,
    pub best: Best,
    pub losses: LastValues,
    pub gradient_norms: LastValues,
    pub times: Times,
}

impl TrainerState {
    /// Takes in the loss of a step that updated the weights, in a run of `total` steps.
    pub(super) fn add_loss(&mut self, loss: f32, total: u64) {
        self.updates += 1;
        self.loss_sum += loss as f64;
        self.last_losses.push_back(loss as f64);
        while self.last_losses.len() as u64 > total.div_ceil(10) {
            self.last_losses.pop_front();
        }
    }

    /// Mean over all updates.
    pub(super) fn mean_loss(&self) -> f64 {
        self.loss_sum / self.updates as f64
    }

    /// Mean over the last tenth of the updates, which one batch does not sway.
    pub(super) fn final_loss(&self) -> f64 {
        let most = self.updates.div_ceil(10) as usize;
        let tail = self.last_losses.iter().skip(self.last_losses.len().saturating_sub(most));
        tail.sum::<f64>() / self.last_losses.len().min(most) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_counts_partial_batches_and_accumulations() {
        let options =
            Options { per_device_train_batch_size: 2, gradient_accumulation_steps: 2, ..Options::default() };
        // 5 examples are steps of 4 and 1.
        let at = |step| Cursor::at(step, 5, &options);
        assert_eq!(at(0), Cursor::default());
        assert_eq!(at(1), Cursor { epoch: 0, position: 4, micro_batch: 2 });
        assert_eq!(at(2), Cursor { epoch: 1, position: 0, micro_batch: 4 });
        assert_eq!(at(5), Cursor { epoch: 2, position: 4, micro_batch: 10 });
    }

    #[test]
    fn means_are_over_all_and_over_the_last_tenth() {
        let mut state = TrainerState::default();
        (1..=20).for_each(|loss| state.add_loss(loss as f32, 30));
        assert_eq!(state.mean_loss(), 10.5);
        // A tenth of the 20 steps done, not of the 30 planned.
        assert_eq!(state.final_loss(), 19.5);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<TrainerState>(&text).unwrap(), state);
    }
}
