//! What each token adds to a text.

use super::Tokenizer;
use crate::error::Result;
use serde_json::Value;

/// A text whose tokens stand before a token, so that its space is kept.
const BEFORE: &str = "abcdef";

impl Tokenizer {
    /// The bytes that each token adds to a text, by id; a token of a byte-level vocabulary can be a part of a letter.
    ///
    /// They are what transformers looks for stop strings in, special tokens included.
    pub fn pieces(&self) -> Result<Vec<Vec<u8>>> {
        let decoder = self.inner.get_decoder();
        let kind = decoder.and_then(|decoder| serde_json::to_value(decoder).ok()).unwrap_or(Value::Null);
        let (bytes, fallback) = (holds(&kind, "ByteLevel"), holds(&kind, "ByteFallback"));
        let before: Vec<String> =
            self.bare(BEFORE)?.into_iter().filter_map(|id| self.inner.id_to_token(id)).collect();
        let mut pieces = vec![Vec::new(); self.id_bound()];
        for (token, id) in self.inner.get_vocab(true) {
            let known = match (fallback, bytes) {
                (true, _) => byte(&token).map(|byte| vec![byte]),
                (false, true) => token.chars().map(byte_of).collect(),
                (false, false) => None,
            };
            pieces[id as usize] = match known {
                Some(known) => known,
                None => self.after(&before, &token)?.into_bytes(),
            };
        }
        Ok(pieces)
    }

    /// What is decoded behind the tokens `before`.
    fn after(&self, before: &[String], token: &str) -> Result<String> {
        let tokens: Vec<String> = before.iter().cloned().chain([token.to_string()]).collect();
        let text = match self.inner.get_decoder() {
            Some(decoder) => self.run(|| tokenizers::Decoder::decode(decoder, tokens))?,
            None => tokens.join(" "),
        };
        Ok(text.split_once(BEFORE).map_or_else(|| text.clone(), |(_, piece)| piece.to_string()))
    }
}

/// Whether a decoder is of a type, or one of its parts is.
fn holds(decoder: &Value, kind: &str) -> bool {
    match decoder {
        Value::Object(map) => {
            map.get("type").and_then(Value::as_str) == Some(kind) || map.values().any(|v| holds(v, kind))
        }
        Value::Array(parts) => parts.iter().any(|part| holds(part, kind)),
        _ => false,
    }
}

/// The byte of a token `<0xNN>`.
fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2 && digits.bytes().all(|c| c.is_ascii_hexdigit());
    is_byte.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The byte that a letter of a byte-level vocabulary stands for: printable ones of Latin-1 stand for themselves, the
/// others are counted from U+0100 on.
fn byte_of(letter: char) -> Option<u8> {
    let prints = |code: u32| matches!(code, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match letter as u32 {
        code if prints(code) => u8::try_from(code).ok(),
        code => {
            let place = code.checked_sub(0x100)? as usize;
            (0..0x100u32).filter(|code| !prints(*code)).nth(place).and_then(|code| u8::try_from(code).ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_byte_level_vocabularies_are_bytes() {
        for (letter, byte) in
            [('a', 0x61), ('\u{120}', 0x20), ('\u{10a}', 0x0a), ('\u{e9}', 0xe9), ('\u{143}', 0xad)]
        {
            assert_eq!(byte_of(letter), Some(byte), "{letter}");
        }
        assert_eq!((byte_of('\u{144}'), byte_of('\u{2581}')), (None, None));
        assert_eq!((byte("<0xC3>"), byte("<0xC>"), byte("<s>")), (Some(0xc3), None, None));
    }
}
