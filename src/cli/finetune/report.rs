//! What a run writes down about itself: before, in `config.json`, and after, under HF's names.

use super::energy;
use serde::Serialize;
use std::path::{Path, PathBuf};
use wattention::device::Precision;
use wattention::evaluate::Evaluation;
use wattention::metrics::Protocol;
use wattention::models;
use wattention::tape::Recompute;
use wattention::train::checkpoint::Settings;
use wattention::train::{self, Summary};
use wattention::units::Bytes;

/// The run's `config.json`.
#[derive(Serialize)]
pub struct Resolved<'a> {
    pub command: Vec<String>,
    pub version: &'static str,
    pub device: String,
    pub precision: Precision,
    pub threads: usize,
    pub model: &'a Option<PathBuf>,
    pub config_name: &'a Option<PathBuf>,
    pub tokenizer: &'a Path,
    pub dataset: &'a str,
    pub train_examples: usize,
    pub eval_examples: usize,
    pub parameters: usize,
    pub total_steps: u64,
    pub planned_bytes: Bytes,
    pub protocol: Protocol,
    pub max_new_tokens: usize,
    pub predict: bool,
    pub global_attention: train::GlobalAttention,
    pub random_blocks: models::RandomBlocks,
    pub recompute: Recompute,
    pub training: &'a train::Options,
    pub control: &'a train::Control,
    /// The checkpoint that the run goes on from.
    pub resumed_from: Option<PathBuf>,
    /// What a checkpoint is compared with before a run goes on from it.
    pub settings: &'a Settings,
}

/// The metrics of the whole run, under HF's names where it has them; of all processes that worked on it.
#[derive(Serialize)]
pub struct Trained {
    /// All of training, with its evaluations and checkpoints, as HF counts it.
    pub train_runtime: f64,
    pub train_samples_per_second: f64,
    pub train_steps_per_second: f64,
    /// The same without evaluations and checkpoints.
    pub step_runtime: f64,
    pub step_samples_per_second: f64,
    /// Of the time in steps, waiting for batches.
    pub data_runtime: f64,
    /// Evaluations during training.
    pub evaluation_runtime: f64,
    /// What checkpoints held the steps up.
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

#[derive(Serialize)]
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

/// What `--json` prints.
#[derive(Serialize)]
pub struct Report {
    pub output_dir: PathBuf,
    pub train: Trained,
    pub eval_loss: Option<f64>,
    pub eval: Option<Evaluated>,
    pub planned_bytes: Bytes,
    /// What the device really held at most.
    pub used_bytes: Bytes,
    pub energy: Option<energy::Report>,
}

impl Trained {
    pub fn new(summary: &Summary, epoch: f64) -> Self {
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
    pub fn new(evaluation: &Evaluation, summary: &Summary, epoch: f64) -> Self {
        let scores = evaluation.scores.rounded();
        Evaluated {
            eval_loss: summary.eval_loss,
            eval_rouge1: scores.rouge1,
            eval_rouge2: scores.rouge2,
            eval_rouge_l: scores.rouge_l,
            eval_geometric_mean: scores.geometric_mean,
            eval_f1: scores.f1,
            eval_runtime: evaluation.time.0,
            eval_samples_per_second: evaluation.examples as f64 / evaluation.time.0,
            eval_samples: evaluation.examples,
            epoch,
            step: summary.steps,
        }
    }
}

impl Report {
    pub fn text(&self) -> String {
        let Report { train, eval, .. } = self;
        let mut text = format!(
            "{} steps, {:.2} samples/s ({:.2} with evaluations and checkpoints), train loss {:.4}",
            train.step, train.step_samples_per_second, train.train_samples_per_second, train.train_loss
        );
        if train.model_step != train.step {
            text += &format!(", weights of step {}", train.model_step);
        }
        if let Some(loss) = self.eval_loss {
            text += &format!(", eval loss {loss:.4}");
        }
        if let Some(eval) = eval {
            text += &format!(
                ", ROUGE-1/2/L {:.2}/{:.2}/{:.2}, F1 {:.2}",
                eval.eval_rouge1, eval.eval_rouge2, eval.eval_rouge_l, eval.eval_f1
            );
        }
        text += &format!(": {}", self.output_dir.display());
        match &self.energy {
            Some(energy) => text + "\n" + &energy.text(),
            None => text,
        }
    }
}
