//! The `config.json` of a saved model: the one that the model was made from, and true of what lies beside it.

use super::Family;
use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// Keys that tell of the files and the program that the configuration came with, and not of the model.
const OF_OTHER_FILES: [&str; 7] = [
    "torch_dtype",
    "transformers_version",
    "_name_or_path",
    "_commit_hash",
    "_attn_implementation_autoset",
    "quantization_config",
    // Code that lies beside the weights.
    "auto_map",
];

/// The text of the configuration of a model of `family` for weights in `dtype`, by HF's name, with a language model's
/// head.
pub fn config(text: &str, family: &Family, dtype: &str) -> Result<String> {
    let mut config = parsed(text)?;
    config.retain(|key, _| !OF_OTHER_FILES.contains(&key.as_str()));
    config.insert("architectures".into(), vec![family.architecture].into());
    config.insert("dtype".into(), dtype.into());
    let text = serde_json::to_string_pretty(&config).map_err(not_json)?;
    Ok(text + "\n")
}

/// The same text where it is true of such weights already, and else that of [`config`].
pub fn mended(text: &str, family: &Family, dtype: &str) -> Result<String> {
    let config_before = parsed(text)?;
    let is = |key: &str, value: Value| config_before.get(key).is_none_or(|said| *said == value);
    let is_true = is("architectures", vec![family.architecture].into())
        && ["dtype", "torch_dtype"].iter().all(|key| is(key, dtype.into()))
        && ["quantization_config", "auto_map"].iter().all(|key| !config_before.contains_key(*key));
    if is_true { Ok(text.into()) } else { config(text, family, dtype) }
}

fn parsed(text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(not_json)
}

fn not_json(e: serde_json::Error) -> Error {
    Error::internal(format!("a model's configuration is no longer JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::led;

    #[test]
    fn what_told_of_other_files_is_gone_and_all_else_is_kept() {
        let text = r#"{"_name_or_path": "/home/me/led", "model_type": "led", "architectures": ["LEDModel"], "dtype": "bfloat16",
            "torch_dtype": "float16", "transformers_version": "4.2.0", "d_model": 64, "init_std": 1e-05,
            "quantization_config": {"bits": 8}, "auto_map": {"AutoModel": "own.Led"}, "own": [1, 2.50]}"#;
        let saved: Value = serde_json::from_str(&config(text, &led::FAMILY, "float32").unwrap()).unwrap();
        let want = serde_json::json!({
            "model_type": "led", "architectures": ["LEDForConditionalGeneration"], "dtype": "float32",
            "d_model": 64, "init_std": 1e-5, "own": [1, 2.5],
        });
        assert_eq!(saved, want);
        for text in [
            r#"{"d_model": 64}"#,
            r#"{"architectures": ["LEDForConditionalGeneration"], "dtype": "float16", "transformers_version": "4.2.0"}"#,
        ] {
            assert_eq!(mended(text, &led::FAMILY, "float16").unwrap(), text);
            let other = mended(text, &led::FAMILY, "float32").unwrap();
            assert_eq!(other == text, !text.contains("dtype"), "{other}");
        }
    }
}
