//! The learning rate of each step.

use super::options::{Options, Schedule};

/// Learning rate of optimizer step `step`, counted from 0 (HF `get_linear_schedule_with_warmup`).
pub fn learning_rate(options: &Options, step: u64, total: u64) -> f64 {
    let warmup = (options.warmup_ratio * total as f64).ceil() as u64;
    if step < warmup {
        return options.learning_rate * step as f64 / warmup as f64;
    }
    match options.lr_scheduler_type {
        Schedule::Constant => options.learning_rate,
        Schedule::Linear => {
            let left = total.saturating_sub(step) as f64;
            options.learning_rate * left / (total - warmup).max(1) as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_then_decays_to_zero() {
        let options = Options { learning_rate: 1.0, warmup_ratio: 0.2, ..Options::default() };
        let rates: Vec<f64> = (0..10).map(|step| learning_rate(&options, step, 10)).collect();
        assert_eq!(rates, [0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]);
        let constant = Options { lr_scheduler_type: Schedule::Constant, ..options };
        assert_eq!(learning_rate(&constant, 9, 10), 1.0);
    }
}
