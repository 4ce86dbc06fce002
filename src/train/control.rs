//! What a run does between steps: saves, compares evaluations, stops, and in which order it reads.

use crate::error::{Error, Result};
use crate::metrics::SCORES;
use crate::settings::{Declared, settings};

settings! {
    /// Under the names of HF's trainer where it has them.
    #[command(next_help_heading = "Saving and stopping")]
    #[serde(deny_unknown_fields)]
    pub struct Control {
        /// Optimizer steps between checkpoints RUN/checkpoint-N; 0 saves the best and at signals only
        #[arg(value_name = "N")]
        save_steps: u64 = 500;

        /// Newest checkpoints that are kept, the best one besides; 0 keeps all
        #[arg(value_name = "N")]
        save_total_limit: usize = 0;

        /// Save every evaluation's model that is the best so far, and end with the best of all
        load_best_model_at_end: bool;

        /// What makes a model the best: loss, rouge1, rouge2, rougeL, geometric_mean or f1
        ///
        /// With any but loss, predictions are made and scored at every evaluation.
        #[arg(value_name = "METRIC", value_parser = metric)]
        metric_for_best_model: String = "loss".into();

        /// Whether a greater metric is better [default: unless it is the loss]
        #[arg(value_name = "true|false")]
        greater_is_better: Option<bool>;

        /// Evaluations in a row without a better metric that end the run; 0 never does
        #[arg(value_name = "N")]
        early_stopping_patience: u64 = 0;

        /// How much better a metric has to be to count for the patience
        #[arg(value_name = "X", allow_negative_numbers = true)]
        early_stopping_threshold: f64 = 0.0, at least 0;

        /// End the run at the Nth step in a row whose loss or gradient is not finite; those before are skipped
        #[arg(value_name = "N")]
        max_bad_steps: u64 = 1, at least 1;

        /// Skip a step whose loss is X standard deviations above the last 128; 0 skips none
        #[arg(value_name = "X", allow_negative_numbers = true)]
        skip_loss_zscore: f64 = 0.0, at least 0;

        /// Skip a step whose gradient norm is X standard deviations above the last 128; 0 skips none
        #[arg(value_name = "X", allow_negative_numbers = true)]
        skip_grad_zscore: f64 = 0.0, at least 0;

        /// Put examples of similar length into one batch, which then needs less padding
        group_by_length: bool;
    }
}

/// A metric's name, with or without HF's prefix `eval_`.
fn metric(text: &str) -> std::result::Result<String, String> {
    let name = text.strip_prefix("eval_").unwrap_or(text);
    match name == "loss" || SCORES.contains(&name) {
        true => Ok(name.to_string()),
        false => Err(format!("the metrics are loss, {}", SCORES.join(", "))),
    }
}

impl Control {
    /// Refuses values that mean nothing, or that need evaluations where `eval_steps` makes none.
    pub fn check(&self, eval_steps: u64) -> Result<()> {
        self.check_ranges()?;
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
