//! Which tokens may come next: HF's logits processors, in HF's order, on one row.

use super::{Candidates, GenerateOptions};
use crate::device::cpu::vector::{largest, sum_exponentials};

/// Most candidates that are kept in order while the logits are gone through.
const INSERTED: usize = 256;

fn sorted(all: impl Iterator<Item = (i32, f32)>, wanted: usize) -> Candidates {
    let mut all: Candidates = all.collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(wanted);
    all
}

fn inserted(logits: &[f32], value: impl Fn((usize, &f32)) -> f32, wanted: usize) -> Candidates {
    let mut best: Candidates = Vec::with_capacity(wanted + 1);
    let mut least = f32::NEG_INFINITY;
    for at in logits.iter().enumerate() {
        // The logit alone first: nearly all are too small, and the rules take time.
        if best.len() == wanted && (*at.1 <= least || value(at) <= least) {
            continue;
        }
        let value = value(at);
        let place = best.partition_point(|(_, other)| *other >= value);
        best.insert(place, (at.0 as i32, value));
        best.truncate(wanted);
        least = best.last().map_or(f32::NEG_INFINITY, |(_, value)| *value);
    }
    best
}

/// The rules of a [`GenerateOptions`].
pub struct Constraints<'a> {
    options: &'a GenerateOptions,
}

impl<'a> Constraints<'a> {
    pub fn new(options: &'a GenerateOptions) -> Self {
        Constraints { options }
    }

    /// The `wanted` most likely tokens that may follow `text`, the first of equals first.
    ///
    /// Log-probabilities are of all tokens together: what is forbidden takes nothing from them, and a forced
    /// token has 0.
    pub fn candidates(&self, logits: &[f32], text: &[i32], wanted: usize) -> Candidates {
        if let Some(forced) = self.forced(text) {
            let others = (0..logits.len() as i32).filter(|&token| token != forced);
            let others = others.map(|token| (token, f32::NEG_INFINITY));
            return std::iter::once((forced, 0.0)).chain(others).take(wanted).collect();
        }
        let banned = self.banned(text);
        let most = largest(logits);
        let log_sum = most + sum_exponentials(logits, most).ln();
        let value = |(token, &logit): (usize, &f32)| match logit.is_nan() || banned.contains(&(token as i32))
        {
            true => f32::NEG_INFINITY,
            false => logit,
        };
        let mut best = match wanted > INSERTED {
            true => sorted(logits.iter().enumerate().map(|at| (at.0 as i32, value(at))), wanted),
            false => inserted(logits, value, wanted),
        };
        best.iter_mut().for_each(|(_, value)| *value -= log_sum);
        best
    }

    /// The one token that may come. The end wins over the beginning, as the later rule in HF.
    fn forced(&self, text: &[i32]) -> Option<i32> {
        let first = self.options.forced_bos_token_id.filter(|_| text.len() == 1);
        let last = self.options.forced_eos_token_id.filter(|_| text.len() == self.options.max_new_tokens);
        last.or(first)
    }

    /// Tokens that may not come.
    fn banned(&self, text: &[i32]) -> Vec<i32> {
        let n = self.options.no_repeat_ngram_size;
        let mut banned = Vec::new();
        if n > 0 && text.len() >= n {
            let tail = &text[text.len() + 1 - n..];
            let repeats = text.windows(n).filter(|window| window[..n - 1] == *tail);
            banned.extend(repeats.map(|window| window[n - 1]));
        }
        if text.len() <= self.options.min_new_tokens {
            banned.extend(&self.options.eos);
        }
        banned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::tests::options;

    const LOGITS: [f32; 6] = [0.0, 2.0, 1.0, 4.0, 3.0, -1.0];

    fn tokens(options: &GenerateOptions, text: &[i32], wanted: usize) -> Vec<i32> {
        let candidates = Constraints::new(options).candidates(&LOGITS, text, wanted);
        candidates.into_iter().filter(|(_, value)| value.is_finite()).map(|(token, _)| token).collect()
    }

    #[test]
    fn log_probabilities_are_of_all_tokens() {
        let options = GenerateOptions { no_repeat_ngram_size: 1, ..options() };
        let got = Constraints::new(&options).candidates(&LOGITS, &[3], 2);
        // ln(e^0 + e^2 + e^1 + e^4 + e^3 + e^-1) = 4.456193.
        assert_eq!((got[0].0, got[1].0), (4, 1));
        assert!((got[0].1 - (3.0 - 4.456_193)).abs() < 1e-5, "{got:?}");
    }

    #[test]
    fn an_ngram_comes_once() {
        let rule = |n| GenerateOptions { no_repeat_ngram_size: n, ..options() };
        assert_eq!(tokens(&rule(1), &[2, 3, 4], 6), [1, 0, 5]);
        // 4 followed 3 before, 1 did not.
        assert_eq!(tokens(&rule(2), &[2, 3, 4, 1, 3], 2), [3, 1]);
        assert_eq!(tokens(&rule(3), &[3, 4, 3, 4], 2), [4, 1]);
        assert_eq!(tokens(&rule(3), &[3, 4], 1), [3], "too short to repeat");
    }

    #[test]
    fn ends_wait_and_forced_tokens_come() {
        let options = GenerateOptions {
            eos: vec![3],
            min_new_tokens: 2,
            forced_bos_token_id: Some(5),
            forced_eos_token_id: Some(3),
            max_new_tokens: 4,
            ..options()
        };
        assert_eq!(tokens(&options, &[2], 1), [5]);
        assert_eq!(tokens(&options, &[2, 5], 1), [4]);
        assert_eq!(tokens(&options, &[2, 5, 4], 1), [3]);
        assert_eq!(tokens(&options, &[2, 5, 4, 1], 6), [3]);
    }
}
