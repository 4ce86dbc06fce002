//! One token drawn from a distribution, with random numbers that follow from where the token stands.

use super::{Candidates, Sampling};
use crate::device::cpu::philox::philox4x32;

/// Draws one of `candidates`, which are sorted and of which none but the `top_k` best are given.
///
/// HF's order: temperature, then top-k, then top-p.
pub fn draw(candidates: &Candidates, sampling: &Sampling, row: u64, [position, answer]: [u64; 2]) -> i32 {
    let weights = weights(candidates, sampling);
    let total: f64 = weights.iter().sum();
    let mut left = uniform(sampling.seed, row, [position, answer]) * total;
    let mut chosen = 0;
    for ((token, _), weight) in candidates.iter().zip(&weights) {
        if *weight > 0.0 {
            chosen = *token;
            if left < *weight {
                break;
            }
            left -= weight;
        }
    }
    chosen
}

/// Relative probabilities, 0 of what is left out.
fn weights(candidates: &Candidates, sampling: &Sampling) -> Vec<f64> {
    let temperature = f64::from(sampling.temperature);
    let most = candidates.first().map_or(0.0, |(_, value)| f64::from(*value));
    let weight = |(_, value): &(i32, f32)| match value.is_finite() {
        true => ((f64::from(*value) - most) / temperature).exp(),
        false => 0.0,
    };
    let mut weights: Vec<f64> = candidates.iter().map(weight).collect();
    if sampling.top_p < 1.0 {
        let total: f64 = weights.iter().sum();
        let mut tail = 0.0;
        // The most likely token always stays.
        for weight in weights.iter_mut().skip(1).rev() {
            tail += *weight;
            if tail > (1.0 - f64::from(sampling.top_p)) * total {
                break;
            }
            *weight = 0.0;
        }
    }
    weights
}

/// A number in [0, 1) of its own for every row, answer and position.
fn uniform(seed: u64, row: u64, [position, answer]: [u64; 2]) -> f64 {
    let counter = [position as u32, answer as u32, row as u32, (row >> 32) as u32];
    let words = philox4x32(counter, [seed as u32, (seed >> 32) as u32]);
    ((u64::from(words[0]) << 21) ^ u64::from(words[1] >> 11)) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f32, top_p: f32) -> Sampling {
        Sampling { temperature, top_k: 0, top_p, seed: 3, first_row: 0 }
    }

    /// Probabilities 1/2, 1/4, 1/8, 1/16, 1/16 of tokens 9 to 5.
    fn halves() -> Candidates {
        [0.5f32, 0.25, 0.125, 0.0625, 0.0625].iter().zip((5..10).rev()).map(|(p, t)| (t, p.ln())).collect()
    }

    #[test]
    fn the_least_likely_are_left_out_up_to_their_share() {
        let kept = |top_p| weights(&halves(), &sampling(1.0, top_p)).iter().filter(|&&w| w > 0.0).count();
        assert_eq!([1.0, 0.9, 0.8, 0.51, 0.4, 1e-6].map(kept), [5, 4, 3, 2, 1, 1]);
    }

    #[test]
    fn a_temperature_of_a_half_squares_probabilities() {
        let got = weights(&halves(), &sampling(0.5, 1.0));
        for (got, want) in got.iter().zip([1.0, 1.0 / 4.0, 1.0 / 16.0, 1.0 / 64.0, 1.0 / 64.0]) {
            assert!((got - want).abs() < 1e-6, "{got} for {want}");
        }
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let n = 20_000;
        let mut counts = [0usize; 10];
        for position in 0..n {
            counts[draw(&halves(), &sampling(1.0, 1.0), 7, [position, 0]) as usize] += 1;
        }
        for (token, p) in (5..10).rev().zip([0.5, 0.25, 0.125, 0.0625, 0.0625]) {
            let got = counts[token] as f64 / n as f64;
            // Five standard deviations.
            assert!((got - p).abs() < 5.0 * (p * (1.0 - p) / n as f64).sqrt(), "{token}: {got} for {p}");
        }
    }

    #[test]
    fn what_is_forbidden_is_not_drawn() {
        let candidates = vec![(4, -0.1), (2, f32::NEG_INFINITY)];
        assert!((0..1000).all(|position| draw(&candidates, &sampling(1.0, 1.0), 0, [position, 0]) == 4));
    }
}
