//! The settings of training, under the names that HF's trainer uses.

use crate::collective::CommunicationType;
use crate::error::{Error, Result};
use crate::settings::{Declared, name, named, settings};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the learning rate moves from step to step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It rises during warm-up, then falls to 0 in a line.
    Linear,
    /// It rises during warm-up, then falls to 0 along half a cosine.
    Cosine,
    /// It is the same in every step, without warm-up.
    Constant,
    /// It rises during warm-up, then stays.
    ConstantWithWarmup,
}

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// As torch.optim.AdamW.
    #[serde(alias = "adamw_torch", alias = "adamw_torch_fused")]
    Adamw,
    /// As transformers' own AdamW, long its default: epsilon without bias correction, decay last.
    AdamwHf,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&name(self))
    }
}

impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&name(self))
    }
}

settings! {
    /// One run's settings; the defaults are HF's.
    #[serde(deny_unknown_fields)]
    pub struct Options {
        /// Largest learning rate of the schedule
        #[arg(value_name = "X")]
        learning_rate: f64 = 5e-5, above 0;

        /// How the learning rate moves after the warm-up; constant has none
        #[arg(value_name = "NAME", value_parser = named::<Schedule>())]
        lr_scheduler_type: Schedule = Schedule::Linear;

        /// Share of all steps in which the learning rate rises from 0
        #[arg(value_name = "X")]
        warmup_ratio: f64 = 0.0, at least 0 and below 1;

        /// Steps in which the learning rate rises from 0, whatever the ratio; below 1 a share of all steps
        #[arg(value_name = "N")]
        warmup_steps: f64 = 0.0, at least 0;

        /// Passes over the training split
        #[arg(value_name = "X")]
        num_train_epochs: f64 = 3.0;

        /// Optimizer steps, whatever the epochs; 0 leaves it to them
        #[arg(value_name = "N")]
        max_steps: u64 = 0;

        /// Examples that are evaluated at once
        #[arg(value_name = "N", alias = "per-gpu-eval-batch-size")]
        per_device_eval_batch_size: usize = 8, at least 1;

        /// Optimizer steps between evaluations of the loss; 0 evaluates once, at the end
        #[arg(value_name = "N")]
        eval_steps: u64 = 0;

        /// The update rule: adamw is torch's, adamw_hf that of older transformers
        #[arg(value_name = "NAME", value_parser = named::<Optimizer>())]
        optim: Optimizer = Optimizer::Adamw;

        /// Decoupled weight decay, of everything but biases and layer norms
        #[arg(value_name = "X")]
        weight_decay: f64 = 0.0, at least 0;

        /// Decay of AdamW's first moment
        #[arg(value_name = "X")]
        adam_beta1: f64 = 0.9, at least 0 and below 1;

        /// Decay of AdamW's second moment
        #[arg(value_name = "X")]
        adam_beta2: f64 = 0.999, at least 0 and below 1;

        /// What AdamW adds to the root of the second moment
        #[arg(value_name = "X")]
        adam_epsilon: f64 = 1e-8, above 0;

        /// Norm that gradients are clipped to; 0 turns clipping off
        #[arg(value_name = "X")]
        max_grad_norm: f64 = 1.0, at least 0;

        /// Weight of the uniform distribution in the training loss
        #[arg(value_name = "X", alias = "label-smoothing-factor")]
        #[serde(alias = "label_smoothing_factor")]
        label_smoothing: f64 = 0.0, at least 0 and below 1;

        /// Type in which ranks exchange gradients: bf16 is half of fp32, and rounds what each rank gives
        #[arg(value_name = "NAME", value_parser = named::<CommunicationType>())]
        communication_data_type: CommunicationType = CommunicationType::Fp32;
    }
    elsewhere {
        per_device_train_batch_size: usize = 8, at least 1;
        gradient_accumulation_steps: usize = 1, at least 1;
        max_source_length: usize = 1024, at least 1;
        max_target_length: usize = 128, at least 1;
        seed: u64 = 42;
    }
}

impl Options {
    /// Refuses values that mean nothing; NaN is refused everywhere.
    pub fn check(&self) -> Result<()> {
        self.check_ranges()?;
        if self.max_steps == 0 && !(self.num_train_epochs > 0.0 && self.num_train_epochs.is_finite()) {
            return Err(Error::usage(format!(
                "--num-train-epochs is {}; it must be above 0 (or give --max-steps)",
                self.num_train_epochs
            )));
        }
        Ok(())
    }

    /// Optimizer steps of one epoch over `examples`, as HF counts them: a last partial batch is a step.
    pub fn steps_per_epoch(&self, examples: usize) -> u64 {
        let batches = examples.div_ceil(self.per_device_train_batch_size);
        batches.div_ceil(self.gradient_accumulation_steps).max(1) as u64
    }

    /// Steps of `total` in which the learning rate rises (HF `get_warmup_steps`).
    pub fn warmup(&self, total: u64) -> u64 {
        let share = match self.warmup_steps {
            steps if steps >= 1.0 => return steps as u64,
            share if share > 0.0 => share,
            _ => self.warmup_ratio,
        };
        (share * total as f64).ceil() as u64
    }

    /// Optimizer steps of a run over `examples`.
    pub fn total_steps(&self, examples: usize) -> u64 {
        if self.max_steps > 0 {
            return self.max_steps;
        }
        (self.steps_per_epoch(examples) as f64 * self.num_train_epochs).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_batches_and_partial_accumulations_are_steps() {
        let options = Options {
            per_device_train_batch_size: 2,
            gradient_accumulation_steps: 2,
            num_train_epochs: 1.5,
            ..Options::default()
        };
        // 5 examples are 3 batches, taken as 2 + 1.
        assert_eq!(options.steps_per_epoch(5), 2);
        assert_eq!(options.total_steps(5), 3);
    }

    #[test]
    fn warmup_steps_win_over_the_ratio() {
        let warmup = |warmup_steps: f64, warmup_ratio: f64| {
            Options { warmup_steps, warmup_ratio, ..Options::default() }.warmup(95)
        };
        assert_eq!(warmup(0.0, 0.1), 10);
        assert_eq!(warmup(7.0, 0.1), 7);
        assert_eq!(warmup(0.2, 0.1), 19);
        assert_eq!(warmup(0.0, 0.0), 0);
    }

    #[test]
    fn nonsense_is_refused_by_the_name_of_its_flag() {
        let refused = |options: Options, flag: &str| {
            let error = options.check().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(flag), "{error}");
        };
        let learning_rate = f64::NAN;
        refused(Options { learning_rate, ..Options::default() }, "--learning-rate");
        let warmup_ratio = 1.0;
        refused(Options { warmup_ratio, ..Options::default() }, "--warmup-ratio");
        let num_train_epochs = 0.0;
        refused(Options { num_train_epochs, ..Options::default() }, "--num-train-epochs");
    }
}
