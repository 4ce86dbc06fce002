//! What a run writes down about itself: before, in `config.json`, and after, under HF's names.

use serde::Serialize;
use std::path::{Path, PathBuf};
use wattention::device::Precision;
use wattention::evaluate::Evaluation;
use wattention::metrics::Protocol;
use wattention::models;
use wattention::tape::Recompute;
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
}

/// The metrics of the whole run, under HF's names.
#[derive(Serialize)]
pub struct Trained {
    pub train_runtime: f64,
    pub train_samples_per_second: f64,
    pub train_steps_per_second: f64,
    pub train_loss: f64,
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
}

impl Trained {
    pub fn new(summary: &Summary, epoch: f64) -> Self {
        let seconds = summary.train_time.0;
        Trained {
            train_runtime: seconds,
            train_samples_per_second: summary.samples as f64 / seconds,
            train_steps_per_second: summary.steps as f64 / seconds,
            train_loss: summary.train_loss,
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
        let mut text = format!("{} steps, train loss {:.4}", train.step, train.train_loss);
        if let Some(loss) = self.eval_loss {
            text += &format!(", eval loss {loss:.4}");
        }
        if let Some(eval) = eval {
            text += &format!(
                ", ROUGE-1/2/L {:.2}/{:.2}/{:.2}, F1 {:.2}",
                eval.eval_rouge1, eval.eval_rouge2, eval.eval_rouge_l, eval.eval_f1
            );
        }
        format!("{text}: {}", self.output_dir.display())
    }
}
