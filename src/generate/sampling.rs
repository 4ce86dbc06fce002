//! Tokens drawn with random numbers that follow from where a token stands.

use super::GenerateOptions;
use super::candidates::Candidates;
use super::filters::probabilities;
use crate::device::cpu::philox::philox4x32;

/// Draws one of `candidates` for the token at `position` of an answer.
pub fn draw(
    candidates: &Candidates,
    options: &GenerateOptions,
    row: u64,
    [position, answer]: [u64; 2],
) -> i32 {
    let weights = probabilities(candidates);
    let mut left = uniform(options.seed, [position as u32, answer as u32, row as u32, (row >> 32) as u32]);
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

/// A number whose order draws without replacement: those of the largest numbers are what drawing one after the other
/// from softmax(`score`) gives, in that order (Gumbel-top-k, Kool et al. 2019).
pub fn priority(
    score: f32,
    options: &GenerateOptions,
    row: u64,
    position: usize,
    [beam, token]: [usize; 2],
) -> f64 {
    if score == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    // Positions take 20 bits and beams 7 at most.
    let place = position as u32 | (beam as u32) << 20;
    let u = uniform(options.seed, [place, token as u32, row as u32, (row >> 32) as u32]);
    let gumbel = -(-(u + f64::MIN_POSITIVE).ln()).ln();
    f64::from(score) + gumbel
}

/// A number in [0, 1) that belongs to the counter.
fn uniform(seed: u64, counter: [u32; 4]) -> f64 {
    let words = philox4x32(counter, [seed as u32, (seed >> 32) as u32]);
    ((u64::from(words[0]) << 21) ^ u64::from(words[1] >> 11)) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::tests::options;
    use std::collections::HashMap;

    const DRAWS: usize = 20_000;

    /// Probabilities 1/2, 1/4, 1/8, 1/16, 1/16 of tokens 9 to 5.
    fn halves() -> Candidates {
        [0.5f32, 0.25, 0.125, 0.0625, 0.0625].iter().zip((5..10).rev()).map(|(p, t)| (t, p.ln())).collect()
    }

    /// Fails unless `count` of [`DRAWS`] lies within five standard deviations of what `p` gives.
    #[track_caller]
    fn assert_likely(count: usize, p: f64) {
        let (got, n) = (count as f64 / DRAWS as f64, DRAWS as f64);
        assert!((got - p).abs() < 5.0 * (p * (1.0 - p) / n).sqrt(), "{got} for {p}");
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let mut counts = [0usize; 10];
        for position in 0..DRAWS as u64 {
            counts[draw(&halves(), &options(), 7, [position, 0]) as usize] += 1;
        }
        for (token, p) in (5..10).rev().zip([0.5, 0.25, 0.125, 0.0625, 0.0625]) {
            assert_likely(counts[token], p);
        }
    }

    #[test]
    fn what_is_forbidden_is_not_drawn() {
        let candidates = vec![(4, -0.1), (2, f32::NEG_INFINITY)];
        assert!((0..1000).all(|position| draw(&candidates, &options(), 0, [position, 0]) == 4));
        assert_eq!(priority(f32::NEG_INFINITY, &options(), 0, 1, [0, 2]), f64::NEG_INFINITY);
    }

    /// Drawing a second one from what the first leaves: 1/4 * (1/2) / (1 - 1/4) for 8 before 9, and so on.
    #[test]
    fn the_largest_priorities_are_draws_without_replacement() {
        let mut pairs: HashMap<(i32, i32), usize> = HashMap::new();
        for position in 0..DRAWS {
            let mut order: Vec<(f64, i32)> = halves()
                .into_iter()
                .map(|(token, score)| (priority(score, &options(), 7, position, [0, token as usize]), token))
                .collect();
            order.sort_by(|a, b| b.0.total_cmp(&a.0));
            *pairs.entry((order[0].1, order[1].1)).or_default() += 1;
        }
        for (first, a) in halves() {
            for (second, b) in halves().into_iter().filter(|(second, _)| *second != first) {
                let (a, b) = (f64::from(a).exp(), f64::from(b).exp());
                assert_likely(pairs[&(first, second)], a * b / (1.0 - a));
            }
        }
    }
}
