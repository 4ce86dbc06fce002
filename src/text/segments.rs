//! Where a text may be taken apart so that its tokens are the tokens of the parts, one after the other.
//!
//! Before a single space between two printable ASCII characters, one pre-token ends and the next starts in
//! every tokenizer that splits at spaces; no normaliser accepted here looks across it, and the models (BPE,
//! Unigram) see one pre-token at a time. So a long text need not be encoded further than it is wanted, and
//! parts that recur, as most words do, are encoded once. Anything not recognised here is encoded whole.

use serde::Deserialize;
use serde_json::Value;

/// The parts of a tokenizer.json that decide where a text splits.
#[derive(Deserialize)]
pub struct Parts {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    content: String,
    #[serde(default)]
    rstrip: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    dropout: Option<f32>,
}

impl Parts {
    pub fn splits_at_spaces(&self) -> bool {
        // A token that takes the space after it would leave the next part without one.
        let inside = |token: &AddedToken| !token.rstrip && !token.content.contains(char::is_whitespace);
        self.added_tokens.iter().all(inside)
            && is_local(&self.normalizer)
            && splits(&self.pre_tokenizer)
            && self.model.dropout.unwrap_or(0.0) == 0.0
    }
}

/// Whether a normaliser treats both sides of a single space alone and keeps the space.
fn is_local(normalizer: &Value) -> bool {
    match kind(normalizer) {
        None => normalizer.is_null(),
        Some("NFC" | "NFKC" | "Precompiled") => true,
        Some("Replace") => {
            let regex = normalizer["pattern"]["Regex"].as_str();
            matches!(regex, Some(" {2,}" | "\\n")) || regex == Some("\\s+") && normalizer["content"] == " "
        }
        // The space that a part starts with must stay.
        Some("Strip") => normalizer["strip_left"] == false,
        Some("Sequence") => members(normalizer, "normalizers").is_some_and(|all| all.iter().all(is_local)),
        Some(_) => false,
    }
}

/// Whether a pre-tokeniser starts a new pre-token at a single space, judging by nothing further on.
fn splits(pre_tokenizer: &Value) -> bool {
    match kind(pre_tokenizer) {
        Some("WhitespaceSplit") => true,
        // The GPT-2 pattern, on unless it is switched off.
        Some("ByteLevel") => pre_tokenizer["use_regex"] != false,
        Some("Metaspace") => pre_tokenizer["split"] != false,
        Some("Sequence") => members(pre_tokenizer, "pretokenizers")
            .is_some_and(|all| !all.is_empty() && all.iter().all(splits)),
        _ => false,
    }
}

fn kind(part: &Value) -> Option<&str> {
    part.get("type")?.as_str()
}

fn members<'v>(part: &'v Value, key: &str) -> Option<&'v Vec<Value>> {
    part.get(key)?.as_array()
}

/// The parts of a text; each but the first starts with its space.
pub fn segments(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let bytes = text.as_bytes();
        let boundary = (1..bytes.len().saturating_sub(1)).find(|&i| {
            bytes[i] == b' ' && bytes[i - 1].is_ascii_graphic() && bytes[i + 1].is_ascii_graphic()
        });
        let Some(boundary) = boundary else {
            return Some(text);
        };
        rest = Some(&text[boundary..]);
        Some(&text[..boundary])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits_at_spaces(normalizer: &str, pre_tokenizer: &str, added: &str, dropout: &str) -> bool {
        let json = format!(
            r#"{{"normalizer": {normalizer}, "pre_tokenizer": {pre_tokenizer},
                "added_tokens": [{added}], "model": {{"dropout": {dropout}}}}}"#
        );
        let parts: Parts = serde_json::from_str(&json).unwrap();
        parts.splits_at_spaces()
    }

    const BYTES: &str = r#"{"type": "ByteLevel", "add_prefix_space": false}"#;

    #[test]
    fn recognises_the_two_families() {
        let mask = r#"{"content": "<mask>", "lstrip": true, "rstrip": false}"#;
        assert!(splits_at_spaces("null", BYTES, mask, "null"));
        let normalizer = r#"{"type": "Sequence", "normalizers": [{"type": "Precompiled"},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}"#;
        let pre_tokenizer = r#"{"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": "▁"}]}"#;
        assert!(splits_at_spaces(normalizer, pre_tokenizer, "", "null"));
    }

    #[test]
    fn anything_else_is_encoded_whole() {
        let replace = r#"{"type": "Replace", "pattern": {"String": " "}, "content": ""}"#;
        let strip = r#"{"type": "Strip", "strip_left": true, "strip_right": true}"#;
        let two_words = r#"{"content": "two words"}"#;
        let greedy = r#"{"content": "<x>", "rstrip": true}"#;
        for (normalizer, pre_tokenizer, added, dropout) in [
            ("null", "null", "", "null"),
            ("null", r#"{"type": "ByteLevel", "use_regex": false}"#, "", "null"),
            ("null", r#"{"type": "Metaspace", "split": false}"#, "", "null"),
            ("null", r#"{"type": "Sequence", "pretokenizers": []}"#, "", "null"),
            (replace, BYTES, "", "null"),
            (strip, BYTES, "", "null"),
            ("null", BYTES, two_words, "null"),
            ("null", BYTES, greedy, "null"),
            ("null", BYTES, "", "0.1"),
        ] {
            let found = splits_at_spaces(normalizer, pre_tokenizer, added, dropout);
            assert!(!found, "{normalizer} {pre_tokenizer} {added} {dropout}");
        }
    }

    #[test]
    fn only_single_spaces_between_printable_ascii_split() {
        let text = "ab cd,  e é x\ny . z ";
        let parts: Vec<&str> = segments(text).collect();
        assert_eq!(parts, ["ab", " cd,  e é x\ny", " .", " z "]);
        assert_eq!(segments("").collect::<Vec<_>>(), [""]);
        assert_eq!(segments("a b").collect::<Vec<_>>(), ["a", " b"]);
    }
}
