//! Text to token ids and back, by the model's own `tokenizer.json` or the files it is made of.

mod pieces;
mod segments;
mod source;

pub use source::Source;

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;

use crate::error::{self, Error, Result};

/// Segments a cache keeps, a few tens of megabytes; words of English text are far fewer.
const CACHE_SEGMENTS: usize = 1 << 17;

/// Longer segments hardly recur.
const CACHE_BYTES: usize = 64;

/// Tokens of segments met before.
type Cache = HashMap<String, Vec<u32>>;

/// What decoding does with the spaces around punctuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spaces {
    Kept,
    /// As transformers 5 decodes: cleaned up where `tokenizer_config.json` says so and the tokenizer is not a BPE.
    AsModel,
    /// ` .` becomes `.`, ` n't` becomes `n't` and so on, the default of transformers before version 5.
    CleanedUp,
}

/// A tokenizer with the special tokens its template puts around a text.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    at: String,
    opening: Vec<u32>,
    closing: Vec<u32>,
    /// Those around a text to be written, where they differ.
    target: Option<[Vec<u32>; 2]>,
    /// Keeps the end of a text that is too long, not its start.
    cut_left: bool,
    /// Whether the tokens of a text are those of its segments.
    splits_at_spaces: bool,
    /// What [`Spaces::AsModel`] does.
    cleans_up: bool,
}

impl Tokenizer {
    /// The tokenizer that transformers makes of the files of a model directory.
    pub fn load(model_dir: &Path) -> Result<Self> {
        let mut tokenizer = Self::of(Source::read(model_dir)?)?;
        let is_bpe = matches!(tokenizer.inner.get_model(), tokenizers::models::ModelWrapper::BPE(_));
        tokenizer.cleans_up = !is_bpe && asks_for_clean_up(model_dir)?;
        Ok(tokenizer)
    }

    /// Parses the content of a `tokenizer.json`. `at` names it in errors.
    pub fn from_json(json: &[u8], at: &str) -> Result<Self> {
        let read = guarded(|| tokenizers::Tokenizer::from_bytes(json));
        let tokenizer = read.map_err(|what| source::invalid(at, &what))?;
        Self::of(Source { tokenizer, path: at.into(), made: false, cut_left: false, target: None })
    }

    /// Makes a tokenizer ready to encode.
    pub fn of(source: Source) -> Result<Self> {
        let Source { tokenizer: mut inner, path, cut_left, target, .. } = source;
        let at = path.display().to_string();
        // Truncation and padding are the caller's; a saved setting must not add its own.
        inner.with_padding(None);
        guarded(|| inner.with_truncation(None).map(|_| ())).map_err(|what| source::invalid(&at, &what))?;
        let mut tokenizer = Tokenizer {
            splits_at_spaces: segments::splits_at_spaces(&inner),
            cleans_up: false,
            at,
            opening: Vec::new(),
            closing: Vec::new(),
            target,
            cut_left,
            inner,
        };
        (tokenizer.opening, tokenizer.closing) = tokenizer.template()?;
        Ok(tokenizer)
    }

    /// The special tokens that the post-processor puts before and after a text.
    fn template(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        for probe in ["a", "1", "."] {
            let bare = self.run(|| self.inner.encode_fast(probe, false))?;
            let framed = self.run(|| self.inner.encode_fast(probe, true))?;
            let (bare, framed) = (bare.get_ids(), framed.get_ids());
            if bare.is_empty() {
                continue;
            }
            if let Some(start) = framed.windows(bare.len()).position(|window| window == bare) {
                let end = start + bare.len();
                return Ok((framed[..start].to_vec(), framed[end..].to_vec()));
            }
        }
        Err(Error::data(
            &self.at,
            "not a valid tokenizer: its template does not keep the tokens of a text together; copy it again from the model's source",
        ))
    }

    /// The hash of all that decides the ids of a text.
    pub fn fingerprint(&self) -> Result<blake3::Hash> {
        let json = self.run(|| self.inner.to_string(false))?;
        let mut hasher = blake3::Hasher::new();
        // None of these stands in the content of a tokenizer.json.
        hasher.update(&[u8::from(self.cut_left), u8::from(self.inner.get_encode_special_tokens())]);
        for id in self.target.iter().flatten().flatten() {
            hasher.update(&id.to_le_bytes());
        }
        hasher.update(json.as_bytes());
        Ok(hasher.finalize())
    }

    /// One more than the largest token id.
    pub fn id_bound(&self) -> usize {
        let vocabulary = self.inner.get_vocab(true);
        vocabulary.values().max().map_or(0, |&id| id as usize + 1)
    }

    /// Fails when a token id has no row in an embedding of `vocab_size` rows.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<()> {
        let bound = self.id_bound();
        if bound <= vocab_size {
            return Ok(());
        }
        let largest = bound - 1;
        let what = format!(
            "has token ids up to {largest}, but config.json says vocab_size {vocab_size}; the two belong to different models"
        );
        Err(Error::data(&self.at, what))
    }

    /// How many tokens the template puts after a text.
    pub fn closing_tokens(&self) -> usize {
        self.closing.len()
    }

    /// The id of a token by its exact spelling.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Token ids with the template's special tokens, at most `max_length` in all. What is cut off is the end
    /// of the text, or its start where the tokenizer's `truncation_side` is left; the closing token stays.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Vec<u32>> {
        self.encode_with(&mut Cache::new(), text, max_length, [&self.opening, &self.closing])
    }

    /// `encode` for many texts, in parallel.
    pub fn encode_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        max_length: usize,
    ) -> Result<Vec<Vec<u32>>> {
        self.encode_each(texts, max_length, [&self.opening, &self.closing])
    }

    /// As [`Tokenizer::encode_batch`], with the special tokens of texts that are to be written.
    pub fn encode_targets<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        max_length: usize,
    ) -> Result<Vec<Vec<u32>>> {
        self.encode_each(texts, max_length, self.around_targets())
    }

    fn around_targets(&self) -> [&Vec<u32>; 2] {
        self.target.as_ref().map_or([&self.opening, &self.closing], |around| around.each_ref())
    }

    fn encode_each<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        max_length: usize,
        around: [&Vec<u32>; 2],
    ) -> Result<Vec<Vec<u32>>> {
        let encode = |cache: &mut Cache, text: &T| self.encode_with(cache, text.as_ref(), max_length, around);
        texts.par_iter().map_init(Cache::new, encode).collect()
    }

    /// As [`Tokenizer::encode_batch`], each with the number of tokens that it has when nothing is cut off.
    pub fn encode_counted<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        max_length: usize,
    ) -> Result<Vec<(Vec<u32>, usize)>> {
        self.count_each(texts, max_length, [&self.opening, &self.closing])
    }

    /// As [`Tokenizer::encode_targets`], each with the number of tokens that it has when nothing is cut off.
    pub fn encode_targets_counted<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        max_length: usize,
    ) -> Result<Vec<(Vec<u32>, usize)>> {
        self.count_each(texts, max_length, self.around_targets())
    }

    fn count_each<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        max_length: usize,
        around: [&Vec<u32>; 2],
    ) -> Result<Vec<(Vec<u32>, usize)>> {
        let encode = |cache: &mut Cache, text: &T| {
            let mut ids = self.encode_with(cache, text.as_ref(), usize::MAX, around)?;
            let whole = ids.len();
            self.cut(&mut ids, room(max_length, around)?, around);
            Ok((ids, whole))
        };
        texts.par_iter().map_init(Cache::new, encode).collect()
    }

    /// Leaves `room` tokens of a text between the special ones `around` it.
    fn cut(&self, ids: &mut Vec<u32>, room: usize, [opening, closing]: [&Vec<u32>; 2]) {
        let (start, end) = (opening.len(), ids.len() - closing.len());
        let excess = (end - start).saturating_sub(room);
        ids.drain(if self.cut_left { start..start + excess } else { end - excess..end });
    }

    /// The tokens of a text with the special ones that stand `around` it.
    fn encode_with(
        &self,
        cache: &mut Cache,
        text: &str,
        max_length: usize,
        around: [&Vec<u32>; 2],
    ) -> Result<Vec<u32>> {
        let room = room(max_length, around)?;
        let [opening, closing] = around;
        let mut ids = opening.clone();
        let start = ids.len();
        if self.splits_at_spaces {
            for segment in segments::segments(text) {
                if ids.len() - start >= room && !self.cut_left {
                    break;
                }
                self.append(cache, segment, &mut ids)?;
            }
        } else {
            ids.extend(self.bare(text)?);
        }
        ids.extend(closing);
        self.cut(&mut ids, room, around);
        Ok(ids)
    }

    fn append(&self, cache: &mut Cache, segment: &str, ids: &mut Vec<u32>) -> Result<()> {
        if let Some(known) = cache.get(segment) {
            ids.extend(known);
            return Ok(());
        }
        let found = self.bare(segment)?;
        ids.extend(&found);
        if segment.len() <= CACHE_BYTES && cache.len() < CACHE_SEGMENTS {
            cache.insert(segment.to_string(), found);
        }
        Ok(())
    }

    /// The tokens of a text without special tokens.
    fn bare(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.run(|| self.inner.encode_fast(text, false))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids to text, without special tokens. Ids outside the vocabulary are skipped.
    pub fn decode(&self, ids: &[u32], spaces: Spaces) -> Result<String> {
        let text = self.run(|| self.inner.decode(ids, true))?;
        Ok(match spaces {
            Spaces::CleanedUp => clean_up(&text),
            Spaces::AsModel if self.cleans_up => clean_up(&text),
            Spaces::Kept | Spaces::AsModel => text,
        })
    }

    fn run<T>(&self, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
        guarded(work).map_err(|what| source::invalid(&self.at, &what))
    }
}

/// Tokens that a text can have among `max_length` with the special ones `around` it.
fn room(max_length: usize, around: [&Vec<u32>; 2]) -> Result<usize> {
    let specials: usize = around.iter().map(|tokens| tokens.len()).sum();
    max_length.checked_sub(specials).ok_or_else(|| {
        Error::usage(format!(
            "a length of {max_length} tokens has no room for the {specials} special tokens of the tokenizer; choose a larger one"
        ))
    })
}

/// Whether `tokenizer_config.json` asks for spaces before punctuation to be taken away; by default it does not.
fn asks_for_clean_up(model_dir: &Path) -> Result<bool> {
    let path = model_dir.join("tokenizer_config.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::read(path, &e)),
    };
    let config: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Error::data(path.display(), e.to_string()))?;
    Ok(config["clean_up_tokenization_spaces"] == true)
}

/// The ten replacements of transformers' `clean_up_tokenization`, in its order.
fn clean_up(text: &str) -> String {
    [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ]
    .iter()
    .fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

/// Runs code of the tokenizers crate, which panics on some hostile files instead of failing.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> std::result::Result<T, String> {
    match error::guarded(work) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("its parts contradict each other".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_up_joins_punctuation() {
        assert_eq!(clean_up("I do n't , he 's ok . So ? it ' s"), "I don't, he's ok. So? it's");
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_named() {
        for json in ["", "{", "[]", "{}", r#"{"model": {"type": "BPE", "vocab": {}, "merges": ["a b"]}}"#] {
            let Err(error) = Tokenizer::from_json(json.as_bytes(), "m/tokenizer.json") else {
                panic!("accepted {json}");
            };
            let message = error.to_string();
            assert!(message.starts_with("m/tokenizer.json: not a valid tokenizer"), "{message}");
            assert_eq!(error.exit_code(), 65);
        }
    }
}
