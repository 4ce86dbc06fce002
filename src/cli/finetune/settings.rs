//! The flags of a training run, under the names that HF's trainer uses.

use super::super::choices::{Truncation, named};
use std::num::NonZeroUsize;
use wattention::models::Limits;
use wattention::train::{Options, Schedule};

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Training")]
pub struct Settings {
    /// Largest learning rate of the schedule
    #[arg(long, value_name = "X", default_value_t = Options::default().learning_rate)]
    learning_rate: f64,

    /// What the learning rate does after warm-up: fall to 0, or stay
    #[arg(long, value_name = "linear|constant", default_value = "linear", value_parser = named::<Schedule>)]
    lr_scheduler_type: Schedule,

    /// Share of all steps in which the learning rate rises from 0
    #[arg(long, value_name = "X", default_value_t = Options::default().warmup_ratio)]
    warmup_ratio: f64,

    /// Passes over the training split
    #[arg(long, value_name = "X", default_value_t = Options::default().num_train_epochs)]
    num_train_epochs: f64,

    /// Optimizer steps, whatever the epochs; 0 leaves it to them
    #[arg(long, value_name = "N", default_value_t = Options::default().max_steps)]
    max_steps: u64,

    /// Examples that are trained on at once
    #[arg(long, value_name = "N", default_value_t = Options::default().per_device_train_batch_size)]
    per_device_train_batch_size: usize,

    /// Examples that are evaluated at once
    #[arg(long, value_name = "N", default_value_t = Options::default().per_device_eval_batch_size)]
    per_device_eval_batch_size: usize,

    /// Batches whose gradients are added up for one optimizer step
    #[arg(long, value_name = "N", default_value_t = Options::default().gradient_accumulation_steps)]
    gradient_accumulation_steps: usize,

    #[command(flatten)]
    truncation: Truncation,

    /// Optimizer steps between evaluations of the loss; 0 evaluates once, at the end
    #[arg(long, value_name = "N", default_value_t = Options::default().eval_steps)]
    pub eval_steps: u64,

    /// Decoupled weight decay, of everything but biases and layer norms
    #[arg(long, value_name = "X", default_value_t = Options::default().weight_decay)]
    weight_decay: f64,

    /// Decay of AdamW's first moment
    #[arg(long, value_name = "X", default_value_t = Options::default().adam_beta1)]
    adam_beta1: f64,

    /// Decay of AdamW's second moment
    #[arg(long, value_name = "X", default_value_t = Options::default().adam_beta2)]
    adam_beta2: f64,

    /// What AdamW adds to the root of the second moment
    #[arg(long, value_name = "X", default_value_t = Options::default().adam_epsilon)]
    adam_epsilon: f64,

    /// Norm that gradients are clipped to; 0 turns clipping off
    #[arg(long, value_name = "X", default_value_t = Options::default().max_grad_norm)]
    max_grad_norm: f64,

    /// Weight of the uniform distribution in the training loss
    #[arg(long, value_name = "X", alias = "label-smoothing-factor", default_value_t = Options::default().label_smoothing)]
    label_smoothing: f64,

    /// Examples of the training split to use, from its start [default: all]
    #[arg(long, value_name = "N")]
    pub max_train_samples: Option<NonZeroUsize>,

    /// Examples of the validation split to use, from its start [default: all]
    #[arg(long, value_name = "N")]
    pub max_eval_samples: Option<NonZeroUsize>,
}

impl Settings {
    pub fn options(&self, limits: &Limits, seed: u64) -> Options {
        let lengths = self.truncation.lengths(limits);
        Options {
            learning_rate: self.learning_rate,
            lr_scheduler_type: self.lr_scheduler_type,
            warmup_ratio: self.warmup_ratio,
            num_train_epochs: self.num_train_epochs,
            max_steps: self.max_steps,
            per_device_train_batch_size: self.per_device_train_batch_size,
            per_device_eval_batch_size: self.per_device_eval_batch_size,
            gradient_accumulation_steps: self.gradient_accumulation_steps,
            max_source_length: lengths.source,
            max_target_length: lengths.target,
            eval_steps: self.eval_steps,
            weight_decay: self.weight_decay,
            adam_beta1: self.adam_beta1,
            adam_beta2: self.adam_beta2,
            adam_epsilon: self.adam_epsilon,
            max_grad_norm: self.max_grad_norm,
            label_smoothing: self.label_smoothing,
            seed,
        }
    }
}
