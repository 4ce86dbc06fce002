//! Where a tokenizer comes from: `tokenizer.json` or the older files it is made of, with the settings beside them.

mod base;
mod byte_level;
mod class;
mod mbart;
mod sentencepiece;
mod settings;
mod token;
mod unigram;

use crate::error::{Error, Result};
use crate::hub;
use base::Base;
use class::Class;
use serde_json::{Map, Value};
use settings::{Head, Settings};
use std::fs;
use std::path::{Path, PathBuf};

/// A larger file is refused; the largest published ones are under 40 MB.
const LARGEST_FILE: u64 = 512 << 20;

/// The tokenizer that transformers would make of a model directory.
#[derive(Clone)]
pub struct Source {
    pub tokenizer: tokenizers::Tokenizer,
    /// The file that it is, or is made of.
    pub path: PathBuf,
    /// Whether the directory has no `tokenizer.json` of its own.
    pub made: bool,
    /// Keeps the end of a text that is too long.
    pub cut_left: bool,
    /// The special tokens before and after a text to be written, where they are not those of a text that is read.
    pub target: Option<[Vec<u32>; 2]>,
}

impl Source {
    /// Reads `tokenizer.json`, or `vocab.json` and `merges.txt`, or `spiece.model` or `sentencepiece.bpe.model`, as the
    /// model's class of tokenizer does, and adds the tokens of the files beside it.
    pub fn read(dir: &Path) -> Result<Self> {
        let is_there = |name: &str| dir.join(name).is_file();
        let class = Class::of(dir)?;
        let whole = dir.join("tokenizer.json");
        let mut target = None;
        let (path, base, made) = if whole.is_file() {
            let json = read(&whole)?;
            let head: Head = serde_json::from_slice(&json)
                .map_err(|e| invalid(&whole.display().to_string(), &e.to_string()))?;
            let base = match class {
                Class::Roberta => byte_level::of_whole(dir, &whole, &json, &head)?,
                Class::Pegasus => unigram::pegasus(dir, &whole, Some((&json, &head)))?,
                Class::BigBird => unigram::big_bird(dir, &whole, Some((&json, &head)))?,
                Class::Mbart(languages) => {
                    let (base, other) = mbart::mbart(dir, &whole, Some((&json, &head)), languages)?;
                    target = other;
                    base
                }
                Class::Whole => Base::from((json, Settings::read(dir, Some(&head))?)),
            };
            (whole, base, false)
        } else if is_there("vocab.json") && is_there("merges.txt") {
            (dir.join("vocab.json"), byte_level::of_files(dir)?, true)
        } else if is_there("spiece.model") {
            let path = dir.join("spiece.model");
            let base = match class {
                Class::Pegasus => unigram::pegasus(dir, &path, None)?,
                Class::BigBird => unigram::big_bird(dir, &path, None)?,
                Class::Roberta | Class::Mbart(_) | Class::Whole => unigram::converted(dir)?,
            };
            (path, base, true)
        } else if let (Class::Mbart(languages), true) = (class, is_there("sentencepiece.bpe.model")) {
            let path = dir.join("sentencepiece.bpe.model");
            let (base, other) = mbart::mbart(dir, &path, None, languages)?;
            target = other;
            (path, base, true)
        } else {
            let remedy = hub::download(dir)
                .unwrap_or("copy the tokenizer's files here from the model's source".into());
            let what = format!(
                "is missing, and so are vocab.json with merges.txt, spiece.model and mBART's sentencepiece.bpe.model, of \
                 which it could be made; {remedy}"
            );
            return Err(Error::missing(whole, what));
        };
        let config = object(&dir.join("config.json")).unwrap_or_default();
        let mut tokenizer =
            base.build(&path.display().to_string(), config.get("vocab_size").and_then(Value::as_u64))?;
        tokenizer.set_encode_special_tokens(base.settings.flag("split_special_tokens", false)?);
        let target = target.and_then(|template| template.ids(&tokenizer));
        Ok(Source { tokenizer, path, made, cut_left: base.settings.cut_left, target })
    }

    /// The content of a `tokenizer.json` that gives the same ids, beside the same settings.
    pub fn json(&self) -> Result<String> {
        self.tokenizer.to_string(true).map_err(|e| Error::internal(format!("a tokenizer is not JSON: {e}")))
    }
}

/// A tokenizer that does not fit together.
pub(super) fn invalid(at: &str, what: &str) -> Error {
    Error::data(at, format!("not a valid tokenizer: {what}; copy it again from the model's source"))
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
