//! Byte-level BPE from `vocab.json` and `merges.txt`, as LED, BART and RoBERTa have it.

use super::special::{Settings, Token, Vocabulary};
use super::{object, read};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

const DEFAULTS: [(&str, &str); 7] = [
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("sep_token", "</s>"),
    ("pad_token", "<pad>"),
    ("cls_token", "<s>"),
    ("mask_token", "<mask>"),
];

/// The tokenizer.json of a model directory that has none.
pub fn tokenizer(dir: &Path) -> Result<Value> {
    let path = dir.join("vocab.json");
    let vocab = object(&path)?;
    let id = |token: &str| vocab.get(token).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    if let Some((token, wrong)) = vocab.iter().find(|(token, _)| id(token).is_none()) {
        return Err(Error::data(
            path.display(),
            format!("token {token:?} has the id {wrong}; download it again"),
        ));
    }
    let bound = vocab.keys().filter_map(|token| id(token)).max().map_or(0, |id| id.saturating_add(1));
    let merges = merges(dir, &vocab)?;

    let settings = Settings::read(dir)?;
    let known = Vocabulary { id: &id, bound, added: Vec::new() };
    let added = settings.added_tokens(&known, &DEFAULTS)?;
    // The template's tokens, each with its id.
    let framing = |role: &str, default: &str| -> Result<Value> {
        let token = settings.role(role, Some(default))?.unwrap_or_else(|| Token::new(default));
        let known = added.iter().find(|entry| entry.content == token.content);
        let known = known.ok_or_else(|| {
            Error::data(
                path.display(),
                format!("has no {:?}, the {role} of texts; download it again", token.content),
            )
        })?;
        Ok(json!([known.content, known.id]))
    };
    let (sep, cls) = (framing("sep_token", "</s>")?, framing("cls_token", "<s>")?);
    let prefix = settings.flag("add_prefix_space", false)?;
    let trim = settings.flag("trim_offsets", true)?;
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true},
        "post_processor": {
            "type": "RobertaProcessing", "sep": sep, "cls": cls, "trim_offsets": trim, "add_prefix_space": prefix
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges
        }
    }))
}

/// The pairs of `merges.txt` in their order; both parts and the whole are tokens.
fn merges(dir: &Path, vocab: &Map<String, Value>) -> Result<Vec<[String; 2]>> {
    let path = dir.join("merges.txt");
    let wrong = |line: usize, what: &str| {
        Error::data(path.display(), format!("line {line}: {what}; download it again, and vocab.json"))
    };
    let content = String::from_utf8(read(&path)?).map_err(|_| wrong(1, "the file is not UTF-8"))?;
    let mut merges = Vec::new();
    for (at, line) in content.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || at == 0 && line.starts_with("#version") {
            continue;
        }
        let Some((left, right)) = line.split_once(' ').filter(|(_, right)| !right.contains(' ')) else {
            return Err(wrong(at + 1, "expected two tokens"));
        };
        if ![left, right, &format!("{left}{right}")].iter().all(|token| vocab.contains_key(*token)) {
            return Err(wrong(
                at + 1,
                &format!("{left:?} and {right:?} or both together are not in vocab.json"),
            ));
        }
        merges.push([left.to_string(), right.to_string()]);
    }
    Ok(merges)
}
