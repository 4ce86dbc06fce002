//! Sudden jumps of the loss or the gradient norm, by their z-score over the last steps (llm.c `-sl`, `-sg`).

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Steps a value is compared with.
const WINDOW: usize = 128;

/// The last values of one series.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LastValues(VecDeque<f64>);

impl LastValues {
    /// Takes in `value` and gives its z-score among the last 128, itself included; none before there are 128.
    pub fn z_score(&mut self, value: f64) -> Option<f64> {
        if self.0.len() == WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(value);
        if self.0.len() < WINDOW {
            return None;
        }
        let n = WINDOW as f64;
        let mean = self.0.iter().sum::<f64>() / n;
        let variance = self.0.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        Some(if variance > 0.0 { (value - mean) / variance.sqrt() } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_once_the_window_is_full() {
        let mut window = LastValues::default();
        for at in 0..127 {
            assert_eq!(window.z_score((at % 2) as f64), None);
        }
        // 64 zeros and 64 ones: mean 1/2, deviation 1/2.
        assert_eq!(window.z_score(1.0), Some(1.0));
        // 63 zeros, 64 ones and a 10: mean 74/128, variance 164/128 - mean^2.
        let mean = 74.0 / 128.0;
        let want = (10.0 - mean) / (164.0f64 / 128.0 - mean * mean).sqrt();
        assert!((window.z_score(10.0).unwrap() - want).abs() < 1e-12);
    }

    #[test]
    fn equal_values_never_jump() {
        let mut window = LastValues::default();
        assert!((0..200).all(|_| window.z_score(2.0).is_none_or(|z| z == 0.0)));
    }
}
