//! What decoding is asked to do.

use crate::error::{Error, Result};
use crate::models::Limits;
use serde::{Serialize, Serializer};

/// When beam search stops looking for better answers (HF `early_stopping`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyStopping {
    /// `true`: as soon as `num_beams` answers are finished.
    Yes,
    /// `false`: when the best open beam, judged at its length, is no better than the worst finished answer.
    No,
    /// `"never"`: when no open beam could still become better.
    Never,
}

impl Serialize for EarlyStopping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            EarlyStopping::Yes => serializer.serialize_bool(true),
            EarlyStopping::No => serializer.serialize_bool(false),
            EarlyStopping::Never => serializer.serialize_str("never"),
        }
    }
}

/// Drawing tokens instead of taking the best ones (HF `do_sample`).
///
/// A token is a function of (seed, number of the row, which of its answers, position) and of the
/// distribution: Philox words, not a stream. What else is in a batch changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sampling {
    /// Divides the logits, above 0.
    pub temperature: f32,
    /// Tokens that may be drawn, 0 for all of them.
    pub top_k: usize,
    /// Least likely tokens that together have at most 1 - top_p are left out; in (0, 1].
    pub top_p: f32,
    pub seed: u64,
    /// Number of the batch's first row among all rows that are ever asked for.
    #[serde(skip)]
    pub first_row: u64,
}

/// How to decode. [`GenerateOptions::new`] is greedy; `Settings` are the same as files and flags name them.
///
/// ```
/// use wattention::generate::GenerateOptions;
/// # fn options(limits: &wattention::models::Limits) -> GenerateOptions {
/// GenerateOptions { num_beams: 4, max_new_tokens: 256, no_repeat_ngram_size: 3, ..GenerateOptions::new(limits) }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenerateOptions {
    /// Tokens after the start token, at most (HF `max_new_tokens`, or `max_length` - 1).
    pub max_new_tokens: usize,
    /// No end of text before so many tokens after the start token (HF `min_new_tokens`, or `min_length` - 1).
    pub min_new_tokens: usize,
    /// Beams of an input; 1 for none.
    pub num_beams: usize,
    /// Answers score the sum of their log-probabilities over their length to this power.
    pub length_penalty: f64,
    pub early_stopping: EarlyStopping,
    /// No sequence of so many tokens comes twice; 0 for no such rule. The start token counts.
    pub no_repeat_ngram_size: usize,
    /// The token after the start token.
    pub forced_bos_token_id: Option<i32>,
    /// The token in the last place, where an answer gets that far.
    pub forced_eos_token_id: Option<i32>,
    /// Answers of an input: at most `num_beams`, or any number of drawn ones.
    pub num_return_sequences: usize,
    /// `None` takes the best tokens.
    pub sampling: Option<Sampling>,
    /// Tokens that end an answer.
    #[serde(rename = "eos_token_id")]
    pub eos: Vec<i32>,
    #[serde(rename = "pad_token_id")]
    pub pad: i32,
    #[serde(rename = "decoder_start_token_id")]
    pub start: i32,
}

/// Tokens of an answer when nothing says how many: HF's 20 would cut every summary.
const MAX_NEW_TOKENS: usize = 128;

impl GenerateOptions {
    /// Greedy, at most 128 tokens or what the decoder has positions for.
    pub fn new(limits: &Limits) -> Self {
        GenerateOptions {
            max_new_tokens: MAX_NEW_TOKENS.min(limits.max_target),
            min_new_tokens: 0,
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::No,
            no_repeat_ngram_size: 0,
            forced_bos_token_id: None,
            forced_eos_token_id: None,
            num_return_sequences: 1,
            sampling: None,
            eos: vec![limits.eos],
            pad: limits.pad,
            start: limits.decoder_start,
        }
    }

    /// Refuses what contradicts itself or the model.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        let refuse = |what: String| Err(Error::usage(what));
        let asked = self.max_new_tokens;
        if !(1..=limits.max_target).contains(&asked) {
            let most = limits.max_target;
            return refuse(format!("--max-new-tokens is {asked}; the decoder has {most} positions"));
        }
        if !(1..=MOST_BEAMS).contains(&self.num_beams) {
            return refuse(format!(
                "--num-beams is {}; it must lie between 1 and {MOST_BEAMS}",
                self.num_beams
            ));
        }
        if !self.length_penalty.is_finite() {
            return refuse(format!("--length-penalty is {}; it must be a number", self.length_penalty));
        }
        let answers = self.num_return_sequences;
        if answers == 0 || answers > MOST_BEAMS || (self.sampling.is_none() && answers > self.num_beams) {
            return refuse(format!(
                "--num-return-sequences is {answers}; without sampling, at most one answer a beam ({})",
                self.num_beams
            ));
        }
        if let Some(sampling) = &self.sampling {
            if self.num_beams > 1 {
                let beams = self.num_beams;
                return refuse(format!(
                    "--do-sample draws single tokens; with --num-beams {beams} leave it out"
                ));
            }
            if !(sampling.temperature > 0.0 && sampling.temperature.is_finite()) {
                return refuse(format!("--temperature is {}; it must be above 0", sampling.temperature));
            }
            if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
                return refuse(format!("--top-p is {}; it must be above 0 and at most 1", sampling.top_p));
            }
        }
        let given = self.eos.iter().chain(&self.forced_bos_token_id).chain(&self.forced_eos_token_id);
        for &token in given.chain([&self.pad, &self.start]) {
            if token < 0 || token as usize >= limits.vocab {
                let vocab = limits.vocab;
                return refuse(format!(
                    "token {token} of the generation settings is not in the vocabulary of {vocab}"
                ));
            }
        }
        Ok(())
    }

    /// Rows that an input is decoded in.
    pub(super) fn rows(&self) -> usize {
        match self.sampling {
            Some(_) => self.num_return_sequences,
            None => self.num_beams,
        }
    }

    /// Whether the choice of a token needs more than the largest logit.
    pub(super) fn wants_scores(&self) -> bool {
        self.num_beams > 1
            || self.sampling.is_some()
            || self.no_repeat_ngram_size > 0
            || self.min_new_tokens > 0
            || self.forced_bos_token_id.is_some()
            || self.forced_eos_token_id.is_some()
    }

    /// What stands behind the end of an answer. HF's beam search takes a pad token of 0 for none.
    pub(super) fn filler(&self) -> i32 {
        match (self.num_beams, self.pad) {
            (2.., 0) => self.eos.first().copied().unwrap_or(self.pad),
            _ => self.pad,
        }
    }
}

/// More of them would not be meant.
const MOST_BEAMS: usize = 128;
