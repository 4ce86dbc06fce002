//! What a fine-tuning run can be told, under the names that HF's trainer uses.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the learning rate moves after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    Linear,
    Constant,
}

/// One run's settings; the defaults are HF's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub learning_rate: f64,
    pub lr_scheduler_type: Schedule,
    /// Share of all steps spent warming up.
    pub warmup_ratio: f64,
    pub num_train_epochs: f64,
    /// Overrides the epochs when above 0.
    pub max_steps: u64,
    pub per_device_train_batch_size: usize,
    pub per_device_eval_batch_size: usize,
    pub gradient_accumulation_steps: usize,
    pub max_source_length: usize,
    pub max_target_length: usize,
    /// Optimizer steps between evaluations; 0 evaluates once, at the end.
    pub eval_steps: u64,
    pub weight_decay: f64,
    pub adam_beta1: f64,
    pub adam_beta2: f64,
    pub adam_epsilon: f64,
    /// 0 turns clipping off.
    pub max_grad_norm: f64,
    pub label_smoothing: f64,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            learning_rate: 5e-5,
            lr_scheduler_type: Schedule::Linear,
            warmup_ratio: 0.0,
            num_train_epochs: 3.0,
            max_steps: 0,
            per_device_train_batch_size: 8,
            per_device_eval_batch_size: 8,
            gradient_accumulation_steps: 1,
            max_source_length: 1024,
            max_target_length: 128,
            eval_steps: 0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            label_smoothing: 0.0,
            seed: 42,
        }
    }
}

impl Options {
    /// Refuses values that mean nothing; NaN is refused everywhere.
    pub fn check(&self) -> Result<()> {
        let at_least = |name: &str, value: f64, low: f64| match value >= low && value.is_finite() {
            true => Ok(()),
            false => Err(Error::usage(format!("--{name} is {value}; it must be at least {low}"))),
        };
        let below_one = |name: &str, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::usage(format!("--{name} is {value}; it must be at least 0 and below 1"))),
        };
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(Error::usage(format!(
                "--learning-rate is {}; it must be above 0",
                self.learning_rate
            )));
        }
        below_one("warmup-ratio", self.warmup_ratio)?;
        below_one("adam-beta1", self.adam_beta1)?;
        below_one("adam-beta2", self.adam_beta2)?;
        below_one("label-smoothing", self.label_smoothing)?;
        at_least("weight-decay", self.weight_decay, 0.0)?;
        at_least("max-grad-norm", self.max_grad_norm, 0.0)?;
        at_least("adam-epsilon", self.adam_epsilon, f64::MIN_POSITIVE)?;
        for (name, value) in [
            ("per-device-train-batch-size", self.per_device_train_batch_size),
            ("per-device-eval-batch-size", self.per_device_eval_batch_size),
            ("gradient-accumulation-steps", self.gradient_accumulation_steps),
            ("max-source-length", self.max_source_length),
            ("max-target-length", self.max_target_length),
        ] {
            at_least(name, value as f64, 1.0)?;
        }
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
