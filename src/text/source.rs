//! Where a tokenizer comes from: `tokenizer.json`, or the older files it is made of.

mod byte_level;
mod sentencepiece;
mod special;
mod unigram;

use crate::error::{Error, Result};
use crate::hub;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// A larger file is refused; the largest published ones are under 40 MB.
const LARGEST_FILE: u64 = 512 << 20;

/// The content of a `tokenizer.json`, and the file that it is, or is made of.
pub struct Source {
    pub json: Vec<u8>,
    pub path: PathBuf,
    /// Whether the model directory has no `tokenizer.json` of its own.
    pub made: bool,
}

impl Source {
    /// Reads `tokenizer.json`, or makes one of `vocab.json` and `merges.txt` or of `spiece.model`.
    pub fn read(dir: &Path) -> Result<Self> {
        let is_there = |name: &str| dir.join(name).is_file();
        let whole = dir.join("tokenizer.json");
        if whole.is_file() {
            return Ok(Source { json: read(&whole)?, path: whole, made: false });
        }
        let (path, content) = if is_there("vocab.json") && is_there("merges.txt") {
            (dir.join("vocab.json"), byte_level::tokenizer(dir)?)
        } else if is_there("spiece.model") {
            (dir.join("spiece.model"), unigram::tokenizer(dir)?)
        } else {
            let what = "is missing, and so are vocab.json with merges.txt and spiece.model, of which it could be made; copy the tokenizer's files here from the model's source";
            return Err(Error::missing(whole, what));
        };
        let json = serde_json::to_vec_pretty(&content)
            .map_err(|e| Error::internal(format!("a tokenizer is not JSON: {e}")))?;
        Ok(Source { json, path, made: true })
    }
}

/// The content of a file that may be anything.
fn read(path: &Path) -> Result<Vec<u8>> {
    let length = fs::metadata(path).map_err(|error| Error::read(path, &error))?.len();
    if length > LARGEST_FILE {
        let what = format!("has {length} bytes; no tokenizer is that large");
        return Err(Error::data(path.display(), what));
    }
    let content = fs::read(path).map_err(|error| Error::read(path, &error))?;
    match hub::recognise(&content[..content.len().min(512)]) {
        Some(what) => Err(Error::data(path.display(), what)),
        None => Ok(content),
    }
}

/// The JSON object in a file, empty if there is no such file.
fn object(path: &Path) -> Result<Map<String, Value>> {
    if !path.is_file() {
        return Ok(Map::new());
    }
    serde_json::from_slice(&read(path)?)
        .map_err(|e| Error::data(path.display(), format!("{e}; download it again")))
}
