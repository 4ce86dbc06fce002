//! The tiny models inside the program, so that every command runs from any folder.

use crate::error::Result;
use crate::files;
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
pub static ALL: &[EmbeddedModel] =
    &[model!("tiny-led"), model!("small-led"), model!("tiny-bigbird-pegasus"), model!("tiny-bart")];

impl EmbeddedModel {
    /// Writes its files into `dir`, but those that are there already.
    pub fn unpack(&self, dir: &Path) -> Result<()> {
        files::create_dir(dir)?;
        for (name, bytes) in self.files {
            let path = dir.join(name);
            let there = std::fs::read(&path).is_ok_and(|found| found == *bytes);
            if !there {
                files::replace(&path, |file| file.write_all(bytes))?;
            }
        }
        Ok(())
    }

    /// Its folder in the cache, or else among temporary files; named by its content, for versions to lie side by side.
    pub(super) fn unpacked(&self) -> Result<PathBuf> {
        let mut hasher = blake3::Hasher::new();
        for (name, bytes) in self.files {
            hasher.update(name.as_bytes()).update(bytes);
        }
        let content = hasher.finalize().to_hex();
        let folder = Path::new("models").join(&content[..16]).join(self.name);
        if let Some(cache) = super::cache::own() {
            let dir = cache.join(&folder);
            if self.unpack(&dir).is_ok() {
                return Ok(dir);
            }
        }
        // No home, or one that cannot be written to.
        let dir = std::env::temp_dir().join("wattention").join(folder);
        self.unpack(&dir)?;
        Ok(dir)
    }
}

/// The embedded model of this name.
pub fn named(name: &str) -> Option<&'static EmbeddedModel> {
    ALL.iter().find(|model| model.name == name)
}

/// The names, with commas between them.
pub fn names() -> String {
    ALL.iter().map(|model| model.name).collect::<Vec<_>>().join(", ")
}
