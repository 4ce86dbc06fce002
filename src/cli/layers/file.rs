//! A file of settings: in TOML, or in JSON where its name ends so; a run's own `config.json` is one, too.

use super::{Known, Setting, Value};
use std::fs;
use std::path::Path;
use toml::de::DeTable;
use wattention::error::{Error, Result};

/// The settings of `path`, each checked by itself.
pub(super) fn read(path: &Path, known: &Known) -> Result<Vec<Setting>> {
    let text = fs::read_to_string(path).map_err(|e| Error::read(path, &e))?;
    let at = |line: usize| format!("{}:{line}", path.display());
    let given = match path.extension().is_some_and(|ending| ending == "json") {
        true => from_json(&text).map_err(|e| Error::data(at(e.line()), e.to_string()))?,
        false => {
            let wrong = |e: toml::de::Error| {
                let line = e.span().map_or(1, |span| line_of(&text, span.start));
                Error::data(at(line), e.message().to_string())
            };
            from_toml(&text).map_err(wrong)?
        }
    };
    let setting = |(key, line, value): (String, usize, Option<Value>)| match value {
        Some(value) => known.setting(&key, value, at(line)),
        None => Err(Error::data(at(line), format!("`{key}` is a list or a table; give it one value"))),
    };
    given.into_iter().map(setting).collect()
}

/// Key, line and value, none of which a flag cannot take.
type Given = Vec<(String, usize, Option<Value>)>;

fn from_toml(text: &str) -> Result<Given, toml::de::Error> {
    let values: toml::Table = text.parse()?;
    let spans = DeTable::parse(text)?;
    let mut given: Given = spans
        .get_ref()
        .keys()
        .filter_map(|key| {
            let value = match values.get(key.get_ref().as_ref())? {
                toml::Value::Boolean(on) => Some(Value::Switch(*on)),
                toml::Value::String(text) => Some(Value::Text(text.clone())),
                toml::Value::Array(_) | toml::Value::Table(_) => None,
                number => Some(Value::Text(number.to_string())),
            };
            Some((key.get_ref().to_string(), line_of(text, key.span().start), value))
        })
        .collect();
    given.sort_by_key(|(_, line, _)| *line);
    Ok(given)
}

/// As HF's scripts take it, or as a run's `config.json` holds it under `arguments`; what is null is left out.
fn from_json(text: &str) -> Result<Given, serde_json::Error> {
    let mut values: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
    if let Some(serde_json::Value::Object(arguments)) = values.remove("arguments") {
        values = arguments;
    }
    let given = values.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| {
        let quoted = serde_json::Value::from(key.as_str()).to_string();
        let line = text.find(&quoted).map_or(1, |at| line_of(text, at));
        let value = match value {
            serde_json::Value::Bool(on) => Some(Value::Switch(on)),
            serde_json::Value::String(text) => Some(Value::Text(text)),
            serde_json::Value::Number(number) => Some(Value::Text(number.to_string())),
            _ => None,
        };
        (key, line, value)
    });
    Ok(given.collect())
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}
