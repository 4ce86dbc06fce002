//! How a run's predictions were generated, for its `config.json` and for the saved model's `generation_config.json`.

use super::Run;
use crate::error::{Error, Result};
use crate::generate::{GenerateOptions, SETTINGS};
use crate::models::ModelLimits;
use serde_json::{Map, Value};

/// The file of a model's own settings.
const FILE: &str = "generation_config.json";

/// Settings that a file always has, for what it leaves out means none.
const ALWAYS: [&str; 4] = ["max_new_tokens", "eos_token_id", "pad_token_id", "decoder_start_token_id"];

/// The settings that are in use and are not their defaults, by HF's keys: all that has to be said to get `options`.
pub(super) fn said(options: &GenerateOptions, limits: &ModelLimits) -> Map<String, Value> {
    let [all, defaults] = [options, &GenerateOptions::new(limits)]
        .map(|options| serde_json::to_value(options).unwrap_or_default());
    let in_use = SETTINGS.iter().filter(|setting| options.uses(setting.used));
    let said = in_use.filter(|setting| {
        // Each input has one answer.
        let key = setting.key;
        key != "num_return_sequences" && (ALWAYS[0] == key || all[key] != defaults[key])
    });
    said.map(|setting| (setting.key.to_string(), all[setting.key].clone())).collect()
}

impl Run<'_> {
    /// The files that make the saved model usable: those of the model and the tokenizer, and how this run generated.
    pub(super) fn companions(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = self.origin.companions()?;
        if self.settings.generates() {
            let base = files.iter().find(|(name, _)| name == FILE).map(|(_, bytes)| bytes.as_slice());
            let text = generation_config(base, &self.settings.decoding, &self.origin.limits()?)?;
            files.retain(|(name, _)| name != FILE);
            files.push((FILE.into(), text.into_bytes()));
        }
        Ok(files)
    }
}

/// The file that gives `options`; of the `base`'s own, only the token that begins a text is kept.
fn generation_config(base: Option<&[u8]>, options: &GenerateOptions, limits: &ModelLimits) -> Result<String> {
    let broken = |e: serde_json::Error| Error::data(FILE, e.to_string());
    let mut all: Map<String, Value> =
        base.map(serde_json::from_slice).transpose().map_err(broken)?.unwrap_or_default();
    all.retain(|key, _| key == "bos_token_id");
    let values = serde_json::to_value(options).map_err(broken)?;
    all.extend(ALWAYS.map(|key| (key.to_string(), values[key].clone())));
    all.extend(said(options, limits));
    let text = serde_json::to_string_pretty(&all).map_err(broken)?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Settings;
    use crate::models;
    use std::path::Path;

    #[test]
    fn what_is_saved_reads_back_to_the_same_options() {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led/config.json");
        let limits = models::limits(&config).unwrap();
        for text in [
            "{}",
            r#"{"num_beams": 3, "length_penalty": 0.5, "early_stopping": "never", "min_length": 4, "max_length": 9}"#,
            r#"{"do_sample": true, "top_k": 7, "temperature": 0.5, "length_penalty": 2.0, "bos_token_id": 0,
                "suppress_tokens": [5, 6], "forced_eos_token_id": 2, "eos_token_id": 2, "penalty_alpha": 0.0}"#,
        ] {
            let options = Settings::parse("base", text).unwrap().options(&limits, 3).unwrap();
            let saved = generation_config(Some(text.as_bytes()), &options, &limits).unwrap();
            let again = Settings::parse("saved", &saved).unwrap().options(&limits, 3).unwrap();
            let used = |options: &GenerateOptions| {
                let all = serde_json::to_value(options).unwrap();
                let in_use = SETTINGS.iter().filter(|setting| options.uses(setting.used));
                in_use.map(|setting| all[setting.key].clone()).collect::<Vec<Value>>()
            };
            assert_eq!(used(&options), used(&again), "{saved}");
            assert_eq!(saved.contains("length_penalty"), options.num_beams > 1, "{saved}");
        }
    }
}
