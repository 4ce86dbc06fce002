//! What decoding is asked to do: every setting declared once, with its key, type, default, range and meaning.

use super::setting::{Setting, Used, Value, check, parse};
use crate::error::{Error, Result};
use crate::models::ModelLimits;
use crate::settings::{Range, settings as range};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use std::sync::Arc;

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

impl Value for EarlyStopping {
    const TAKES: &'static str = "true, false or never";

    fn read(json: &Json) -> Option<Self> {
        match json {
            Json::Bool(true) => Some(EarlyStopping::Yes),
            Json::Bool(false) => Some(EarlyStopping::No),
            Json::String(name) if name == "never" => Some(EarlyStopping::Never),
            _ => None,
        }
    }
}

/// Tokens of an answer when nothing says how many: HF's 20 would cut every summary.
const MAX_NEW_TOKENS: usize = 128;

/// What each token adds to a text, in bytes: a character can be spread over tokens.
#[derive(Debug, PartialEq)]
pub struct Pieces(pub Vec<Vec<u8>>);

/// A setting that cannot be as it is, and why.
pub struct Refusal {
    pub key: &'static str,
    /// Begins with "is" and the value.
    pub what: String,
}

impl Refusal {
    fn new(key: &'static str, value: &impl Serialize, why: impl std::fmt::Display) -> Self {
        let value = serde_json::to_string(value).unwrap_or_default();
        Refusal { key, what: format!("is {value}; {why}") }
    }
}

/// Declares each setting: its meaning, where it is used, the name of its value, HF's key, type and default, its range.
macro_rules! decoding {
    ($limits:ident; $(
        $(#[doc = $help:literal])+
        [$used:ident, $name:literal] $key:ident: $type:ty = $default:expr
        $(, $($low:ident)+ $least:literal $(and $($high:ident)+ $most:literal)?)?;
    )*) => {
        /// How to decode. [`GenerateOptions::new`] is greedy; `Settings` are the same as files and flags name them.
        ///
        /// ```
        /// use wattention::generate::GenerateOptions;
        /// # fn options(limits: &wattention::models::ModelLimits) -> GenerateOptions {
        /// GenerateOptions { num_beams: 4, max_new_tokens: 256, no_repeat_ngram_size: 3, ..GenerateOptions::new(limits) }
        /// # }
        /// ```
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub struct GenerateOptions {
            $($(#[doc = $help])+ pub $key: $type,)*
            /// Seed of what is drawn.
            pub seed: u64,
            /// Number of the batch's first row among all rows that are ever asked for: a drawn token is a function
            /// of seed, row, answer and position, so that what else is in a batch changes nothing.
            #[serde(skip)]
            pub first_row: u64,
            /// What each token adds to a text; needed for `stop_strings` only.
            #[serde(skip)]
            pub pieces: Option<Arc<Pieces>>,
        }

        /// The settings that are supported, in the order of help pages.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            key: stringify!($key),
            help: concat!($($help),+),
            value_name: $name,
            is_switch: <$type as Value>::IS_SWITCH,
            used: Used::$used,
            parse: |text| parse::<$type>(text, decoding!(@range $($($low)+ $least $(and $($high)+ $most)?)?)),
        }),*];

        impl GenerateOptions {
            /// HF's defaults, but for at most 128 tokens or what the decoder has positions for.
            pub fn new($limits: &ModelLimits) -> Self {
                GenerateOptions { $($key: $default,)* seed: 0, first_row: 0, pieces: None }
            }

            /// Takes over what `said` gives for each key.
            pub(super) fn read<'a>(
                &mut self,
                said: impl Fn(&'static str) -> Option<&'a Json>,
            ) -> Result<(), Refusal> {
                $(if let Some(json) = said(stringify!($key)) {
                    self.$key = Value::read(json).ok_or_else(|| {
                        let must = format!("it must be {}", <$type as Value>::TAKES);
                        Refusal::new(stringify!($key), json, must)
                    })?;
                })*
                Ok(())
            }

            fn check_ranges(&self) -> Result<(), Refusal> {
                $(if self.uses(Used::$used) {
                    let range = decoding!(@range $($($low)+ $least $(and $($high)+ $most)?)?);
                    let refuse = |must| Refusal::new(stringify!($key), &self.$key, must);
                    check(&self.$key, range).map_err(refuse)?;
                })*
                Ok(())
            }
        }
    };

    (@range) => { None::<Range> };
    (@range $($range:tt)+) => { Some(range!(@range $($range)+)) };
}

decoding! {
    limits;
    /// Tokens generated after the start token, at most [default: the model's, or 128, or the decoder's positions]
    [Always, "TOKENS"] max_new_tokens: usize = MAX_NEW_TOKENS.min(limits.max_target), at least 1;
    /// Tokens generated before an answer may end
    [Always, "TOKENS"] min_new_tokens: usize = 0;
    /// Seconds after which a batch of answers ends with the token it is at
    [Always, "S"] max_time: Option<f64> = None, at least 0;
    /// An answer ends when its text holds this string, or one of a JSON list of strings
    [Always, "TEXT"] stop_strings: Vec<String> = Vec::new();
    /// Beams to search with; 1 takes the best token each time
    [Always, "N"] num_beams: usize = 1, at least 1 and at most 128;
    /// Beam search divides the sum of log-probabilities by the length to this power
    [BeamSearch, "X"] length_penalty: f64 = 1.0;
    /// Beam search stops at as many answers as beams (true), when better ones are unlikely (false) or impossible (never)
    [BeamSearch, "true|false|never"] early_stopping: EarlyStopping = EarlyStopping::No;
    /// Answers of each input: the best beams, or as many as are drawn
    [Always, "N"] num_return_sequences: usize = 1, at least 1 and at most 128;
    /// No sequence of so many tokens is generated twice; 0 for no such rule
    [Always, "N"] no_repeat_ngram_size: usize = 0;
    /// No sequence of so many tokens of the input is generated; 0 for no such rule
    [Always, "N"] encoder_no_repeat_ngram_size: usize = 0;
    /// Makes tokens that were generated before less likely; 1 for no such rule
    [Always, "X"] repetition_penalty: f64 = 1.0, above 0;
    /// Makes tokens of the input more likely; 1 for no such rule
    [Always, "X"] encoder_repetition_penalty: f64 = 1.0, above 0;
    /// Banned sequences of tokens, as a JSON list of lists of ids
    [Always, "IDS"] bad_words_ids: Vec<Vec<i32>> = Vec::new();
    /// What is added to the score of a token that completes a sequence, as JSON: [[[ID,..],X],..]
    [Always, "BIASES"] sequence_bias: Vec<(Vec<i32>, f64)> = Vec::new();
    /// Tokens that are never generated
    [Always, "ID,.."] suppress_tokens: Vec<i32> = Vec::new();
    /// Tokens that are not generated first
    [Always, "ID,.."] begin_suppress_tokens: Vec<i32> = Vec::new();
    /// The first token of every answer
    [Always, "ID"] forced_bos_token_id: Option<i32> = None;
    /// The last token of an answer that reaches the maximum length
    [Always, "ID,.."] forced_eos_token_id: Vec<i32> = Vec::new();
    /// After so many tokens, the end of the answer becomes more likely by this factor with each token
    [Always, "TOKENS,X"] exponential_decay_length_penalty: Option<(usize, f64)> = None, above 0;
    /// Makes probabilities sum to 1 again after the rules above
    [Always, "true|false"] renormalize_logits: bool = false;
    /// Draw tokens instead of taking the best; --seed decides which
    [Always, "true|false"] do_sample: bool = false;
    /// Sampling divides the scores by this
    [Sampling, "X"] temperature: f64 = 1.0, above 0;
    /// Sampling keeps so many of the most likely tokens; 0 keeps all [default: 50]
    [Sampling, "N"] top_k: usize = 50;
    /// Sampling keeps the most likely tokens that together have this probability
    [Sampling, "P"] top_p: f64 = 1.0, above 0 and at most 1;
    /// Sampling leaves out tokens less likely than this share of the most likely one's probability
    [Sampling, "P"] min_p: Option<f64> = None, at least 0 and at most 1;
    /// Sampling keeps the most likely tokens that together have this share of the entropy
    [Sampling, "X"] top_h: Option<f64> = None, above 0 and at most 1;
    /// Sampling keeps the tokens of most typical information that together have this probability
    [Sampling, "P"] typical_p: f64 = 1.0, above 0 and at most 1;
    /// Sampling leaves out tokens less likely than this; 0 for none
    [Sampling, "P"] epsilon_cutoff: f64 = 0.0, at least 0 and below 1;
    /// Sampling leaves out tokens less likely than this or than its root over the exponential of the entropy; 0 for none
    [Sampling, "P"] eta_cutoff: f64 = 0.0, at least 0 and below 1;
    /// The token that an answer starts after
    [Always, "ID"] decoder_start_token_id: i32 = limits.decoder_start;
    /// Tokens that end an answer; none for no end before the maximum length
    [Always, "ID,.."] eos_token_id: Vec<i32> = vec![limits.eos];
    /// The token behind the end of an answer
    [Always, "ID"] pad_token_id: i32 = limits.pad;
}

/// Lengths that count the start token, as files and flags can give them.
pub static LENGTHS: [Setting; 2] = [
    length("max_length", "--max-new-tokens with the start token counted"),
    length("min_length", "--min-new-tokens with the start token counted"),
];

const fn length(key: &'static str, help: &'static str) -> Setting {
    Setting { key, help, value_name: "TOKENS", is_switch: false, used: Used::Always, parse: whole_number }
}

fn whole_number(text: &str) -> Result<Json, String> {
    parse::<usize>(text, None)
}

impl GenerateOptions {
    /// Refuses what contradicts itself or the model.
    pub fn check(&self, limits: &ModelLimits) -> Result<()> {
        let refuse = |Refusal { key, what }| Error::usage(format!("{key} {what}"));
        self.refusal(limits).map_err(refuse)
    }

    /// [`check`](Self::check) with the key of the setting that is refused.
    pub(super) fn refusal(&self, limits: &ModelLimits) -> Result<(), Refusal> {
        self.check_ranges()?;
        if !self.length_penalty.is_finite() {
            return Err(Refusal::new("length_penalty", &self.length_penalty, "it must be a finite number"));
        }
        if self.max_new_tokens > limits.max_target {
            let why = format!("the decoder has {} positions", limits.max_target);
            return Err(Refusal::new("max_new_tokens", &self.max_new_tokens, why));
        }
        let answers = self.num_return_sequences;
        if self.num_beams > 1 && answers > self.num_beams {
            let why = format!("beam search has at most one answer for each of its {} beams", self.num_beams);
            return Err(Refusal::new("num_return_sequences", &answers, why));
        }
        if self.num_beams == 1 && !self.do_sample && answers > 1 {
            let why = "greedy decoding has one answer; set num_beams or do_sample";
            return Err(Refusal::new("num_return_sequences", &answers, why));
        }
        self.check_tokens(limits.vocab)?;
        for (key, forced) in [
            ("forced_bos_token_id", self.forced_bos_token_id.as_slice()),
            ("forced_eos_token_id", &self.forced_eos_token_id),
        ] {
            if !forced.is_empty() && forced.iter().all(|token| self.suppress_tokens.contains(token)) {
                return Err(Refusal::new(key, &forced, "suppress_tokens forbids what it forces"));
            }
        }
        Ok(())
    }

    /// Whether settings of this kind have an effect: others are not looked at, as in HF.
    pub fn uses(&self, used: Used) -> bool {
        match used {
            Used::Always => true,
            Used::BeamSearch => self.num_beams > 1,
            Used::Sampling => self.do_sample,
        }
    }

    /// Refuses tokens that the vocabulary does not have.
    fn check_tokens(&self, vocab: usize) -> Result<(), Refusal> {
        let banned = self.bad_words_ids.concat();
        let biased: Vec<i32> = self.sequence_bias.iter().flat_map(|(ids, _)| ids.clone()).collect();
        for (key, tokens) in [
            ("bad_words_ids", &banned[..]),
            ("sequence_bias", &biased),
            ("suppress_tokens", &self.suppress_tokens),
            ("begin_suppress_tokens", &self.begin_suppress_tokens),
            ("forced_bos_token_id", self.forced_bos_token_id.as_slice()),
            ("forced_eos_token_id", &self.forced_eos_token_id),
            ("decoder_start_token_id", &[self.decoder_start_token_id]),
            ("eos_token_id", &self.eos_token_id),
            ("pad_token_id", &[self.pad_token_id]),
        ] {
            if let Some(token) = tokens.iter().find(|&&token| token < 0 || token as usize >= vocab) {
                return Err(Refusal::new(key, token, format!("the vocabulary has {vocab} tokens, from 0")));
            }
        }
        Ok(())
    }

    /// Rows that an input is decoded in.
    pub(super) fn rows(&self) -> usize {
        match self.num_beams {
            1 => self.num_return_sequences,
            beams => beams,
        }
    }

    /// Tokens that filters of sampling leave at least: beams need one that does not end them.
    pub(super) fn least_kept(&self) -> usize {
        match self.num_beams {
            1 => 1,
            _ => self.eos_token_id.len() + 1,
        }
    }

    /// Whether the choice of the token after `length` tokens needs more than the largest logit.
    pub(super) fn needs_scores(&self, length: usize) -> bool {
        let n = self.no_repeat_ngram_size;
        self.num_beams > 1
            || self.do_sample
            || (n > 0 && length >= n)
            || (self.encoder_no_repeat_ngram_size > 0 && length + 1 >= self.encoder_no_repeat_ngram_size)
            || self.repetition_penalty != 1.0
            || self.encoder_repetition_penalty != 1.0
            || !self.bad_words_ids.is_empty()
            || !self.sequence_bias.is_empty()
            || !self.suppress_tokens.is_empty()
            || (self.min_new_tokens >= length && !self.eos_token_id.is_empty())
            || (length == self.first_free_length() && !self.begin_suppress_tokens.is_empty())
            || (length == 1 && self.forced_bos_token_id.is_some())
            || (length == self.max_new_tokens && !self.forced_eos_token_id.is_empty())
            || self.exponential_decay_length_penalty.is_some_and(|(start, _)| length > start + 1)
    }

    /// Length of a text whose next token is the first that nothing forces.
    pub(super) fn first_free_length(&self) -> usize {
        1 + usize::from(self.forced_bos_token_id.is_some())
    }

    /// What stands behind the end of an answer. HF's beam search takes a pad token of 0 for none.
    pub(super) fn filler(&self) -> i32 {
        match (self.num_beams, self.pad_token_id) {
            (2.., 0) => self.eos_token_id.first().copied().unwrap_or(self.pad_token_id),
            _ => self.pad_token_id,
        }
    }
}
