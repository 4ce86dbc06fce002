//! What a run does between steps: saves, compares evaluations, stops, and in which order it reads.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Under the names of HF's trainer where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Optimizer steps between checkpoints; 0 saves none but the best and the one at a signal.
    pub save_steps: u64,
    /// Checkpoints kept, the best one besides; 0 keeps all.
    pub save_total_limit: usize,
    /// Saves every evaluation's model that is the best so far, and ends with the best of all.
    pub load_best_model_at_end: bool,
    /// `loss`, or a score of the predictions that are then made at every evaluation.
    pub metric_for_best_model: String,
    /// By default all but `loss` are better when greater.
    pub greater_is_better: Option<bool>,
    /// Evaluations in a row without a better metric that end the run; 0 never does.
    pub early_stopping_patience: u64,
    /// How much better a metric has to be to count for the patience.
    pub early_stopping_threshold: f64,
    /// Steps in a row whose loss or gradient norm is not finite that end the run; fewer are skipped.
    pub max_bad_steps: u64,
    /// Skips a step whose loss is this many standard deviations above the last 128; 0 skips none.
    pub skip_loss_zscore: f64,
    /// The same of the gradient norm.
    pub skip_grad_zscore: f64,
    /// Batches of examples of similar length, which need less padding.
    pub group_by_length: bool,
}

impl Default for Control {
    fn default() -> Self {
        Control {
            save_steps: 500,
            save_total_limit: 0,
            load_best_model_at_end: false,
            metric_for_best_model: "loss".into(),
            greater_is_better: None,
            early_stopping_patience: 0,
            early_stopping_threshold: 0.0,
            max_bad_steps: 1,
            skip_loss_zscore: 0.0,
            skip_grad_zscore: 0.0,
            group_by_length: false,
        }
    }
}

impl Control {
    /// Refuses values that mean nothing, or that need evaluations where `eval_steps` makes none.
    pub fn check(&self, eval_steps: u64) -> Result<()> {
        for (name, value) in [
            ("early-stopping-threshold", self.early_stopping_threshold),
            ("skip-loss-zscore", self.skip_loss_zscore),
            ("skip-grad-zscore", self.skip_grad_zscore),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::usage(format!("--{name} is {value}; it must be at least 0")));
            }
        }
        if self.max_bad_steps == 0 {
            return Err(Error::usage("--max-bad-steps is 0; at 1 the first bad step ends the run"));
        }
        for (name, wanted) in [
            ("load-best-model-at-end", self.load_best_model_at_end),
            ("early-stopping-patience", self.early_stopping_patience > 0),
        ] {
            if wanted && eval_steps == 0 {
                return Err(Error::usage(format!("--{name} compares evaluations; give --eval-steps")));
            }
        }
        Ok(())
    }

    /// The metric's name without HF's prefix `eval_`.
    pub fn metric(&self) -> &str {
        self.metric_for_best_model.strip_prefix("eval_").unwrap_or(&self.metric_for_best_model)
    }

    /// Whether greater is better; HF's rule where it is not said.
    pub fn greater(&self) -> bool {
        self.greater_is_better.unwrap_or(!self.metric().ends_with("loss"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direction_of_a_metric_follows_from_its_name() {
        let of = |name: &str| Control { metric_for_best_model: name.into(), ..Control::default() };
        assert!(!of("loss").greater() && !of("eval_loss").greater());
        assert!(of("eval_rougeL").greater());
        assert_eq!(of("eval_rougeL").metric(), "rougeL");
        assert!(Control { greater_is_better: Some(true), ..of("loss") }.greater());
    }

    #[test]
    fn what_compares_evaluations_needs_some() {
        for control in [
            Control { load_best_model_at_end: true, ..Control::default() },
            Control { early_stopping_patience: 1, ..Control::default() },
        ] {
            assert!(control.check(0).unwrap_err().to_string().contains("--eval-steps"));
            control.check(1).unwrap();
        }
        let threshold = Control { early_stopping_threshold: f64::NAN, ..Control::default() };
        assert_eq!(threshold.check(1).unwrap_err().exit_code(), 2);
    }
}
