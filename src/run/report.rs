//! What a run's `metrics.jsonl` ends with, under HF's names where it has them.

use crate::evaluate::Evaluation;
use crate::train::Summary;
use serde::Serialize;

/// The metrics of the whole run, under HF's names where it has them; over all processes that worked on it.
#[derive(Debug, Clone, Serialize)]
pub struct Trained {
    /// All of training, with its evaluations and checkpoints, as HF counts it.
    pub train_runtime: f64,
    pub train_samples_per_second: f64,
    pub train_steps_per_second: f64,
    /// The same without evaluations and checkpoints.
    pub step_runtime: f64,
    pub step_samples_per_second: f64,
    /// The part of the time in steps that was spent waiting for batches.
    pub data_runtime: f64,
    /// Time of evaluations during training.
    pub evaluation_runtime: f64,
    /// How long checkpoints held the steps up.
    pub checkpoint_runtime: f64,
    pub train_samples: u64,
    pub train_loss: f64,
    pub skipped_steps: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_metric: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_step: Option<u64>,
    /// The step whose weights are saved and scored.
    pub model_step: u64,
    pub epoch: f64,
    pub step: u64,
}

/// Scores of the trained model on the validation split.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluated {
    pub eval_loss: Option<f64>,
    pub eval_rouge1: f64,
    pub eval_rouge2: f64,
    #[serde(rename = "eval_rougeL")]
    pub eval_rouge_l: f64,
    pub eval_geometric_mean: f64,
    pub eval_f1: f64,
    pub eval_runtime: f64,
    pub eval_samples_per_second: f64,
    pub eval_samples: usize,
    pub epoch: f64,
    pub step: u64,
}

impl Trained {
    pub(super) fn new(summary: &Summary, epoch: f64) -> Self {
        let (all, steps) = (summary.times.total().0, summary.train_time.0);
        Trained {
            train_runtime: all,
            train_samples_per_second: summary.samples as f64 / all,
            train_steps_per_second: summary.steps as f64 / all,
            step_runtime: steps,
            step_samples_per_second: summary.samples as f64 / steps,
            data_runtime: summary.times.data.0,
            evaluation_runtime: summary.times.evaluation.0,
            checkpoint_runtime: summary.times.checkpoints.0,
            train_samples: summary.samples,
            train_loss: summary.train_loss,
            skipped_steps: summary.skipped,
            best_metric: summary.best.map(|(_, metric)| metric),
            best_step: summary.best.map(|(step, _)| step),
            model_step: summary.weights_of,
            epoch,
            step: summary.steps,
        }
    }
}

impl Evaluated {
    pub(super) fn new(evaluation: &Evaluation, eval_loss: Option<f64>, steps: u64, epoch: f64) -> Self {
        let scores = evaluation.scores.rounded();
        Evaluated {
            eval_loss,
            eval_rouge1: scores.rouge1,
            eval_rouge2: scores.rouge2,
            eval_rouge_l: scores.rouge_l,
            eval_geometric_mean: scores.geometric_mean,
            eval_f1: scores.f1,
            eval_runtime: evaluation.time.0,
            eval_samples_per_second: evaluation.examples as f64 / evaluation.time.0,
            eval_samples: evaluation.examples,
            epoch,
            step: steps,
        }
    }
}
