//! Byte-level BPE, as LED, BART and RoBERTa have it.

use super::base::{Base, Template, model};
use super::settings::{Head, Settings};
use super::token::Token;
use super::{object, read};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The special tokens of RoBERTa and of the families that were made of it.
pub(super) const DEFAULTS: [(&str, &str); 7] = [
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("sep_token", "</s>"),
    ("pad_token", "<pad>"),
    ("cls_token", "<s>"),
    ("mask_token", "<mask>"),
];

/// The tokenizer of `vocab.json` and `merges.txt`.
pub fn of_files(dir: &Path) -> Result<Base> {
    let path = dir.join("vocab.json");
    let vocab = object(&path)?;
    let is_id = |id: &Value| id.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
    if let Some((token, wrong)) = vocab.iter().find(|(_, id)| !is_id(id)) {
        return Err(Error::data(
            path.display(),
            format!("token {token:?} has the id {wrong}; download it again"),
        ));
    }
    let merges = merges(dir, &vocab)?;
    base(Settings::read(dir, None)?, Value::Object(vocab), json!(merges), &Head::default(), &path)
}

/// The tokenizer with the vocabulary and the merges of a `tokenizer.json`; the class decides the rest.
pub fn of_whole(dir: &Path, path: &Path, json: &[u8], head: &Head) -> Result<Base> {
    let mut model = model(path, json)?;
    if !model["vocab"].is_object() || !model["merges"].is_array() {
        let what = format!(
            "its model is {}, and a tokenizer of this class is byte-level BPE; set \"tokenizer_class\": \
             \"PreTrainedTokenizerFast\" in tokenizer_config.json to take tokenizer.json as it is",
            model["type"]
        );
        return Err(Error::data(path.display(), what));
    }
    let (vocab, merges) = (model["vocab"].take(), model["merges"].take());
    base(Settings::read(dir, Some(head))?, vocab, merges, head, path)
}

fn base(settings: Settings, vocab: Value, merges: Value, head: &Head, path: &Path) -> Result<Base> {
    let prefix = settings.flag("add_prefix_space", false)?;
    let trim = settings.flag("trim_offsets", true)?;
    // The template's tokens.
    let framing = |role: &str, default: &str| -> Result<Token> {
        let token = settings.role(role, Some(default))?;
        token.ok_or_else(|| settings.wrong(role, "null, and every text of this tokenizer has one"))
    };
    let (sep, cls) = (framing("sep_token", "</s>")?, framing("cls_token", "<s>")?);
    for (role, token) in [("sep_token", &sep), ("cls_token", &cls)] {
        let listed = settings.listed.values().any(|listed| listed.content == token.content);
        if !settings.says(role) && !listed && vocab.get(&token.content).is_none() {
            return Err(Error::data(
                path.display(),
                format!("has no {:?}, the {role} of texts; download it again", token.content),
            ));
        }
    }
    let json = json!({
        "version": "1.0",
        "truncation": head.truncation,
        "padding": head.padding,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges
        }
    });
    Ok(Base {
        json: json.to_string().into_bytes(),
        settings,
        defaults: &DEFAULTS,
        extra: Vec::new(),
        template: Template::Roberta { sep: sep.content, cls: cls.content, trim, prefix },
    })
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
