//! A file of settings: in TOML, or in JSON where its name ends so; a run's own `config.json` is one, too.

use super::hf;
use super::{Known, Setting, Value};
use crate::error::{Error, Result};
use crate::generate::SETTINGS;
use serde_json::Value as Json;
use std::fs;
use std::path::Path;
use toml::de::DeTable;

/// The settings of `path`, each checked by itself; one error has all that are wrong.
pub(super) fn read(path: &Path, known: &Known) -> Result<Vec<Setting>> {
    let text = fs::read_to_string(path).map_err(|e| Error::read(path, &e))?;
    let at = |line: usize| format!("{}:{line}", path.display());
    let given = match path.extension().is_some_and(|ending| ending == "json") {
        true => from_json(&text, known).map_err(|e| Error::data(at(e.line()), e.to_string()))?,
        false => {
            let wrong = |e: toml::de::Error| {
                let line = e.span().map_or(1, |span| line_of(&text, span.start));
                Error::data(at(line), e.message().to_string())
            };
            from_toml(&text).map_err(wrong)?
        }
    };
    let (mut settings, mut wrong) = (Vec::new(), Vec::new());
    for Given { key, line, value } in given {
        let setting = match value {
            Ok(value) => known.setting(&key, value, at(line)),
            Err(what) => Err(Error::data(at(line), what)),
        };
        match setting {
            Ok(setting) => settings.push(setting),
            Err(error) => wrong.push(error),
        }
    }
    match wrong.len() {
        0 => Ok(settings),
        1 => Err(wrong.swap_remove(0)),
        n => {
            let lines: Vec<String> = wrong.iter().map(|error| format!("\n  {error}")).collect();
            let what = format!("{n} of its settings cannot be taken:{}", lines.concat());
            Err(Error::data(path.display(), what))
        }
    }
}

/// A key with its line, and the value of the flag or why it cannot be one.
struct Given {
    key: String,
    line: usize,
    value: Result<Value, String>,
}

fn from_toml(text: &str) -> Result<Vec<Given>, toml::de::Error> {
    let values: toml::Table = text.parse()?;
    let spans = DeTable::parse(text)?;
    let mut given: Vec<Given> = spans
        .get_ref()
        .keys()
        .filter_map(|key| {
            let name = key.get_ref().to_string();
            let value = match values.get(&name)? {
                toml::Value::Boolean(on) => Ok(Value::Switch(*on)),
                toml::Value::String(text) => Ok(Value::Text(text.clone())),
                toml::Value::Array(list) if takes_lists(&name) => {
                    serde_json::to_string(list).map(Value::Text).map_err(|e| format!("`{name}`: {e}"))
                }
                toml::Value::Array(_) | toml::Value::Table(_) => Err(no_value(&name)),
                number => Ok(Value::Text(number.to_string())),
            };
            Some(Given { key: name, line: line_of(text, key.span().start), value })
        })
        .collect();
    given.sort_by_key(|given| given.line);
    Ok(given)
}

/// As HF's scripts take it, or as a run's `config.json` holds it under `arguments`; what is null is left out.
fn from_json(text: &str, known: &Known) -> Result<Vec<Given>, serde_json::Error> {
    let mut values: serde_json::Map<String, Json> = serde_json::from_str(text)?;
    if let Some(Json::Object(arguments)) = values.remove("arguments") {
        values = arguments;
    }
    values.retain(|_, value| !value.is_null());
    let mut given = Vec::new();
    for (key, translated) in hf::translate(&values, |key| known.flag(key).is_some()) {
        let quoted = Json::from(key.as_str()).to_string();
        let line = text.find(&quoted).map_or(1, |at| line_of(text, at));
        match translated {
            Ok(flags) => given.extend(flags.into_iter().map(|(flag, value)| {
                let value = match value {
                    Json::Bool(on) => Ok(Value::Switch(on)),
                    Json::String(text) => Ok(Value::Text(text)),
                    Json::Number(number) => Ok(Value::Text(number.to_string())),
                    Json::Array(list) if takes_lists(&flag) => Ok(Value::Text(Json::Array(list).to_string())),
                    _ => Err(no_value(&flag)),
                };
                Given { key: flag, line, value }
            })),
            Err(what) => given.push(Given { key, line, value: Err(what) }),
        }
    }
    Ok(once(given))
}

/// Several of HF's arguments may ask for one flag: a switch is on if any of them says so, else the first counts.
fn once(given: Vec<Given>) -> Vec<Given> {
    let mut kept: Vec<Given> = Vec::new();
    for new in given {
        match kept.iter_mut().find(|old| old.key == new.key) {
            None => kept.push(new),
            Some(old) if matches!(new.value, Ok(Value::Switch(true)) | Err(_)) => *old = new,
            Some(_) => {}
        }
    }
    kept
}

/// Whether a key is a setting of decoding, whose flags take lists as JSON.
fn takes_lists(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key == key)
}

fn no_value(key: &str) -> String {
    format!("`{key}` is a list or a table; give it one value")
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}
