//! Where a text may be taken apart so that its tokens are the tokens of the parts, one after the other.
//!
//! Before a single space between two printable ASCII characters, one pre-token ends and the next starts in
//! every tokenizer that splits at spaces; no normaliser accepted here looks across it, and the models (BPE,
//! Unigram) see one pre-token at a time. So a long text need not be encoded further than it is wanted, and
//! parts that recur, as most words do, are encoded once. Anything not recognised here is encoded whole.

use serde_json::Value;
use tokenizers::{AddedToken, ModelWrapper, Tokenizer};

/// Whether the tokens of a text are those of its segments.
pub fn splits_at_spaces(tokenizer: &Tokenizer) -> bool {
    // A token that takes the space after it would leave the next part without one.
    let inside = |token: &AddedToken| !token.rstrip && !token.content.contains(char::is_whitespace);
    let dropout = match tokenizer.get_model() {
        ModelWrapper::BPE(model) => model.dropout.unwrap_or(0.0),
        _ => 0.0,
    };
    tokenizer.get_added_tokens_decoder().values().all(inside)
        && is_local(&value(tokenizer.get_normalizer()))
        && splits(&value(tokenizer.get_pre_tokenizer()))
        && dropout == 0.0
}

/// A part as `tokenizer.json` writes it; one that cannot be written is not recognised.
fn value<T: serde::Serialize>(part: Option<&T>) -> Value {
    part.map_or(Value::Null, |part| serde_json::to_value(part).unwrap_or(Value::Bool(false)))
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
                "version": "1.0", "added_tokens": [{added}], "post_processor": null, "decoder": null,
                "model": {{"type": "BPE", "vocab": {{"a": 0}}, "merges": [], "dropout": {dropout}}}}}"#
        );
        super::splits_at_spaces(&Tokenizer::from_bytes(json).unwrap())
    }

    const BYTES: &str = r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}"#;

    fn token(content: &str, lstrip: bool, rstrip: bool) -> String {
        format!(
            r#"{{"id": 1, "content": "{content}", "single_word": false, "lstrip": {lstrip}, "rstrip": {rstrip},
                "normalized": false, "special": true}}"#
        )
    }

    #[test]
    fn recognises_the_two_families() {
        assert!(splits_at_spaces("null", BYTES, &token("<mask>", true, false), "null"));
        let normalizer = r#"{"type": "Sequence", "normalizers": [{"type": "NFKC"},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}"#;
        let pre_tokenizer = r#"{"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}]}"#;
        assert!(splits_at_spaces(normalizer, pre_tokenizer, "", "null"));
    }

    #[test]
    fn anything_else_is_encoded_whole() {
        let replace = r#"{"type": "Replace", "pattern": {"String": " "}, "content": ""}"#;
        let strip = r#"{"type": "Strip", "strip_left": true, "strip_right": true}"#;
        let (two_words, greedy) = (token("two words", false, false), token("<x>", false, true));
        for (normalizer, pre_tokenizer, added, dropout) in [
            ("null", "null", "", "null"),
            (
                "null",
                r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}"#,
                "",
                "null",
            ),
            (
                "null",
                r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false}"#,
                "",
                "null",
            ),
            ("null", r#"{"type": "Sequence", "pretokenizers": []}"#, "", "null"),
            (replace, BYTES, "", "null"),
            (strip, BYTES, "", "null"),
            ("null", BYTES, &two_words, "null"),
            ("null", BYTES, &greedy, "null"),
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
