//! Settings of decoding under HF's names: from `generation_config.json`, from an older `config.json`, from flags.

use super::GenerateOptions;
use super::keys::{HARMLESS, REFUSED, START};
use super::options::{LENGTHS, Refusal, SETTINGS};
use super::setting::{Value, flag};
use crate::error::{Error, Result};
use crate::models::ModelLimits;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::path::Path;

/// The flag that leaves keys of the file out.
pub const IGNORE: &str = "ignore-settings";

/// What files and flags say, each key once. A value is looked at where it is used, so that a flag can replace one of
/// the file that cannot be used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    said: BTreeMap<String, Said>,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Said {
    value: Json,
    by: By,
}

/// Who said it.
#[derive(Debug, Clone, PartialEq)]
enum By {
    Flag,
    /// The file's path.
    File(String),
}

impl Settings {
    /// Those of the model in `dir`: of its `generation_config.json`, or without one of its `config.json`. The keys
    /// `ignored` are left out.
    pub fn of_model(dir: &Path, ignored: &[String]) -> Result<Self> {
        let own = dir.join("generation_config.json");
        let is_own = own.exists();
        let path = if is_own { own } else { dir.join("config.json") };
        let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, &e))?;
        let at = path.display().to_string();
        let mut keys = object(&at, &text)?;
        for key in ignored {
            if keys.remove(key).is_none() && !is_known(key) {
                return Err(Error::usage(format!("--{IGNORE} names {key}, which {at} does not have")));
            }
        }
        if !is_own {
            // The other keys are the model's.
            keys.retain(|key, _| is_known(key));
        }
        Settings::of_file(&at, keys)
    }

    /// From the text of a `generation_config.json`; `at` names it in errors.
    pub fn parse(at: &str, text: &str) -> Result<Self> {
        Settings::of_file(at, object(at, text)?)
    }

    fn of_file(at: &str, keys: Map<String, Json>) -> Result<Self> {
        let mut settings = Settings::default();
        for (key, value) in keys {
            if let Some(refused) = REFUSED.iter().find(|refused| refused.key == key) {
                if !(refused.is_off)(&value) {
                    let what = refused.what;
                    return Err(Error::data(
                        at,
                        format!(
                            "{key} is {value}: {what} is not supported; --{IGNORE} {key} decodes without it"
                        ),
                    ));
                }
            } else if is_setting(&key) {
                settings.said.insert(key, Said { value, by: By::File(at.to_string()) });
            } else if !is_known(&key) {
                settings.warnings.push(format!("{at}: {key} is not known and changes nothing"));
            }
        }
        settings.warn_of_ids(at);
        Ok(settings)
    }

    /// Where a file names special tokens, transformers takes those that it leaves out for none.
    fn warn_of_ids(&mut self, at: &str) {
        let says = |key: &str| self.said.contains_key(key);
        if (says("decoder_start_token_id") || says(START)) && !says("eos_token_id") {
            self.warnings.push(format!(
                "{at} names no eos_token_id: as in transformers, an answer ends at the maximum length only; \
                 --eos-token-id says otherwise"
            ));
            self.said.insert(
                "eos_token_id".into(),
                Said { value: Json::Array(Vec::new()), by: By::File(at.to_string()) },
            );
        }
    }

    /// Takes a flag's value for `key`, one of [`SETTINGS`] or a length.
    pub fn set(&mut self, key: &str, value: Json) {
        self.said.insert(key.into(), Said { value, by: By::Flag });
    }

    /// These, and where they leave something open `others`: a length given here replaces any there.
    pub fn or(mut self, others: Settings) -> Settings {
        let says = |keys: [&str; 2]| keys.iter().any(|key| self.said.contains_key(*key));
        let lengths = [["max_new_tokens", "max_length"], ["min_new_tokens", "min_length"]];
        let replaced: Vec<&str> = lengths.into_iter().filter(|keys| says(*keys)).flatten().collect();
        for (key, said) in others.said {
            if !replaced.contains(&&*key) {
                self.said.entry(key).or_insert(said);
            }
        }
        self.warnings.extend(others.warnings);
        self
    }

    /// What is probably not meant, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether a flag, not a file, gives `key`.
    pub fn is_flag(&self, key: &str) -> bool {
        self.said.get(key).is_some_and(|said| said.by == By::Flag)
    }

    /// What to do, with the defaults of [`GenerateOptions::new`].
    pub fn options(&self, limits: &ModelLimits, seed: u64) -> Result<GenerateOptions> {
        let mut options = GenerateOptions { seed, ..GenerateOptions::new(limits) };
        // null is the default, but for the end of an answer, which can be none.
        let said = |key: &'static str| self.value(key).filter(|value| !value.is_null());
        options.read(said).map_err(|refusal| self.refused(refusal))?;
        if self.value("eos_token_id").is_some_and(Json::is_null) {
            options.eos_token_id = Vec::new();
        }
        self.read_lengths(&mut options, limits)?;
        if said("decoder_start_token_id").is_none()
            && let Some(bos) = said(START)
        {
            options.decoder_start_token_id = i32::read(bos)
                .ok_or_else(|| self.refused(Refusal { key: START, what: wrong_kind::<i32>(bos) }))?;
        }
        if said("pad_token_id").is_none()
            && let (Some(_), Some(&eos)) = (said("eos_token_id"), options.eos_token_id.first())
        {
            options.pad_token_id = eos;
        }
        options.refusal(limits).map_err(|refusal| self.refused(refusal))?;
        Ok(options)
    }

    /// The lengths that count the start token.
    fn read_lengths(&self, options: &mut GenerateOptions, limits: &ModelLimits) -> Result<()> {
        let number = |key: &'static str| match self.value(key).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => usize::read(value)
                .map(Some)
                .ok_or_else(|| self.refused(Refusal { key, what: wrong_kind::<usize>(value) })),
        };
        if self.value("max_new_tokens").is_none_or(Json::is_null)
            && let Some(length) = number("max_length")?
        {
            let most = limits.max_target + 1;
            if !(2..=most).contains(&length) {
                let what = format!(
                    "is {length}; with the start token, which counts, it must lie between 2 and {most}, for the \
                     decoder has {} positions",
                    limits.max_target
                );
                return Err(self.refused(Refusal { key: "max_length", what }));
            }
            options.max_new_tokens = length - 1;
        }
        if self.value("min_new_tokens").is_none_or(Json::is_null)
            && let Some(length) = number("min_length")?
        {
            options.min_new_tokens = length.saturating_sub(1);
        }
        Ok(())
    }

    fn value(&self, key: &str) -> Option<&Json> {
        self.said.get(key).map(|said| &said.value)
    }

    /// The error of a setting, which names who said it.
    fn refused(&self, Refusal { key, what }: Refusal) -> Error {
        match self.said.get(key).map(|said| &said.by) {
            Some(By::Flag) => Error::usage(format!("{} {what}", flag(key))),
            Some(By::File(at)) => {
                let instead = if key == START { "decoder_start_token_id" } else { key };
                Error::data(at, format!("{key} {what}; {} replaces it", flag(instead)))
            }
            None => Error::usage(format!("{key} {what}")),
        }
    }
}

fn wrong_kind<T: Value>(value: &Json) -> String {
    format!("is {value}; it must be {}", T::TAKES)
}

fn is_setting(key: &str) -> bool {
    key == START || SETTINGS.iter().chain(&LENGTHS).any(|setting| setting.key == key)
}

/// Whether transformers has the key.
fn is_known(key: &str) -> bool {
    decides_text(key) || HARMLESS.iter().any(|(harmless, _)| *harmless == key)
}

/// Whether a key of a file can change what is generated, here or in transformers.
pub fn decides_text(key: &str) -> bool {
    is_setting(key) || REFUSED.iter().any(|refused| refused.key == key)
}

fn object(at: &str, text: &str) -> Result<Map<String, Json>> {
    serde_json::from_str(text).map_err(|e| Error::data(at, e.to_string()))
}
