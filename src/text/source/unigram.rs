//! Unigram tokenizers, from `spiece.model` or from the pieces of a `tokenizer.json`.

use super::base::{self, Base, Template};
use super::read;
use super::sentencepiece::{Algorithm, Kind, Model};
use super::settings::{Head, Settings};
use super::token::Token;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

const PEGASUS: [(&str, &str); 4] =
    [("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>"), ("mask_token", "<mask_2>")];

const BIG_BIRD: [(&str, &str); 7] = [
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("sep_token", "[SEP]"),
    ("pad_token", "<pad>"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];

/// Pieces with their scores; an id is a position.
pub type Pieces = Vec<(String, f64)>;

/// Reads a SentencePiece model.
pub fn model(path: &Path) -> Result<Model> {
    let broken = |what: &str| {
        Error::data(path.display(), format!("not a SentencePiece model: {what}; download it again"))
    };
    let model = Model::parse(&read(path)?).map_err(|what| broken(&what))?;
    if let Algorithm::Other(algorithm) = model.algorithm {
        let what = format!(
            "its algorithm is number {algorithm}, and only Unigram (1) is known; convert it with transformers"
        );
        return Err(Error::data(path.display(), what));
    }
    if model.pieces.len() < 2 || model.unknown >= model.pieces.len() {
        return Err(broken(&format!(
            "{} pieces, of which {} is the unknown one",
            model.pieces.len(),
            model.unknown
        )));
    }
    Ok(model)
}

/// The tokenizer of a BigBird-Pegasus without `tokenizer.json`: the one that `PegasusConverter` of transformers makes.
pub fn converted(dir: &Path) -> Result<Base> {
    let path = dir.join("spiece.model");
    let model = model(&path)?;
    let settings = Settings::read(dir, None)?;
    let offset = settings.offset(0)?;
    let entries = entries(&model, &settings, offset)?;
    let mut normalizers = vec![
        json!({"type": "Strip", "strip_left": false, "strip_right": true}),
        json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}),
    ];
    if !model.charsmap.is_empty() {
        normalizers
            .insert(0, json!({"type": "Precompiled", "precompiled_charsmap": base64(&model.charsmap)}));
    }
    let metaspace = metaspace("always");
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(&model, offset, &entries),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": null,
        "decoder": metaspace,
        "model": {
            "type": "Unigram", "unk_id": model.unknown + offset, "vocab": entries, "byte_fallback": false
        }
    });
    framed(json, settings, &PEGASUS, Vec::new(), &[], &[("eos_token", "</s>")])
}

/// Control and user-defined pieces, and the places that pre-training kept.
fn added_tokens(model: &Model, offset: usize, entries: &[(String, f64)]) -> Vec<Value> {
    let pieces = model.pieces.iter().filter(|piece| piece.kind != Kind::Plain);
    let pieces = pieces.map(|piece| (piece.text.as_str(), piece.kind == Kind::Control));
    let kept = if offset > 0 { &entries[..entries.len().min(2 + offset)] } else { &[] };
    let kept = kept.iter().map(|(text, _)| (text.as_str(), true));
    let mut found: Vec<(usize, &str, bool)> = pieces
        .chain(kept)
        .filter_map(|(text, special)| Some((entries.iter().position(|(t, _)| t == text)?, text, special)))
        .collect();
    found.sort_by_key(|(id, ..)| *id);
    found.dedup_by_key(|(id, ..)| *id);
    let entry = |(id, content, special): (usize, &str, bool)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special})
    };
    found.into_iter().map(entry).collect()
}

/// The vocabulary with its scores: padding and end, the places that pre-training kept, the pieces after the first two.
fn entries(model: &Model, settings: &Settings, offset: usize) -> Result<Pieces> {
    let role = |key: &str, default: &str| settings.role(key, Some(default));
    let content = |token: Option<Token>, default: &str| token.map_or(default.to_string(), |t| t.content);
    let mut entries = vec![
        (content(role("pad_token", "<pad>")?, "<pad>"), 0.0),
        (content(role("eos_token", "</s>")?, "</s>"), 0.0),
    ];
    if offset > 0 {
        for (key, default) in [("mask_token_sent", "<mask_1>"), ("mask_token", "<mask_2>")] {
            entries.extend(role(key, default)?.map(|mask| (mask.content, 0.0)));
        }
        entries.extend((2..offset).map(|i| (format!("<unk_{i}>"), -100.0)));
    }
    entries.extend(model.pieces[2..].iter().map(|piece| (piece.text.clone(), f64::from(piece.score))));
    Ok(entries)
}

/// `PegasusTokenizer`, from `spiece.model` or a `tokenizer.json`.
pub fn pegasus(dir: &Path, path: &Path, whole: Option<(&[u8], &Head)>) -> Result<Base> {
    let mut settings = Settings::read(dir, whole.map(|(_, head)| head))?;
    // The class takes it for its own places alone, and adds none of it.
    let places = settings.take_list("additional_special_tokens")?.unwrap_or_default();
    let offset = settings.offset(103)?;
    let (pieces, charsmap) = match whole {
        Some((json, _)) => (pieces(path, json)?, charsmap(path, json)?),
        None => {
            let model = model(path)?;
            let charsmap = (!model.charsmap.is_empty()).then(|| base64(&model.charsmap));
            (pegasus_pieces(&model, &settings, offset)?, charsmap)
        }
    };
    let replace = |pattern: &str| json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": " "});
    let first = match charsmap {
        Some(charsmap) => json!({"type": "Precompiled", "precompiled_charsmap": charsmap}),
        None => replace("\\n"),
    };
    let unknown = settings.role("unk_token", Some("<unk>"))?.map_or("<unk>".into(), |token| token.content);
    let unknown_at =
        pieces.iter().skip(1).position(|piece| *piece == (unknown.clone(), 0.0)).map(|at| at + 1);
    let unknown_at = unknown_at.ok_or_else(|| {
        Error::data(
            path.display(),
            format!("has no piece {unknown:?} with the score 0, the unk_token; download it again"),
        )
    })?;
    let mut kept = Vec::new();
    let mask = settings.role("mask_token_sent", Some("<mask_1>"))?;
    kept.extend(mask.filter(|mask| !places.iter().any(|place| place.content == mask.content)));
    kept.extend((2..offset).map(|i| Token::new(&format!("<unk_{i}>"))));
    let normalizer = json!({"type": "Sequence", "normalizers": [first, replace(" {2,}")]});
    let json = unigram(normalizer, metaspace("always"), unknown_at, pieces, whole.map(|(_, head)| head));
    framed(json, settings, &PEGASUS, kept, &[], &[("eos_token", "</s>")])
}

/// The order in which transformers' conversion puts the places of pre-training, which is not that of older releases.
fn pegasus_pieces(model: &Model, settings: &Settings, offset: usize) -> Result<Pieces> {
    let role = |key: &str, default: &str| -> Result<Option<String>> {
        Ok(settings.role(key, Some(default))?.map(|token| token.content))
    };
    let mask = role("mask_token", "<mask_1>")?;
    let sentence = role("mask_token_sent", "<mask_2>")?.filter(|sentence| Some(sentence) != mask.as_ref());
    let pad = role("pad_token", "<pad>")?.unwrap_or("None".into());
    let end = role("eos_token", "</s>")?.unwrap_or("None".into());
    let mut pieces: Pieces =
        [Some(pad), Some(end), mask, sentence].into_iter().flatten().map(|t| (t, 0.0)).collect();
    pieces.extend((2..offset).map(|i| (format!("<unk_{i}>"), -100.0)));
    pieces.extend(model.pieces[2..].iter().map(|piece| (piece.text.clone(), f64::from(piece.score))));
    Ok(pieces)
}

/// `BigBirdTokenizer`, from `spiece.model` or a `tokenizer.json`.
pub fn big_bird(dir: &Path, path: &Path, whole: Option<(&[u8], &Head)>) -> Result<Base> {
    let settings = Settings::read(dir, whole.map(|(_, head)| head))?;
    let mut extra = Vec::new();
    let pieces = match whole {
        Some((json, _)) => pieces(path, json)?,
        None => {
            let model = model(path)?;
            for piece in model.pieces.iter().filter(|piece| piece.kind != Kind::Plain) {
                let special = piece.kind == Kind::Control;
                let normalized = Some(false);
                extra.push(Token { special, normalized, bare: false, ..Token::new(&piece.text) });
            }
            model.pieces.iter().map(|piece| (piece.text.clone(), f64::from(piece.score))).collect()
        }
    };
    let unknown = settings.role("unk_token", Some("<unk>"))?.map_or("<unk>".into(), |token| token.content);
    let unknown_at = pieces.iter().position(|piece| *piece == (unknown.clone(), 0.0)).unwrap_or(100);
    let normalizer = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"});
    let scheme = if settings.flag("add_prefix_space", true)? { "always" } else { "never" };
    let json = unigram(normalizer, metaspace(scheme), unknown_at, pieces, whole.map(|(_, head)| head));
    framed(json, settings, &BIG_BIRD, extra, &[("cls_token", "[CLS]")], &[("sep_token", "[SEP]")])
}

pub fn metaspace(scheme: &str) -> Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true})
}

pub fn unigram(
    normalizer: Value,
    metaspace: Value,
    unknown: usize,
    pieces: Pieces,
    head: Option<&Head>,
) -> Value {
    json!({
        "version": "1.0",
        "truncation": head.map(|head| &head.truncation),
        "padding": head.map(|head| &head.padding),
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": metaspace,
        "post_processor": null,
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": false}
    })
}

/// The pieces of a `tokenizer.json`.
pub fn pieces(path: &Path, json: &[u8]) -> Result<Pieces> {
    let mut model = base::model(path, json)?;
    serde_json::from_value(model["vocab"].take()).map_err(|_| {
        let what = format!(
            "its model is {}, and a tokenizer of this class is Unigram; set \"tokenizer_class\": \
             \"PreTrainedTokenizerFast\" in tokenizer_config.json to take tokenizer.json as it is",
            model["type"]
        );
        Error::data(path.display(), what)
    })
}

/// The map of characters among the normalisers of a `tokenizer.json`.
pub fn charsmap(path: &Path, json: &[u8]) -> Result<Option<String>> {
    let whole: Value =
        serde_json::from_slice(json).map_err(|e| Error::data(path.display(), e.to_string()))?;
    let normalizer = &whole["normalizer"];
    let members =
        normalizer["normalizers"].as_array().map_or(std::slice::from_ref(normalizer), Vec::as_slice);
    let map = members.iter().find(|member| member["type"] == "Precompiled");
    Ok(map.and_then(|map| map["precompiled_charsmap"].as_str()).map(str::to_string))
}

/// A tokenizer whose template is the tokens of these roles around a text.
fn framed(
    json: Value,
    settings: Settings,
    defaults: &'static [(&'static str, &'static str)],
    extra: Vec<Token>,
    before: &[(&str, &str)],
    after: &[(&str, &str)],
) -> Result<Base> {
    let framing = |roles: &[(&str, &str)]| -> Result<Vec<String>> {
        let token = |(role, default): &(&str, &str)| {
            let token = settings.role(role, Some(default))?;
            let token = token
                .ok_or_else(|| settings.wrong(role, "null, and every text of this tokenizer has one"))?;
            Ok(token.content)
        };
        roles.iter().map(token).collect()
    };
    let template = Template::Around { before: framing(before)?, after: framing(after)? };
    Ok(Base { json: json.to_string().into_bytes(), settings, defaults, extra, template })
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().chain(&[0, 0]).take(3).fold(0, |group, byte| group << 8 | usize::from(*byte));
        for digit in 0..4 {
            match digit <= chunk.len() {
                true => text.push(char::from(DIGITS[group >> (18 - 6 * digit) & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn the_examples_of_rfc_4648() {
        for (text, want) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), want);
        }
    }
}
