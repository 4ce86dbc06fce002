//! A model with another attention window: the same weights under another configuration.

use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// The text of the configuration at `path` with the attention window `window`. Fails for a model that has none.
pub fn config_with_window(path: &Path, window: usize) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|e| Error::read(path, &e))?;
    let mut config: Map<String, Value> =
        serde_json::from_str(&text).map_err(|e| Error::data(path.display(), e.to_string()))?;
    if config.get("model_type") != Some(&Value::from("led")) {
        return Err(Error::usage(format!("{}: only LED has an attention window", path.display())));
    }
    config.insert("attention_window".into(), window.into());
    Ok(Value::Object(config).to_string())
}

/// A directory under `unpacked` whose config.json has the attention window `window`, and whose other files are links
/// to those of `model`.
pub fn with_window(model: &Path, window: usize, unpacked: &Path) -> Result<PathBuf> {
    let text = config_with_window(&model.join("config.json"), window)?;
    let from = model.canonicalize().map_err(|e| Error::read(model, &e))?;
    let hash = blake3::hash(from.as_os_str().as_encoded_bytes()).to_hex();
    let dir = unpacked.join(format!("window{window}-{}", &hash[..12]));
    files::create_dir(&dir)?;
    for entry in fs::read_dir(&from).map_err(|e| Error::read(&from, &e))? {
        let entry = entry.map_err(|e| Error::read(&from, &e))?;
        let link = dir.join(entry.file_name());
        if entry.file_name() != "config.json" && fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(entry.path(), &link).map_err(|e| Error::output(&link, e))?;
        }
    }
    files::write_text(&dir.join("config.json"), &text)?;
    Ok(dir)
}
