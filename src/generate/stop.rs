//! When an answer ends, but for its length: end tokens, strings in its text, and the time.

use super::options::{GenerateOptions, Pieces};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The ends of a [`GenerateOptions`]' answers.
#[derive(Clone)]
pub struct Ends {
    tokens: Vec<i32>,
    /// Strings in bytes, none empty.
    strings: Vec<Vec<u8>>,
    pieces: Option<Arc<Pieces>>,
}

impl Ends {
    /// Fails where there are stop strings and it is not known what tokens stand for.
    pub fn new(options: &GenerateOptions) -> Result<Self> {
        if !options.stop_strings.is_empty() && options.pieces.is_none() {
            return Err(Error::usage("stop_strings are found in a text: give the tokenizer's pieces, too"));
        }
        Ok(Ends {
            tokens: options.eos_token_id.clone(),
            strings: options
                .stop_strings
                .iter()
                .filter(|text| !text.is_empty())
                .map(|text| text.as_bytes().to_vec())
                .collect(),
            pieces: options.pieces.clone(),
        })
    }

    /// Tokens that end an answer.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the last token of `text`, which has one, ends it.
    pub fn end(&self, text: &[i32]) -> bool {
        text.last().is_some_and(|token| self.tokens.contains(token)) || self.complete_a_string(text)
    }

    /// Whether the last token completes one of the strings, which may begin and end inside of tokens.
    fn complete_a_string(&self, text: &[i32]) -> bool {
        let (Some(pieces), Some((&last, before))) = (&self.pieces, text.split_last()) else {
            return false;
        };
        let piece = |token: i32| pieces.0.get(token as usize).map_or(&[][..], Vec::as_slice);
        self.strings.iter().any(|string| {
            let mut tail: Vec<&[u8]> = vec![piece(last)];
            let mut length = 0;
            for &token in before.iter().rev() {
                if length + 1 >= string.len() {
                    break;
                }
                length += piece(token).len();
                tail.push(piece(token));
            }
            tail.reverse();
            let bytes = tail.concat();
            // It ends in the last piece: what ended before was seen before.
            let first_end = length + 1;
            bytes
                .windows(string.len())
                .enumerate()
                .any(|(start, window)| start + string.len() >= first_end && window == &string[..])
        })
    }
}

/// The end of the time that a batch of answers can take.
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// From now on.
    pub fn new(options: &GenerateOptions) -> Self {
        let time = options.max_time.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Deadline(time.and_then(|time| Instant::now().checked_add(time)))
    }

    pub fn has_passed(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() > end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::tests::options;

    fn ends(strings: &[&str]) -> Ends {
        let pieces =
            ["", "st", "op", "stop", "topper", "las", "o", "\u{e9}"].map(|piece| piece.as_bytes().to_vec());
        // A letter of two bytes in two tokens.
        let pieces = pieces.into_iter().chain([vec![0xc3], vec![0xa9]]).collect();
        let options = GenerateOptions {
            stop_strings: strings.iter().map(|text| text.to_string()).collect(),
            pieces: Some(Arc::new(Pieces(pieces))),
            eos_token_id: Vec::new(),
            ..options()
        };
        Ends::new(&options).unwrap()
    }

    #[test]
    fn a_string_is_found_where_it_ends_in_the_last_token() {
        let stop = ends(&["stop"]);
        for text in [&[1, 2][..], &[3], &[5, 4], &[3, 2, 1, 2], &[6, 1, 2]] {
            assert!(stop.end(text), "{text:?}");
        }
        for text in [&[1][..], &[2, 1], &[1, 2, 6], &[3, 6], &[1, 6, 2], &[]] {
            assert!(!stop.end(text), "{text:?}");
        }
    }

    #[test]
    fn letters_are_put_together_from_bytes() {
        let stop = ends(&["x", "\u{e9}"]);
        assert!(stop.end(&[7]) && stop.end(&[8, 9]));
        assert!(!stop.end(&[8]) && !stop.end(&[9]) && !stop.end(&[9, 8]));
    }

    #[test]
    fn strings_need_pieces() {
        let options = GenerateOptions { stop_strings: vec!["x".into()], ..options() };
        assert_eq!(Ends::new(&options).err().unwrap().exit_code(), 2);
    }
}
