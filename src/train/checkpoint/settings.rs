//! What a run was asked to compute, to be compared with what is asked now.

use super::super::batches::Corpus;
use super::super::control::Control;
use super::super::global_attention::GlobalAttention;
use super::super::options::Options;
use crate::collective::CommunicationType;
use crate::error::{Error, Result};
use crate::models::Loaded;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Settings that may change on the way: what is kept, and when to give up.
const BESIDE: [&str; 3] = ["save_steps", "save_total_limit", "max_bad_steps"];

/// Names and values of everything that decides the bits of a run; hashes stand for models and data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// Those of a run that starts with `loaded` as it is now.
    pub fn of(
        loaded: &Loaded,
        train: &Corpus,
        validation: Option<&Corpus>,
        options: &Options,
        control: &Control,
    ) -> Result<Self> {
        let mut settings = Settings::default();
        settings.add_fields(options)?;
        settings.add_fields(control)?;
        for name in BESIDE {
            settings.0.shift_remove(name);
        }
        // As runs from before it could be chosen have it.
        if options.communication_data_type == CommunicationType::Fp32 {
            settings.0.shift_remove("communication_data_type");
        }
        settings.add("precision", &loaded.parameters.device().precision())?;
        settings.add("model", &model_hash(loaded)?)?;
        settings.add("training_data", &corpus_hash(train))?;
        settings.add("validation_data", &validation.map(corpus_hash))?;
        Ok(settings)
    }

    /// One more of them.
    pub fn add(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        self.0.insert(name.into(), json(value)?);
        Ok(())
    }

    fn add_fields(&mut self, of: &impl Serialize) -> Result<()> {
        match json(of)? {
            Value::Object(fields) => self.0.extend(fields),
            other => return Err(Error::internal(format!("settings are no object: {other}"))),
        }
        Ok(())
    }

    pub fn hash(&self) -> String {
        let text = Value::Object(self.0.clone()).to_string();
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// Refuses to resume `of`, which was made under the settings `then`, unless they are these.
    pub fn check(&self, then: &Settings, of: &str) -> Result<()> {
        let mut names: Vec<&String> = self.0.keys().chain(then.0.keys()).collect();
        names.sort();
        names.dedup();
        let shown = |settings: &Settings, name: &str| match settings.0.get(name) {
            // A hash says enough in its first digits.
            Some(Value::String(text)) if text.len() == 64 => text[..12].to_string(),
            Some(value) => value.to_string(),
            None => "not set".into(),
        };
        let differences: Vec<String> = names
            .into_iter()
            .filter(|name| self.0.get(*name) != then.0.get(*name))
            .map(|name| format!("\n  {name}: {} then, {} now", shown(then, name), shown(self, name)))
            .collect();
        match differences.is_empty() {
            true => Ok(()),
            false => Err(Error::usage(format!(
                "{of} was made under other settings; give the same, or start a new run with --model:{}",
                differences.concat()
            ))),
        }
    }
}

fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::internal(format!("a setting is not JSON: {e}")))
}

fn model_hash(loaded: &Loaded) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    hash.update(loaded.config_text.as_bytes());
    hash.update(bytemuck::cast_slice(&loaded.parameters.slab.read::<f32>()?));
    Ok(hash.finalize().to_hex().to_string())
}

fn corpus_hash(corpus: &Corpus) -> String {
    let mut hash = blake3::Hasher::new();
    // As runs from before there were other rules have it.
    let rule = match corpus.limits.has_global_attention {
        true => &corpus.global_attention,
        false => &GlobalAttention::First,
    };
    match rule {
        GlobalAttention::First => hash.update(&[0]),
        GlobalAttention::None => hash.update(&[1]),
        rule => hash.update(rule.to_string().as_bytes()),
    };
    for (example, id) in corpus.examples.iter().zip(&corpus.ids) {
        for part in
            [id.as_bytes(), bytemuck::cast_slice(&example.input), bytemuck::cast_slice(&example.labels)]
        {
            // With its length, so that no two lists of parts are the same bytes.
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_listed() {
        let settings = |rate: f64, model: &str, more: bool| {
            let mut settings = Settings::default();
            settings.add("learning_rate", &rate).unwrap();
            settings.add("model", &model.repeat(64)).unwrap();
            if more {
                settings.add("new", &1).unwrap();
            }
            settings
        };
        let now = settings(0.1, "b", true);
        now.check(&now, "x").unwrap();
        let refusal = now.check(&settings(0.2, "a", false), "checkpoint-3").unwrap_err();
        assert_eq!(refusal.exit_code(), 2);
        let text = refusal.to_string();
        for part in [
            "checkpoint-3",
            "learning_rate: 0.2 then, 0.1 now",
            "model: aaaaaaaaaaaa then, bbbbbbbbbbbb now",
            "new: not set then, 1 now",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
