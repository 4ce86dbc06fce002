//! The flags about checkpoints, the best model, stopping early and steps that go wrong.

use std::num::NonZeroU64;
use std::path::PathBuf;
use wattention::evaluate::SCORES;
use wattention::train::Control;

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Saving and stopping")]
pub struct Saving {
    /// Optimizer steps between checkpoints RUN/checkpoint-N; 0 saves at signals only [default: 500]
    #[arg(long, value_name = "N")]
    save_steps: Option<u64>,

    /// Checkpoints kept: the newest ones, and always the best [default: all]
    #[arg(long, value_name = "N")]
    save_total_limit: Option<usize>,

    /// Go on from the newest complete checkpoint of the run directory (auto), or from one of them
    #[arg(
        long,
        alias = "resume-from-checkpoint",
        value_name = "auto|CHECKPOINT",
        conflicts_with = "overwrite_output_dir"
    )]
    pub resume: Option<PathBuf>,

    /// Save every evaluation's model that is the best so far, and end with the best of all
    #[arg(long)]
    load_best_model_at_end: bool,

    /// What makes a model the best: loss, rouge1, rouge2, rougeL, geometric_mean or f1 [default: loss]
    ///
    /// With any but loss, predictions are made and scored at every evaluation.
    #[arg(long, value_name = "METRIC", value_parser = metric)]
    metric_for_best_model: Option<String>,

    /// Whether a greater metric is better [default: unless it is the loss]
    #[arg(long, value_name = "true|false")]
    greater_is_better: Option<bool>,

    /// Evaluations in a row without a better metric that end the run [default: never]
    #[arg(long, value_name = "N")]
    early_stopping_patience: Option<NonZeroU64>,

    /// How much better a metric has to be to count for the patience [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    early_stopping_threshold: Option<f64>,

    /// End the run at the Nth step in a row whose loss or gradient is not finite; those before are skipped [default: 1]
    #[arg(long, value_name = "N")]
    max_bad_steps: Option<u64>,

    /// Skip a step whose loss is X standard deviations above the last 128 [default: none]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    skip_loss_zscore: Option<f64>,

    /// Skip a step whose gradient norm is X standard deviations above the last 128 [default: none]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    skip_grad_zscore: Option<f64>,

    /// Put examples of similar length into one batch, which then needs less padding
    #[arg(long)]
    group_by_length: bool,
}

fn metric(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("eval_").unwrap_or(text);
    match name == "loss" || SCORES.contains(&name) {
        true => Ok(name.to_string()),
        false => Err(format!("the metrics are loss, {}", SCORES.join(", "))),
    }
}

impl Saving {
    /// `control` with what the command line says otherwise.
    pub fn over(&self, control: Control) -> Control {
        Control {
            save_steps: self.save_steps.unwrap_or(control.save_steps),
            save_total_limit: self.save_total_limit.unwrap_or(control.save_total_limit),
            load_best_model_at_end: self.load_best_model_at_end || control.load_best_model_at_end,
            metric_for_best_model: self
                .metric_for_best_model
                .clone()
                .unwrap_or(control.metric_for_best_model),
            greater_is_better: self.greater_is_better.or(control.greater_is_better),
            early_stopping_patience: self
                .early_stopping_patience
                .map_or(control.early_stopping_patience, NonZeroU64::get),
            early_stopping_threshold: self
                .early_stopping_threshold
                .unwrap_or(control.early_stopping_threshold),
            max_bad_steps: self.max_bad_steps.unwrap_or(control.max_bad_steps),
            skip_loss_zscore: self.skip_loss_zscore.unwrap_or(control.skip_loss_zscore),
            skip_grad_zscore: self.skip_grad_zscore.unwrap_or(control.skip_grad_zscore),
            group_by_length: self.group_by_length || control.group_by_length,
        }
    }
}
