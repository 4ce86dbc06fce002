//! The tiny models inside the binary, so that the study runs from any folder.

use crate::error::Result;
use crate::files;
use crate::hub;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A model directory's files.
pub struct EmbeddedModel {
    pub name: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

macro_rules! model {
    ($name:literal) => {
        EmbeddedModel {
            name: $name,
            files: &model!($name: "config.json" "model.safetensors" "tokenizer.json" "tokenizer_config.json"
                "special_tokens_map.json"),
        }
    };
    ($name:literal: $($file:literal)*) => {
        [$(($file, include_bytes!(concat!("../../weights/", $name, "/", $file)).as_slice())),*]
    };
}

/// Every embedded model; `weights/README.md` says how they were made.
pub static ALL: &[EmbeddedModel] = &[model!("tiny-led"), model!("small-led"), model!("tiny-bigbird-pegasus")];

/// The directory of the model called `name_or_path`: an embedded one is written under `dir` first; a path or the name
/// of a repository is looked up.
pub fn directory(name_or_path: &str, dir: &Path) -> Result<PathBuf> {
    let Some(model) = ALL.iter().find(|model| model.name == name_or_path) else {
        return hub::directory(Path::new(name_or_path));
    };
    let to = dir.join(model.name);
    files::create_dir(&to)?;
    for (name, bytes) in model.files {
        files::replace(&to.join(name), |file| file.write_all(bytes))?;
    }
    Ok(to)
}
