//! What sampling leaves out: HF's logits warpers, in HF's order, on the candidates of one row.

use super::GenerateOptions;
use super::candidates::{Candidates, best_with_equals};

/// Most tokens that `top_h` looks at, as in HF.
const TOP_H_TOKENS: usize = 100;

/// The tokens that can be drawn, the most likely first, with their scores over the temperature.
pub fn filtered(scores: &[f32], options: &GenerateOptions) -> Candidates {
    let least = options.least_kept();
    let most = match (options.top_k, options.top_h) {
        (_, Some(_)) => TOP_H_TOKENS,
        (0, None) => scores.len(),
        (top_k, None) => top_k.max(least),
    };
    let mut kept = best_with_equals(scores, most.min(scores.len()));
    kept.retain(|(_, score)| *score > f32::NEG_INFINITY);
    let temperature = options.temperature as f32;
    kept.iter_mut().for_each(|(_, score)| *score /= temperature);
    if let Some(share) = options.top_h {
        by_entropy(&mut kept, share);
        if options.top_k > 0 {
            let last = kept.get(options.top_k.max(least) - 1).map(|(_, score)| *score);
            kept.retain(|(_, score)| last.is_none_or(|last| *score >= last));
        }
    }
    if options.top_p < 1.0 {
        let p = probabilities(&kept);
        let mut tail = 0.0;
        let out = p.iter().rev().take_while(|p| {
            tail += *p;
            tail <= 1.0 - options.top_p
        });
        let out = out.count();
        kept.truncate((p.len() - out).max(least));
    }
    if let Some(share) = options.min_p {
        let p = probabilities(&kept);
        let bar = share * p.first().copied().unwrap_or(0.0);
        keep(&mut kept, |place| p[place] >= bar || place < least);
    }
    if options.typical_p < 1.0 {
        typical(&mut kept, options.typical_p, least);
    }
    if options.epsilon_cutoff > 0.0 {
        above(&mut kept, options.epsilon_cutoff, least);
    }
    if options.eta_cutoff > 0.0 {
        let p = probabilities(&kept);
        let eta = options.eta_cutoff.min(options.eta_cutoff.sqrt() * (-entropy(&p)).exp());
        above(&mut kept, eta, least);
    }
    kept
}

/// Softmax of the scores.
pub fn probabilities(kept: &Candidates) -> Vec<f64> {
    let most = kept.iter().map(|(_, score)| f64::from(*score)).fold(f64::NEG_INFINITY, f64::max);
    let weight = |(_, score): &(i32, f32)| match *score > f32::NEG_INFINITY {
        true => (f64::from(*score) - most).exp(),
        false => 0.0,
    };
    let weights: Vec<f64> = kept.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// Makes the scores log-probabilities of what is kept.
pub fn normalise(kept: &mut Candidates) {
    let p = probabilities(kept);
    kept.iter_mut().zip(p).for_each(|((_, score), p)| *score = p.ln() as f32);
}

fn entropy(p: &[f64]) -> f64 {
    -p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>()
}

fn keep(kept: &mut Candidates, wanted: impl Fn(usize) -> bool) {
    let mut place = 0;
    kept.retain(|_| {
        place += 1;
        wanted(place - 1)
    });
}

/// Keeps tokens of probability `bar` or more, and all that equal the `least` most likely ones.
fn above(kept: &mut Candidates, bar: f64, least: usize) {
    let p = probabilities(kept);
    let last = kept.get(least.min(kept.len()).saturating_sub(1)).map(|(_, score)| *score);
    let scores: Vec<f32> = kept.iter().map(|(_, score)| *score).collect();
    keep(kept, |place| p[place] >= bar || last.is_none_or(|last| scores[place] >= last));
}

/// Keeps the most likely tokens whose summed entropy is at most `share` of that of the first hundred (top-H).
fn by_entropy(kept: &mut Candidates, share: f64) {
    kept.truncate(TOP_H_TOKENS);
    let p = probabilities(kept);
    let bar = share * entropy(&p);
    let mut so_far = 0.0;
    let within = p.iter().take_while(|p| {
        so_far += entropy(&[**p]);
        so_far <= bar
    });
    let within = within.count().max(1);
    kept.truncate(within);
}

/// Keeps the tokens whose information is nearest to the entropy and that together have the probability `mass`
/// (locally typical sampling).
fn typical(kept: &mut Candidates, mass: f64, least: usize) {
    let p = probabilities(kept);
    let entropy = entropy(&p);
    let distance = |place: usize| (-p[place].ln() - entropy).abs();
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
    let mut so_far = 0.0;
    let below = order.iter().take_while(|&&place| {
        so_far += p[place];
        so_far < mass
    });
    let last = below.count().min(order.len().saturating_sub(1));
    let bar = order.get(last).map_or(f64::INFINITY, |&place| distance(place));
    let first: Vec<usize> = order.iter().take(least).copied().collect();
    keep(kept, |place| distance(place) <= bar || first.contains(&place));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::tests::options;

    fn tokens(options: &GenerateOptions, scores: &[f32]) -> Vec<i32> {
        filtered(scores, options).into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn equals_of_the_last_token_stay() {
        let top_k = |top_k| GenerateOptions { top_k, ..options() };
        let scores = [1.0, 3.0, 2.0, 2.0, f32::NAN, 2.0, f32::NEG_INFINITY];
        assert_eq!(tokens(&top_k(1), &scores), [1]);
        assert_eq!(tokens(&top_k(2), &scores), [1, 2, 3, 5]);
        assert_eq!(tokens(&top_k(3), &scores), [1, 2, 3, 5]);
        assert_eq!(tokens(&top_k(0), &scores), [1, 2, 3, 5, 0]);
    }

    #[test]
    fn beams_keep_a_token_that_does_not_end_them() {
        let scores = [9.0, 0.0, 1.0, 2.0];
        for (num_beams, kept) in [(1, &[0][..]), (4, &[0, 3])] {
            let narrow = GenerateOptions { num_beams, ..options() };
            for strict in [
                GenerateOptions { top_k: 1, ..narrow.clone() },
                GenerateOptions { top_p: 1e-6, ..narrow.clone() },
                GenerateOptions { min_p: Some(1.0), ..narrow.clone() },
                GenerateOptions { epsilon_cutoff: 0.99, ..narrow.clone() },
                GenerateOptions { eta_cutoff: 0.99, ..narrow },
            ] {
                assert_eq!(tokens(&strict, &scores), kept, "{strict:?}");
            }
        }
    }
}
