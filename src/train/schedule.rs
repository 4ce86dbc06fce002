//! The learning rate of each step.

use super::options::{Options, Schedule};
use std::f64::consts::PI;

/// Learning rate of optimizer step `step`, counted from 0 (HF `get_scheduler`).
pub fn learning_rate(options: &Options, step: u64, total: u64) -> f64 {
    let warmup = match options.lr_scheduler_type {
        Schedule::Constant => 0,
        _ => options.warmup(total),
    };
    if step < warmup {
        return options.learning_rate * step as f64 / warmup as f64;
    }
    let after = total.saturating_sub(warmup).max(1) as f64;
    options.learning_rate
        * match options.lr_scheduler_type {
            Schedule::Constant | Schedule::ConstantWithWarmup => 1.0,
            Schedule::Linear => total.saturating_sub(step) as f64 / after,
            Schedule::Cosine => (0.5 * (1.0 + (PI * (step - warmup) as f64 / after).cos())).max(0.0),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(lr_scheduler_type: Schedule) -> Vec<f64> {
        let options =
            Options { learning_rate: 1.0, warmup_ratio: 0.2, lr_scheduler_type, ..Options::default() };
        (0..10).map(|step| learning_rate(&options, step, 10)).collect()
    }

    #[test]
    fn warms_up_then_decays_to_zero() {
        assert_eq!(rates(Schedule::Linear), [0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]);
    }

    /// From transformers' get_scheduler with num_warmup_steps 2 and num_training_steps 10.
    #[test]
    fn cosine_and_constant_are_those_of_transformers() {
        let want = [
            0.0,
            0.5,
            1.0,
            0.9619397662556434,
            0.8535533905932737,
            0.6913417161825449,
            0.5,
            0.30865828381745514,
            0.14644660940672627,
            0.03806023374435663,
        ];
        for (got, want) in rates(Schedule::Cosine).iter().zip(want) {
            assert!((got - want).abs() <= 1e-12, "{got} for {want}");
        }
        assert_eq!(rates(Schedule::Constant), [1.0; 10]);
        assert_eq!(rates(Schedule::ConstantWithWarmup), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_warm_up_longer_than_the_run_only_rises() {
        let options = Options { learning_rate: 1.0, warmup_steps: 20.0, ..Options::default() };
        assert_eq!(learning_rate(&options, 9, 10), 0.45);
    }
}
