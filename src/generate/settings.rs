//! Settings of decoding under HF's names: from `generation_config.json`, from an older `config.json`, from flags.

use super::{EarlyStopping, GenerateOptions, Sampling};
use crate::error::{Error, Result};
use crate::models::{Limits, check};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::path::Path;

/// Each setting, or that it is left open. Lengths with `max_length` and `min_length` count the start token.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub max_length: Option<usize>,
    pub max_new_tokens: Option<usize>,
    pub min_length: Option<usize>,
    pub min_new_tokens: Option<usize>,
    pub num_beams: Option<usize>,
    pub length_penalty: Option<f64>,
    #[serde(deserialize_with = "early_stopping")]
    pub early_stopping: Option<EarlyStopping>,
    pub no_repeat_ngram_size: Option<usize>,
    pub forced_bos_token_id: Option<i32>,
    #[serde(deserialize_with = "tokens")]
    pub forced_eos_token_id: Option<Vec<i32>>,
    pub num_return_sequences: Option<usize>,
    pub do_sample: Option<bool>,
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    #[serde(deserialize_with = "tokens")]
    pub eos_token_id: Option<Vec<i32>>,
    pub pad_token_id: Option<i32>,
    pub decoder_start_token_id: Option<i32>,
}

/// Settings that would change what is generated, and what they are where they change nothing.
const UNSUPPORTED: [(&str, f64); 16] = [
    ("repetition_penalty", 1.0),
    ("encoder_repetition_penalty", 1.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("num_beam_groups", 1.0),
    ("diversity_penalty", 0.0),
    ("typical_p", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("guidance_scale", 1.0),
    ("bad_words_ids", 0.0),
    ("sequence_bias", 0.0),
    ("suppress_tokens", 0.0),
    ("begin_suppress_tokens", 0.0),
    ("exponential_decay_length_penalty", 0.0),
    ("min_p", 0.0),
    ("renormalize_logits", 0.0),
];

impl Settings {
    /// Those of the model in `dir`: of its `generation_config.json`, or without one of its `config.json`.
    pub fn of_model(dir: &Path) -> Result<Self> {
        let own = dir.join("generation_config.json");
        let path = if own.exists() { own } else { dir.join("config.json") };
        let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, &e))?;
        Settings::parse(&path.display().to_string(), &text)
    }

    /// From the text of such a file; `at` names it in errors.
    pub fn parse(at: &str, text: &str) -> Result<Self> {
        let settings = check::parse(at, text, |_: &Settings| Ok(()))?;
        let all: Value = serde_json::from_str(text).map_err(|e| Error::data(at, e.to_string()))?;
        for (key, harmless) in UNSUPPORTED {
            let changes_nothing = match all.get(key) {
                None | Some(Value::Null | Value::Bool(false)) => true,
                Some(Value::Number(number)) => number.as_f64() == Some(harmless),
                Some(Value::Array(list)) => list.is_empty(),
                Some(_) => false,
            };
            if !changes_nothing {
                let value = &all[key];
                return Err(Error::data(
                    at,
                    format!("{key} is {value}, which is not supported; take it out"),
                ));
            }
        }
        Ok(settings)
    }

    /// These, and where they leave something open `others`: a length given here outdoes any there.
    pub fn or(self, others: Settings) -> Settings {
        let given = self.max_length.is_some() || self.max_new_tokens.is_some();
        let most = if given {
            (self.max_length, self.max_new_tokens)
        } else {
            (others.max_length, others.max_new_tokens)
        };
        let given = self.min_length.is_some() || self.min_new_tokens.is_some();
        let least = if given {
            (self.min_length, self.min_new_tokens)
        } else {
            (others.min_length, others.min_new_tokens)
        };
        Settings {
            max_length: most.0,
            max_new_tokens: most.1,
            min_length: least.0,
            min_new_tokens: least.1,
            num_beams: self.num_beams.or(others.num_beams),
            length_penalty: self.length_penalty.or(others.length_penalty),
            early_stopping: self.early_stopping.or(others.early_stopping),
            no_repeat_ngram_size: self.no_repeat_ngram_size.or(others.no_repeat_ngram_size),
            forced_bos_token_id: self.forced_bos_token_id.or(others.forced_bos_token_id),
            forced_eos_token_id: self.forced_eos_token_id.or(others.forced_eos_token_id),
            num_return_sequences: self.num_return_sequences.or(others.num_return_sequences),
            do_sample: self.do_sample.or(others.do_sample),
            temperature: self.temperature.or(others.temperature),
            top_k: self.top_k.or(others.top_k),
            top_p: self.top_p.or(others.top_p),
            eos_token_id: self.eos_token_id.or(others.eos_token_id),
            pad_token_id: self.pad_token_id.or(others.pad_token_id),
            decoder_start_token_id: self.decoder_start_token_id.or(others.decoder_start_token_id),
        }
    }

    /// What to do, with HF's defaults but for the length: [`GenerateOptions::new`]'s.
    pub fn options(&self, limits: &Limits, seed: u64) -> Result<GenerateOptions> {
        let start = GenerateOptions::new(limits);
        let at_least_one = |length: usize| match length {
            0 | 1 => {
                Err(Error::usage(format!("--max-length is {length}; the start token is the first of them")))
            }
            _ => Ok(length - 1),
        };
        let max_new_tokens = match (self.max_new_tokens, self.max_length) {
            (Some(tokens), _) => tokens,
            (None, Some(length)) => at_least_one(length)?,
            (None, None) => start.max_new_tokens,
        };
        let min_new_tokens = match (self.min_new_tokens, self.min_length) {
            (Some(tokens), _) => tokens,
            (None, length) => length.unwrap_or(0).saturating_sub(1),
        };
        let forced_eos_token_id = match self.forced_eos_token_id.as_deref() {
            None | Some([]) => None,
            Some([token]) => Some(*token),
            Some(_) => {
                return Err(Error::usage("forced_eos_token_id names several tokens; one can be forced"));
            }
        };
        let sampling = self.do_sample.unwrap_or(false).then(|| Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(50),
            top_p: self.top_p.unwrap_or(1.0),
            seed,
            first_row: 0,
        });
        let options = GenerateOptions {
            max_new_tokens,
            min_new_tokens,
            num_beams: self.num_beams.unwrap_or(start.num_beams),
            length_penalty: self.length_penalty.unwrap_or(start.length_penalty),
            early_stopping: self.early_stopping.unwrap_or(start.early_stopping),
            no_repeat_ngram_size: self.no_repeat_ngram_size.unwrap_or(0),
            forced_bos_token_id: self.forced_bos_token_id,
            forced_eos_token_id,
            num_return_sequences: self.num_return_sequences.unwrap_or(1),
            sampling,
            eos: self.eos_token_id.clone().unwrap_or(start.eos),
            pad: self.pad_token_id.unwrap_or(start.pad),
            start: self.decoder_start_token_id.unwrap_or(start.start),
        };
        options.check(limits)?;
        Ok(options)
    }
}

impl EarlyStopping {
    /// By the name that HF gives it: true, false or never.
    pub fn named(name: &str) -> std::result::Result<Self, String> {
        match name {
            "true" => Ok(EarlyStopping::Yes),
            "false" => Ok(EarlyStopping::No),
            "never" => Ok(EarlyStopping::Never),
            other => Err(format!("it is '{other}'; it may be true, false or never")),
        }
    }
}

fn early_stopping<'de, D: Deserializer<'de>>(
    value: D,
) -> std::result::Result<Option<EarlyStopping>, D::Error> {
    let named = |name: &str| EarlyStopping::named(name).map(Some).map_err(serde::de::Error::custom);
    match Option::<Value>::deserialize(value)? {
        None => Ok(None),
        Some(Value::String(name)) => named(&name),
        Some(other) => named(&other.to_string()),
    }
}

/// One token, or a list of them.
fn tokens<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Option<Vec<i32>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tokens {
        One(i32),
        More(Vec<i32>),
    }
    Ok(Option::<Tokens>::deserialize(value)?.map(|tokens| match tokens {
        Tokens::One(token) => vec![token],
        Tokens::More(tokens) => tokens,
    }))
}
