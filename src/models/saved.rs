//! The `config.json` of a saved model: the one that the model was made from, and true of what lies beside it.

use super::Family;
use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// Keys that tell of the files and the program that the configuration came with, and not of the model.
const OF_OTHER_FILES: [&str; 4] =
    ["torch_dtype", "transformers_version", "_name_or_path", "quantization_config"];

/// The text of the configuration of a model of `family` for weights in f32 with a language model's head.
pub fn config(text: &str, family: &Family) -> Result<String> {
    let not_json = |e| Error::internal(format!("a model's configuration is no longer JSON: {e}"));
    let mut config: Map<String, Value> = serde_json::from_str(text).map_err(not_json)?;
    config.retain(|key, _| !OF_OTHER_FILES.contains(&key.as_str()));
    config.insert("architectures".into(), vec![family.architecture].into());
    config.insert("dtype".into(), "float32".into());
    let text = serde_json::to_string_pretty(&config).map_err(not_json)?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::led;

    #[test]
    fn what_told_of_other_files_is_gone_and_all_else_is_kept() {
        let text = r#"{"_name_or_path": "/home/me/led", "model_type": "led", "architectures": ["LEDModel"], "dtype": "bfloat16",
            "torch_dtype": "float16", "transformers_version": "4.2.0", "d_model": 64, "init_std": 1e-05,
            "quantization_config": {"bits": 8}, "own": [1, 2.50]}"#;
        let saved: Value = serde_json::from_str(&config(text, &led::FAMILY).unwrap()).unwrap();
        let want = serde_json::json!({
            "model_type": "led", "architectures": ["LEDForConditionalGeneration"], "dtype": "float32",
            "d_model": 64, "init_std": 1e-5, "own": [1, 2.5],
        });
        assert_eq!(saved, want);
    }
}
