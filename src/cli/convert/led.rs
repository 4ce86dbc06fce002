//! The LED of a BART as a folder like the BART's, which is then converted like any other.

use crate::error::{Error, Result};
use crate::files;
use crate::models::{LedShape, to_led};
use serde_json::{Map, Value};
use std::io::ErrorKind;
use std::path::Path;
use tempfile::TempDir;

/// What lies in a folder beside the weights and their configuration.
const COPIED: [&str; 9] = [
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "vocab.json",
];

/// A folder beside `output_dir`'s with the LED of the BART in `from`, weights in fp32; it goes when it is dropped.
pub fn folder(from: &Path, shape: LedShape, beside: &Path) -> Result<TempDir> {
    let led = to_led(from, shape)?;
    let parent = beside.parent().unwrap_or(Path::new("."));
    let made = tempfile::Builder::new().prefix(".wattention-led-").tempdir_in(parent);
    let made = made.map_err(|e| Error::output(parent, e))?;
    led.save(made.path())?;
    for name in COPIED {
        match std::fs::copy(from.join(name), made.path().join(name)) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::read(from.join(name), &e)),
        }
    }
    let path = from.join("tokenizer_config.json");
    if let Ok(text) = std::fs::read_to_string(&path) {
        let mut config: Map<String, Value> =
            serde_json::from_str(&text).map_err(|e| Error::data(path.display(), e.to_string()))?;
        config.insert("model_max_length".into(), shape.positions.into());
        files::write_text(&made.path().join("tokenizer_config.json"), &Value::Object(config).to_string())?;
    }
    Ok(made)
}
