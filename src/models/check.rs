//! Range checks of configuration values, before any allocation.

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Parses the text of a configuration over `defaults`, whose values the keys have that it lacks, and checks it; every
/// error names the file `at` and the key.
pub fn parse<C: Serialize + DeserializeOwned>(
    defaults: &C,
    at: &str,
    text: &str,
    check: impl Fn(&C) -> Result<(), String>,
) -> Result<C> {
    let Ok(Value::Object(defaults)) = serde_json::to_value(defaults) else {
        return Err(Error::internal("the defaults of a configuration are no JSON object"));
    };
    let over_defaults = |keys: Map<String, Value>| {
        let mut all = defaults.clone();
        all.extend(keys);
        serde_json::from_value::<C>(Value::Object(all))
    };
    let mut keys: Map<String, Value> =
        serde_json::from_str(text).map_err(|e| Error::data(at, e.to_string()))?;
    // HF writes null where a model has no such token of its own.
    keys.retain(|key, value| !(value.is_null() && key.ends_with("_token_id")));
    // The Trainer writes a list of one id; where several end a text, training closes it with the first.
    for (_, value) in keys.iter_mut().filter(|(key, _)| key.ends_with("_token_id")) {
        if let Some(first) = value.as_array().and_then(|ids| ids.first()).cloned() {
            *value = first;
        }
    }
    let config = over_defaults(keys.clone()).map_err(|e| {
        // serde's own message does not name the key.
        let refusal = keys.into_iter().find_map(|(key, value)| {
            let alone = over_defaults([(key.clone(), value)].into_iter().collect());
            Some(format!("{key}: {}", alone.err()?))
        });
        Error::data(at, refusal.unwrap_or_else(|| e.to_string()))
    })?;
    check(&config).map_err(|what| Error::data(at, what))?;
    Ok(config)
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

/// Stochastic depth is not part of any released checkpoint's training.
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
    use crate::models::led;

    #[test]
    fn a_value_of_the_wrong_type_names_its_key() {
        let text = r#"{"d_model": 64, "vocab_size": 1e30, "dropout": 0.1}"#;
        let error = (led::FAMILY.parse)("config.json", text).unwrap_err().to_string();
        assert!(error.starts_with("config.json: vocab_size: "), "{error}");
    }

    #[test]
    fn text_that_is_no_json_keeps_its_place() {
        let error = (led::FAMILY.parse)("config.json", "{\n\"d_model\" 64}").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
