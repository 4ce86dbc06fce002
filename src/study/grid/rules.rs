//! Settings of some cells only: those of one dataset, one model or one length.

use crate::error::{Error, Result};
use crate::train::GlobalAttention;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where a rule holds, and the settings that it changes there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// By name, without folders and `.zip`; left out, any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// By its last part; left out, any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_source_length: Option<usize>,
    /// 0 for all, as in the grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_train_samples: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_eval_samples: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_attention: Option<GlobalAttention>,
    /// Keys of [`crate::train::Options`].
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub train: Map<String, Value>,
    /// Keys of [`crate::train::Control`].
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub control: Map<String, Value>,
}

impl Rule {
    /// Whether the rule holds for a cell.
    pub fn holds(&self, model: &str, dataset: &str, length: usize) -> bool {
        self.model.as_ref().is_none_or(|only| only == model)
            && self.dataset.as_ref().is_none_or(|only| only == dataset)
            && self.max_source_length.is_none_or(|only| only == length)
    }

    /// Leaves out what `written`, a study's file that has no rules of its own, sets for all cells.
    pub fn give_way(&mut self, written: &toml::Table) {
        for (key, count) in [
            ("max_train_samples", &mut self.max_train_samples),
            ("max_eval_samples", &mut self.max_eval_samples),
            ("max_new_tokens", &mut self.max_new_tokens),
        ] {
            *count = count.filter(|_| !written.contains_key(key));
        }
        if written.contains_key("global_attention") {
            self.global_attention = None;
        }
        for (table, settings) in [("train", &mut self.train), ("control", &mut self.control)] {
            if let Some(toml::Value::Table(given)) = written.get(table) {
                settings.retain(|key, _| !given.contains_key(key));
            }
        }
    }
}

/// `settings` with those of `changes` that a rule names; `table` is where a user wrote them.
pub fn changed<T: Serialize + DeserializeOwned>(
    settings: &T,
    changes: &Map<String, Value>,
    table: &str,
) -> Result<T> {
    let failed = |e: serde_json::Error| Error::usage(format!("the study's rules.{table}: {e}"));
    let mut all = serde_json::to_value(settings).map_err(failed)?;
    if let Value::Object(fields) = &mut all {
        fields.extend(changes.clone());
    }
    serde_json::from_value(all).map_err(failed)
}
