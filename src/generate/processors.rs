//! Which tokens may come next and how likely they are: HF's logits processors, in HF's order, on one row.

use super::candidates::{Candidates, best};
use super::{GenerateOptions, filters};
use crate::device::cpu::vector::{largest, sum_exponentials};
use crate::models::batch::Source;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The rules of a [`GenerateOptions`] for the inputs of a batch.
pub struct Processors<'a> {
    options: &'a GenerateOptions,
    /// The last bias of each sequence, as in HF, where they are the keys of a dictionary.
    biases: BTreeMap<&'a [i32], f32>,
    inputs: Vec<Input>,
}

/// Which of an input's rows, and which input of the batch.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub input: usize,
    pub row: usize,
}

/// What rules look up of one input; padding is no part of it.
#[derive(Default)]
struct Input {
    /// Without repetitions.
    tokens: Vec<i32>,
    /// What follows each sequence of `encoder_no_repeat_ngram_size` - 1 tokens.
    successors: HashMap<Vec<i32>, Vec<i32>>,
}

impl Input {
    fn new(options: &GenerateOptions, ids: &[i32]) -> Self {
        let mut input = Input::default();
        if options.encoder_repetition_penalty != 1.0 {
            input.tokens = ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        }
        if let Some(prefix) = options.encoder_no_repeat_ngram_size.checked_sub(1) {
            for gram in ids.windows(prefix + 1) {
                input.successors.entry(gram[..prefix].to_vec()).or_default().push(gram[prefix]);
            }
        }
        input
    }
}

impl<'a> Processors<'a> {
    pub fn new(options: &'a GenerateOptions, source: &Source) -> Self {
        let rows = source.ids.chunks(source.padded).zip(source.key_state.chunks(source.padded));
        // Key state 0 is padding.
        let real = |(ids, states): (&[i32], &[i32])| {
            ids.iter().zip(states).filter(|(_, state)| **state != 0).map(|(id, _)| *id).collect()
        };
        Self::of_rows(options, rows.map(real))
    }

    /// For inputs of these tokens.
    pub fn of_rows(options: &'a GenerateOptions, inputs: impl IntoIterator<Item = Vec<i32>>) -> Self {
        let inputs = inputs.into_iter().map(|ids| Input::new(options, &ids));
        let biases = options.sequence_bias.iter().map(|(sequence, bias)| (&sequence[..], *bias as f32));
        Processors { options, biases: biases.collect(), inputs: inputs.collect() }
    }

    /// Scores `[V]` of a row's next token as HF's processors leave them; those of a beam begin as log-probabilities.
    pub fn process(&self, scores: &mut [f32], text: &[i32], at: Place) {
        let (options, input) = (self.options, &self.inputs[at.input]);
        if options.num_beams > 1 {
            log_softmax(scores);
        }
        for (sequence, bias) in &self.biases {
            if completes(sequence, text) {
                scores[sequence[sequence.len() - 1] as usize] += bias;
            }
        }
        // transformers 5.17 has one row of input ids for all beams, so that only the first beam meets this rule.
        if at.row == 0 {
            let penalty = 1.0 / options.encoder_repetition_penalty as f32;
            penalise(scores, input.tokens.iter().copied(), penalty);
        }
        if options.repetition_penalty != 1.0 {
            let before: BTreeSet<i32> = text.iter().copied().collect();
            penalise(scores, before.into_iter(), options.repetition_penalty as f32);
        }
        self.ban(scores, text, input);
        if let Some(forced) = self.forced(text) {
            scores.fill(f32::NEG_INFINITY);
            forced.iter().for_each(|&token| scores[token as usize] = 0.0);
        }
        if let Some((start, factor)) = options.exponential_decay_length_penalty
            && text.len() > start + 1
        {
            let gain = (factor.powi((text.len() - start - 1) as i32) - 1.0) as f32;
            for &token in &options.eos_token_id {
                let score = &mut scores[token as usize];
                // A banned token stays so: in HF it becomes NaN.
                *score += if score.is_finite() { score.abs() * gain } else { 0.0 };
            }
        }
        forbid(scores, &options.suppress_tokens);
        if text.len() == options.first_free_length() {
            forbid(scores, &options.begin_suppress_tokens);
        }
    }

    /// The tokens that can be chosen after `text`, the best first and the first of equals first, with their scores.
    ///
    /// Without sampling they are the `wanted` best; with it, those that the filters leave, `wanted` at least.
    pub fn candidates(&self, scores: &mut [f32], text: &[i32], at: Place, wanted: usize) -> Candidates {
        let options = self.options;
        self.process(scores, text, at);
        if !options.do_sample {
            if options.renormalize_logits && options.num_beams > 1 {
                log_softmax(scores);
            }
            return best(scores, wanted);
        }
        let mut kept = filters::filtered(scores, options);
        if options.renormalize_logits && options.num_beams > 1 {
            filters::normalise(&mut kept);
        }
        if kept.len() < wanted {
            let kept_tokens: BTreeSet<i32> = kept.iter().map(|(token, _)| *token).collect();
            let others = (0..scores.len() as i32).filter(|token| !kept_tokens.contains(token));
            kept.extend(others.take(wanted - kept.len()).map(|token| (token, f32::NEG_INFINITY)));
        }
        kept
    }

    /// The tokens one of which comes next. The end wins over the beginning, as the later rule in HF.
    fn forced(&self, text: &[i32]) -> Option<&[i32]> {
        let options = self.options;
        let first = options.forced_bos_token_id.as_slice();
        let last = &options.forced_eos_token_id[..];
        match text.len() {
            length if length == options.max_new_tokens && !last.is_empty() => Some(last),
            1 if !first.is_empty() => Some(first),
            _ => None,
        }
    }

    /// Takes away what must not follow `text`.
    fn ban(&self, scores: &mut [f32], text: &[i32], input: &Input) {
        let options = self.options;
        let n = options.no_repeat_ngram_size;
        if n > 0 && text.len() >= n {
            let tail = &text[text.len() + 1 - n..];
            for gram in text.windows(n).filter(|gram| gram[..n - 1] == *tail) {
                forbid(scores, &gram[n - 1..]);
            }
        }
        if let Some(prefix) = options.encoder_no_repeat_ngram_size.checked_sub(1)
            && text.len() >= prefix
            && let Some(banned) = input.successors.get(&text[text.len() - prefix..])
        {
            forbid(scores, banned);
        }
        for word in &options.bad_words_ids {
            let ends = matches!(word[..], [token] if options.eos_token_id.contains(&token));
            if !ends && completes(word, text) {
                forbid(scores, &word[word.len() - 1..]);
            }
        }
        if text.len() <= options.min_new_tokens {
            forbid(scores, &options.eos_token_id);
        }
    }
}

/// Whether one more token after `text` can complete `sequence`. As in HF, `text` has one token more than it needs.
fn completes(sequence: &[i32], text: &[i32]) -> bool {
    match sequence {
        [] => false,
        [_] => true,
        [prefix @ .., _] => sequence.len() <= text.len() && text.ends_with(prefix),
    }
}

/// Makes tokens less likely by a penalty above 1, and more by one below it.
fn penalise(scores: &mut [f32], tokens: impl Iterator<Item = i32>, penalty: f32) {
    for token in tokens {
        let score = &mut scores[token as usize];
        *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
    }
}

fn forbid(scores: &mut [f32], tokens: &[i32]) {
    tokens.iter().for_each(|&token| scores[token as usize] = f32::NEG_INFINITY);
}

fn log_softmax(scores: &mut [f32]) {
    let most = largest(scores);
    let log_sum = most + sum_exponentials(scores, most).ln();
    scores.iter_mut().for_each(|score| *score -= log_sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::tests::options;

    const FIRST: Place = Place { input: 0, row: 0 };

    const LOGITS: [f32; 6] = [0.0, 2.0, 1.0, 4.0, 3.0, -1.0];

    fn tokens(options: &GenerateOptions, text: &[i32], wanted: usize) -> Vec<i32> {
        let processors = Processors::of_rows(options, [vec![]]);
        let candidates = processors.candidates(&mut LOGITS.to_vec(), text, FIRST, wanted);
        candidates.into_iter().filter(|(_, value)| value.is_finite()).map(|(token, _)| token).collect()
    }

    #[test]
    fn log_probabilities_of_beams_are_of_all_tokens() {
        let options = GenerateOptions { no_repeat_ngram_size: 1, num_beams: 2, ..options() };
        let processors = Processors::of_rows(&options, [vec![]]);
        let got = processors.candidates(&mut LOGITS.to_vec(), &[3], FIRST, 2);
        // ln(e^0 + e^2 + e^1 + e^4 + e^3 + e^-1) = 4.456193.
        assert_eq!((got[0].0, got[1].0), (4, 1));
        assert!((got[0].1 - (3.0 - 4.456_193)).abs() < 1e-5, "{got:?}");
    }

    #[test]
    fn an_ngram_is_generated_once() {
        let rule = |n| GenerateOptions { no_repeat_ngram_size: n, eos_token_id: vec![], ..options() };
        assert_eq!(tokens(&rule(1), &[2, 3, 4], 6), [1, 0, 5]);
        // 4 followed 3 before, 1 did not.
        assert_eq!(tokens(&rule(2), &[2, 3, 4, 1, 3], 2), [3, 1]);
        assert_eq!(tokens(&rule(3), &[3, 4, 3, 4], 2), [4, 1]);
        assert_eq!(tokens(&rule(3), &[3, 4], 1), [3], "too short to repeat");
    }

    #[test]
    fn ends_wait_and_forced_tokens_come() {
        let options = GenerateOptions {
            eos_token_id: vec![3],
            min_new_tokens: 2,
            forced_bos_token_id: Some(5),
            forced_eos_token_id: vec![3],
            max_new_tokens: 4,
            exponential_decay_length_penalty: Some((0, 2.0)),
            ..options()
        };
        assert_eq!(tokens(&options, &[2], 1), [5]);
        // Banned, though it becomes more likely with every token.
        assert_eq!(tokens(&options, &[2, 5], 1), [4]);
        assert_eq!(tokens(&options, &[2, 5, 4], 1), [3]);
        assert_eq!(tokens(&options, &[2, 5, 4, 1], 6), [3]);
    }

    /// As transformers, see `process`.
    #[test]
    fn the_input_speaks_to_the_first_row_alone() {
        let options = GenerateOptions { encoder_repetition_penalty: 4.0, num_beams: 2, ..options() };
        let processors = Processors::of_rows(&options, [vec![4]]);
        let best = |row| processors.candidates(&mut LOGITS.to_vec(), &[2], Place { input: 0, row }, 1)[0].0;
        assert_eq!([0, 1].map(best), [4, 3]);
    }

    /// Where no rule speaks, the largest logit is enough and nothing else is read from the device.
    #[test]
    fn scores_are_needed_where_a_rule_can_speak() {
        let eos_token_id = vec![3];
        let plain = GenerateOptions { eos_token_id, max_new_tokens: 8, ..options() };
        let at = |options: &GenerateOptions| (1..=8).filter(|&n| options.needs_scores(n)).collect::<Vec<_>>();
        assert!(at(&plain).is_empty());
        assert_eq!(at(&GenerateOptions { min_new_tokens: 2, ..plain.clone() }), [1, 2]);
        assert_eq!(at(&GenerateOptions { forced_eos_token_id: vec![3], ..plain.clone() }), [8]);
        assert_eq!(at(&GenerateOptions { no_repeat_ngram_size: 7, ..plain.clone() }), [7, 8]);
        assert_eq!(at(&GenerateOptions { begin_suppress_tokens: vec![3], ..plain.clone() }), [1]);
        assert_eq!(at(&GenerateOptions { repetition_penalty: 1.1, ..plain }).len(), 8);
    }
}
