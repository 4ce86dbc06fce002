//! The best evaluation so far, and how many since did not come up to it (HF `EarlyStoppingCallback`).

use super::control::Control;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    pub metric: Option<f64>,
    /// The step whose weights had it.
    pub step: Option<u64>,
    /// The loss of that evaluation, whatever the metric.
    pub eval_loss: Option<f64>,
    /// Evaluations in a row that were not better.
    pub without_improvement: u64,
}

impl Best {
    /// Takes in the evaluation after `step`; whether it is the best so far.
    pub fn see(&mut self, control: &Control, step: u64, metric: f64, eval_loss: f64) -> bool {
        let ahead = match (self.metric, control.greater()) {
            // The first one counts unless it is no number.
            (None, _) if metric.is_nan() => f64::NEG_INFINITY,
            (None, _) => f64::INFINITY,
            (Some(best), true) => metric - best,
            (Some(best), false) => best - metric,
        };
        // Written so that NaN is no improvement.
        let enough = ahead > control.early_stopping_threshold;
        self.without_improvement = if enough { 0 } else { self.without_improvement + 1 };
        let better = ahead > 0.0;
        if better {
            (self.metric, self.step, self.eval_loss) = (Some(metric), Some(step), Some(eval_loss));
        }
        better
    }

    pub fn is_exhausted(&self, control: &Control) -> bool {
        control.early_stopping_patience > 0 && self.without_improvement >= control.early_stopping_patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evaluations seen until the patience of 2 was over.
    fn seen(control: &Control, metrics: &[f64]) -> (usize, Best) {
        let mut best = Best::default();
        for (at, &metric) in metrics.iter().enumerate() {
            best.see(control, at as u64 + 1, metric, metric);
            if best.is_exhausted(control) {
                return (at + 1, best);
            }
        }
        (metrics.len(), best)
    }

    #[test]
    fn stops_after_patience_evaluations_that_are_not_better() {
        let control = Control { early_stopping_patience: 2, ..Control::default() };
        // Equal counts as worse.
        let (at, best) = seen(&control, &[3.0, 2.0, 2.0, 2.5, 1.0]);
        assert_eq!((at, best.metric, best.step), (4, Some(2.0), Some(2)));
        let (at, best) = seen(&control, &[3.0, 4.0, 2.0, 4.0, 1.0]);
        assert_eq!((at, best.metric, best.step), (5, Some(1.0), Some(5)));
        let greater = Control { metric_for_best_model: "f1".into(), ..control };
        let (at, best) = seen(&greater, &[3.0, 2.0, 2.0, 9.0]);
        assert_eq!((at, best.step), (3, Some(1)));
    }

    #[test]
    fn a_gain_below_the_threshold_is_the_best_and_no_improvement() {
        let control =
            Control { early_stopping_patience: 2, early_stopping_threshold: 0.5, ..Control::default() };
        let (at, best) = seen(&control, &[3.0, 2.9, 2.8, 1.0]);
        assert_eq!((at, best.metric, best.step), (3, Some(2.8), Some(3)));
    }

    #[test]
    fn no_number_is_never_the_best() {
        let control = Control { early_stopping_patience: 3, ..Control::default() };
        let (at, best) = seen(&control, &[f64::NAN, 2.0, f64::NAN, f64::NAN, f64::NAN, 1.0]);
        assert_eq!((at, best.metric, best.without_improvement), (5, Some(2.0), 3));
    }
}
