//! A Unigram tokenizer from `spiece.model`, as transformers converts those of the Pegasus family.

use super::read;
use super::sentencepiece::{Algorithm, Kind, Model};
use super::special::{Settings, Token, Vocabulary};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

const DEFAULTS: [(&str, &str); 4] =
    [("pad_token", "<pad>"), ("eos_token", "</s>"), ("unk_token", "<unk>"), ("mask_token", "<mask_2>")];

/// The tokenizer.json of a model directory that has none.
pub fn tokenizer(dir: &Path) -> Result<Value> {
    let path = dir.join("spiece.model");
    let broken = |what: &str| {
        Error::data(path.display(), format!("not a SentencePiece model: {what}; download it again"))
    };
    let model = Model::parse(&read(&path)?).map_err(|what| broken(&what))?;
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

    let settings = Settings::read(dir)?;
    let offset = settings.offset()?;
    let entries = entries(&model, &settings, offset)?;
    let unknown = model.unknown + offset;
    let added = added_tokens(&model, &settings, offset, &entries)?;

    let eos = settings.role("eos_token", Some("</s>"))?.unwrap_or_else(|| Token::new("</s>"));
    let end = added.iter().find(|token| token.content == eos.content);
    let end = end.ok_or_else(|| broken(&format!("it has no {:?}, which ends every text", eos.content)))?;
    let sequence = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let closing = json!({"SpecialToken": {"id": end.content, "type_id": 0}});
    let mut normalizers = vec![
        json!({"type": "Strip", "strip_left": false, "strip_right": true}),
        json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}),
    ];
    if !model.charsmap.is_empty() {
        normalizers
            .insert(0, json!({"type": "Precompiled", "precompiled_charsmap": base64(&model.charsmap)}));
    }
    let metaspace =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [sequence("A"), closing],
            "pair": [sequence("A"), sequence("B"), closing],
            "special_tokens": {&end.content: {"id": end.content, "ids": [end.id], "tokens": [end.content]}}
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": unknown, "vocab": entries, "byte_fallback": false}
    }))
}

/// Control and user-defined pieces, the places that pre-training kept, and what the settings add.
fn added_tokens(
    model: &Model,
    settings: &Settings,
    offset: usize,
    entries: &[(String, f64)],
) -> Result<Vec<Token>> {
    let mut ids = HashMap::new();
    for (id, (text, _)) in (0..).zip(entries) {
        ids.entry(text.as_str()).or_insert(id);
    }
    let id = |token: &str| ids.get(token).copied();
    let pieces = model.pieces.iter().filter(|piece| piece.kind != Kind::Plain);
    let pieces = pieces.map(|piece| (piece.text.as_str(), piece.kind == Kind::Control));
    let kept = if offset > 0 { &entries[..entries.len().min(2 + offset)] } else { &[] };
    let kept = kept.iter().map(|(text, _)| (text.as_str(), true));
    let known = pieces
        .chain(kept)
        .filter_map(|(text, special)| Some(Token { id: id(text)?, special, ..Token::new(text) }));
    let known = Vocabulary { id: &id, bound: entries.len() as u32, added: known.collect() };
    settings.added_tokens(&known, &DEFAULTS)
}

/// The vocabulary with its scores: padding and end, the places that pre-training kept, the pieces after the first two.
fn entries(model: &Model, settings: &Settings, offset: usize) -> Result<Vec<(String, f64)>> {
    let pad = settings.role("pad_token", Some("<pad>"))?.unwrap_or_else(|| Token::new("<pad>"));
    let end = settings.role("eos_token", Some("</s>"))?.unwrap_or_else(|| Token::new("</s>"));
    let mut entries = vec![(pad.content, 0.0), (end.content, 0.0)];
    if offset > 0 {
        for (role, default) in [("mask_token_sent", "<mask_1>"), ("mask_token", "<mask_2>")] {
            entries.extend(settings.role(role, Some(default))?.map(|mask| (mask.content, 0.0)));
        }
        entries.extend((2..offset).map(|i| (format!("<unk_{i}>"), -100.0)));
    }
    entries.extend(model.pieces[2..].iter().map(|piece| (piece.text.clone(), f64::from(piece.score))));
    Ok(entries)
}

fn base64(bytes: &[u8]) -> String {
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
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), want);
        }
    }
}
