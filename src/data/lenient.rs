//! JSON as other tools write it: `NaN` and infinities, halves of surrogate pairs, UTF-16.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::{self, BufRead, Read};

/// The named members of one JSON object, and the names of all of them.
///
/// `NaN` and infinities, which Python writes for numbers that are missing, are null; half of a surrogate pair, which
/// is no character, is U+FFFD.
pub fn members(text: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Members, serde_json::Error> {
    let parse = |text: &str| {
        let mut json = serde_json::Deserializer::from_str(text);
        let members = Wanted(wanted).deserialize(&mut json)?;
        json.end().map(|()| members)
    };
    parse(text).or_else(|error| match mended(text) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(mended) => parse(&mended),
    })
}

pub struct Members {
    pub names: Vec<String>,
    pub values: Map<String, Value>,
}

struct Wanted<'a>(&'a dyn Fn(&str) -> bool);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Members;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Members, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Members;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members { names: Vec::new(), values: Map::new() };
        while let Some(name) = map.next_key::<String>()? {
            match (self.0)(&name) {
                true => drop(members.values.insert(name.clone(), map.next_value()?)),
                false => drop(map.next_value::<IgnoredAny>()?),
            }
            members.names.push(name);
        }
        Ok(members)
    }
}

/// The text as JSON has it; borrowed where there was nothing to mend.
pub fn mended(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut done = 0;
    let mut in_string = false;
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let length = match (bytes[at], in_string) {
            (b'"', _) => {
                in_string = !in_string;
                1
            }
            (b'\\', true) => match escape(&text[at..]) {
                Escape::Half => {
                    out += &text[done..at];
                    out += "\\ufffd";
                    done = at + 6;
                    6
                }
                Escape::Whole(length) => length,
            },
            (b'N' | b'I' | b'-', false) => {
                let word =
                    ["NaN", "Infinity", "-Infinity", "-NaN"].into_iter().find(|w| text[at..].starts_with(w));
                if let Some(word) = word {
                    out += &text[done..at];
                    out += "null";
                    done = at + word.len();
                }
                word.map_or(1, str::len)
            }
            _ => 1,
        };
        at += length;
    }
    match done {
        0 => Cow::Borrowed(text),
        done => Cow::Owned(out + &text[done..]),
    }
}

enum Escape {
    /// Half of a surrogate pair, `\uXXXX` without its other half.
    Half,
    /// Anything else, of so many bytes.
    Whole(usize),
}

fn escape(text: &str) -> Escape {
    let unit = |text: &str| -> Option<u16> {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    match unit(text) {
        Some(0xD800..=0xDBFF) => match text.get(6..).and_then(unit) {
            Some(0xDC00..=0xDFFF) => Escape::Whole(12),
            _ => Escape::Half,
        },
        Some(0xDC00..=0xDFFF) => Escape::Half,
        // The character after a backslash is never the end of the text.
        _ => Escape::Whole(1 + text[1..].chars().next().map_or(0, char::len_utf8)),
    }
}

/// The content of a file as UTF-8: UTF-16 where its first two bytes say so.
pub fn utf8<'r>(mut reader: impl BufRead + 'r) -> io::Result<Box<dyn BufRead + 'r>> {
    let big = match reader.fill_buf()? {
        [0xFF, 0xFE, ..] => false,
        [0xFE, 0xFF, ..] => true,
        _ => return Ok(Box::new(reader)),
    };
    reader.consume(2);
    let decoder = Utf16 { reader, big, ready: Vec::new(), read: 0 };
    Ok(Box::new(io::BufReader::with_capacity(1 << 16, decoder)))
}

struct Utf16<R> {
    reader: R,
    big: bool,
    /// Decoded, and read up to `read`.
    ready: Vec<u8>,
    read: usize,
}

impl<R: BufRead> Utf16<R> {
    /// The next unit; none at the end.
    fn unit(&mut self) -> io::Result<Option<u16>> {
        let mut pair = [0; 2];
        for (at, byte) in pair.iter_mut().enumerate() {
            if self.reader.read(std::slice::from_mut(byte))? == 0 {
                return match at {
                    0 => Ok(None),
                    _ => Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "half a character of UTF-16 at the end",
                    )),
                };
            }
        }
        Ok(Some(if self.big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }))
    }
}

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.read == self.ready.len() {
            self.ready.clear();
            self.read = 0;
            let mut units = Vec::with_capacity(4096);
            while let Some(unit) = self.unit()? {
                units.push(unit);
                // A pair is not cut in two.
                if units.len() >= 4096 && !(0xD800..0xDC00).contains(&unit) {
                    break;
                }
            }
            self.ready = String::from_utf16_lossy(&units).into_bytes();
        }
        let count = to.len().min(self.ready.len() - self.read);
        to[..count].copy_from_slice(&self.ready[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_json_is_mended() {
        for (text, want) in [
            (r#"{"a": NaN, "b": [-Infinity, Infinity]}"#, r#"{"a": null, "b": [null, null]}"#),
            (r#"{"a": "NaN", "b": -1}"#, r#"{"a": "NaN", "b": -1}"#),
            (r#"["\ud83d", "\udc00x"]"#, r#"["\ufffd", "\ufffdx"]"#),
            (r#"["\ud83d\ude00", "\ud83d\ud83d\ude00"]"#, r#"["\ud83d\ude00", "\ufffd\ud83d\ude00"]"#),
            (r#"["\\ud83d", "\"NaN", "\\"]"#, r#"["\\ud83d", "\"NaN", "\\"]"#),
            (r#"{"\ud83d": NaN}"#, r#"{"\ufffd": null}"#),
            (r#"["\u00e9\n", "\ud8"#, r#"["\u00e9\n", "\ud8"#),
            ("\"\\", "\"\\"),
            ("[\"é\\é\"]", "[\"é\\é\"]"),
        ] {
            assert_eq!(mended(text), want);
            assert_eq!(matches!(mended(text), Cow::Borrowed(_)), text == want, "{text}");
        }
    }

    #[test]
    fn both_orders_of_utf_16() {
        let text = "a é 😀\n".repeat(3000);
        for (mark, bytes) in [
            ([0xFF, 0xFE], u16::to_le_bytes as fn(u16) -> [u8; 2]),
            ([0xFE, 0xFF], u16::to_be_bytes as fn(u16) -> [u8; 2]),
        ] {
            let content: Vec<u8> = mark.into_iter().chain(text.encode_utf16().flat_map(bytes)).collect();
            let mut read = String::new();
            utf8(content.as_slice()).unwrap().read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
            let cut = &content[..content.len() - 1];
            assert!(utf8(cut).unwrap().read_to_string(&mut read).is_err());
        }
        let mut plain = String::new();
        utf8("é".as_bytes()).unwrap().read_to_string(&mut plain).unwrap();
        assert_eq!(plain, "é");
    }
}
