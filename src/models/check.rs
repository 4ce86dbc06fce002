//! Range checks of configuration values, before any allocation.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;

/// Parses a config and applies its own check; every error names the file and the key.
pub fn parse<C: DeserializeOwned>(
    at: &str,
    text: &str,
    check: impl Fn(&C) -> Result<(), String>,
) -> Result<C> {
    let config: C = serde_json::from_str(text).map_err(|e| {
        let key = unreadable_key::<C>(text);
        Error::data(at, key.unwrap_or_else(|| e.to_string()))
    })?;
    check(&config).map_err(|what| Error::data(at, what))?;
    Ok(config)
}

/// The first key whose value alone is refused: serde's own message does not name it.
fn unreadable_key<C: DeserializeOwned>(text: &str) -> Option<String> {
    let all: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    all.into_iter().find_map(|(key, value)| {
        let alone = serde_json::Value::Object([(key.clone(), value)].into_iter().collect());
        let refusal = serde_json::from_value::<C>(alone).err()?;
        Some(format!("{key}: {refusal}"))
    })
}

/// `low <= value <= high`.
pub fn range(key: &str, value: usize, low: usize, high: usize) -> Result<(), String> {
    match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(format!("{key} is {value}; it must lie between {low} and {high}")),
    }
}

/// A probability below one; NaN fails.
pub fn probability(key: &str, value: f32) -> Result<(), String> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err(format!("{key} is {value}; it must be at least 0 and below 1")),
    }
}

/// Stochastic depth is not part of either released family's training.
pub fn no_layerdrop(key: &str, value: f32) -> Result<(), String> {
    match value == 0.0 {
        true => Ok(()),
        false => Err(format!("{key} is {value}; only 0 is supported")),
    }
}

/// Heads of equal size, at most 128 each.
pub fn heads(key: &str, d_model: usize, heads: usize) -> Result<(), String> {
    range(key, heads, 1, 1024)?;
    if !d_model.is_multiple_of(heads) {
        return Err(format!("d_model {d_model} is not divisible by {key} {heads}"));
    }
    range(&format!("the head size (d_model / {key})"), d_model / heads, 1, 128)
}

/// A special token inside the vocabulary.
pub fn token(key: &str, id: i64, vocab: usize) -> Result<(), String> {
    match id >= 0 && (id as usize) < vocab {
        true => Ok(()),
        false => Err(format!("{key} is {id}, outside the vocabulary of {vocab}")),
    }
}

/// Untied embeddings are not among the released checkpoints.
pub fn tied(value: bool) -> Result<(), String> {
    match value {
        true => Ok(()),
        false => Err("tie_word_embeddings is false; only tied embeddings are supported".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::led;

    #[test]
    fn a_value_of_the_wrong_type_names_its_key() {
        let text = r#"{"d_model": 64, "vocab_size": 1e30, "dropout": 0.1}"#;
        let error = parse("config.json", text, led::Config::check).unwrap_err().to_string();
        assert!(error.starts_with("config.json: vocab_size: "), "{error}");
    }

    #[test]
    fn text_that_is_no_json_keeps_its_place() {
        let error = parse("config.json", "{\n\"d_model\" 64}", led::Config::check).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
