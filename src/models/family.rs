//! What the rest of the program has to ask of a family, and which one a `config.json` is of.

use super::config::Common;
use super::{ALL, Model, ModelLimits, ModelOptions, check};
use crate::error::{Error, Result};
use crate::nn::Builder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use std::rc::Rc;

/// One architecture of transformers.
#[derive(Debug)]
pub struct Family {
    /// As its authors write it.
    pub name: &'static str,
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The one of `architectures` in `config.json` that generates.
    pub architecture: &'static str,
    /// The key of `config.json` with the encoder's attention window, if it has one.
    pub window_key: Option<&'static str>,
    /// Whether chosen tokens of the input see, and are seen by, all others.
    pub has_global_attention: bool,
    /// Whether the encoder attends to random blocks, which evaluation may draw or not.
    pub has_random_blocks: bool,
    /// Whether `convert --to led` makes a LED of it, which reads longer inputs.
    pub becomes_led: bool,
    /// Whether a training target's decoder begins with its last label, which is a language's token.
    pub target_begins_with_last_label: bool,
    /// Reads and checks the text of a `config.json`; the first argument names the file in errors.
    pub parse: fn(&str, &str) -> Result<Rc<dyn Config>>,
}

impl Family {
    /// Whether every token of the encoder's input sees every other.
    pub fn is_dense(&self) -> bool {
        self.window_key.is_none() && !self.has_random_blocks
    }
}

/// A checked configuration of one family.
pub trait Config: Debug {
    fn family(&self) -> &'static Family;

    fn common(&self) -> &Common;

    fn limits(&self) -> ModelLimits;

    /// The model, its parameters taken from `builder`.
    fn build(&self, builder: &mut Builder, options: ModelOptions) -> Result<Box<dyn Model>>;
}

/// The family of a `config.json`, given its text; `at` names the file in errors.
pub fn family(at: &str, text: &str) -> Result<&'static Family> {
    let config: Value =
        serde_json::from_str(text).map_err(|e| Error::data(at, format!("not valid JSON: {e}")))?;
    let model_type = config.get("model_type").filter(|value| !value.is_null());
    ALL.into_iter().find(|family| model_type.is_some_and(|said| said == family.model_type)).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|family| family.model_type).collect();
        let said = model_type.map_or("it says no model_type".into(), |said| format!("model_type is {said}"));
        Error::data(at, format!("{said}; the families here are {}", known.join(", ")))
    })
}

/// Parses and checks the text of a `config.json`; `at` names the file in errors.
pub fn parse_config(at: &str, text: &str) -> Result<Rc<dyn Config>> {
    (family(at, text)?.parse)(at, text)
}

/// Reads a family's configuration: the keys of `text`, and for those that it lacks the family's defaults.
pub fn parse<C: Config + Default + Serialize + DeserializeOwned + 'static>(
    at: &str,
    text: &str,
    check: impl Fn(&C) -> Result<(), String>,
) -> Result<Rc<dyn Config>> {
    let config = check::parse(&C::default(), at, text, |config: &C| {
        config.common().check()?;
        check(config)
    })?;
    Ok(Rc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_reads_a_configuration_of_its_own() {
        for one in ALL {
            let text = format!("{{\"model_type\": \"{}\"}}", one.model_type);
            let config = parse_config("config.json", &text).unwrap();
            assert_eq!(config.family().model_type, one.model_type);
            assert_eq!(config.limits().has_global_attention, one.has_global_attention);
        }
    }

    #[test]
    fn an_unknown_family_is_answered_with_all_names() {
        for text in ["{\"model_type\": \"t5\"}", "{}"] {
            let error = family("config.json", text).unwrap_err();
            assert_eq!(error.exit_code(), 65);
            assert!(ALL.iter().all(|family| error.to_string().contains(family.model_type)), "{error}");
        }
    }
}
