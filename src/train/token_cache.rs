//! Tokenised texts on disk, so that the next run of the same data maps them instead of making them again.
//!
//! A file is named by the hash of all that decides its ids: tokenizer, texts and lengths. It holds `wattoks2`, that
//! hash, the number of examples, four lengths an example (of input and labels, as they are and before they were cut), all
//! ids, and the hash of everything before; numbers are little-endian, u64 for the count and u32 else.

use super::batches::{Corpus, Encoded, Lengths};
use super::global_attention::GlobalAttention;
use super::tokens::Tokens;
use crate::data::Example;
use crate::device::cpu::Mapped;
use crate::error::{Error, Result};
use crate::files;
use crate::hub;
use crate::models::ModelLimits;
use crate::text::Tokenizer;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"wattoks2";
const HASH: usize = blake3::OUT_LEN;
const HEADER: usize = MAGIC.len() + HASH + 8;
const LENGTHS_OF_ONE: usize = 4;

/// A folder of tokenised texts. Several processes may use it at once, and any file may be deleted.
#[derive(Debug, Clone)]
pub struct TokenCache {
    dir: PathBuf,
}

/// [`Corpus::encode`] by way of `cache`, and what that did.
pub fn encode(
    cache: &TokenCache,
    tokenizer: &Tokenizer,
    examples: &[Example],
    lengths: Lengths,
    limits: ModelLimits,
    global_attention: GlobalAttention,
) -> Result<(Corpus, Outcome)> {
    let mut outcome = Outcome::Read;
    let make = |encode: &mut dyn FnMut() -> Result<Vec<Encoded>>| {
        let encoded;
        (encoded, outcome) = cache.tokens(tokenizer, examples, lengths, encode)?;
        Ok(encoded)
    };
    let corpus = Corpus::encode_by(tokenizer, examples, lengths, limits, global_attention, make)?;
    Ok((corpus, outcome))
}

/// What the cache did.
#[derive(Debug)]
pub enum Outcome {
    /// The texts were there.
    Read,
    /// They are now.
    Written,
    /// A file was there and was no good.
    Rewritten { path: PathBuf, why: String },
    /// They could not be kept.
    Unwritten(Error),
}

impl TokenCache {
    pub fn new(dir: &Path) -> Self {
        TokenCache { dir: dir.to_path_buf() }
    }

    /// The folder of this user's caches, where the environment names one.
    pub fn default_dir() -> Option<PathBuf> {
        Some(hub::own_cache()?.join("tokens"))
    }

    /// The tokens of `examples`, from the cache or from `encode`, which are the same.
    fn tokens(
        &self,
        tokenizer: &Tokenizer,
        examples: &[Example],
        lengths: Lengths,
        encode: impl FnOnce() -> Result<Vec<Encoded>>,
    ) -> Result<(Vec<Encoded>, Outcome)> {
        let key = key(tokenizer, examples, lengths)?;
        let path = self.dir.join(format!("{}.tokens", key.to_hex()));
        let found = match path.exists() {
            true => Some(read(&path, &key, examples.len())),
            false => None,
        };
        let why = match found {
            Some(Ok(encoded)) => return Ok((encoded, Outcome::Read)),
            Some(Err(why)) => Some(why),
            None => None,
        };
        let encoded = encode()?;
        let written = files::create_dir(&self.dir).and_then(|()| write(&path, &key, &encoded));
        let outcome = match (written, why) {
            (Err(error), _) => Outcome::Unwritten(error),
            (Ok(()), Some(why)) => Outcome::Rewritten { path, why },
            (Ok(()), None) => Outcome::Written,
        };
        Ok((encoded, outcome))
    }
}

fn key(tokenizer: &Tokenizer, examples: &[Example], lengths: Lengths) -> Result<blake3::Hash> {
    let mut hash = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        // With its length, so that no two lists of parts are the same bytes.
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(MAGIC);
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(tokenizer.fingerprint()?.as_bytes());
    for length in [lengths.source, lengths.target] {
        add(&(length as u64).to_le_bytes());
    }
    for example in examples {
        add(example.input.as_bytes());
        match example.references.first() {
            Some(reference) => add(reference.as_bytes()),
            None => add(&[0xff]),
        }
    }
    Ok(hash.finalize())
}

fn write(path: &Path, key: &blake3::Hash, encoded: &[Encoded]) -> Result<()> {
    let mut bytes = Vec::new();
    bytes.extend(MAGIC);
    bytes.extend(key.as_bytes());
    bytes.extend((encoded.len() as u64).to_le_bytes());
    let rows = || encoded.iter().flat_map(|example| [&example.input, &example.labels]);
    let lengths =
        |example: &Encoded| [example.input.len(), example.labels.len(), example.whole[0], example.whole[1]];
    bytes.extend(encoded.iter().flat_map(lengths).flat_map(|length| (length as u32).to_le_bytes()));
    bytes.extend(rows().flat_map(|row| row.iter()).flat_map(|id| id.to_le_bytes()));
    let hash = blake3::hash(&bytes);
    files::replace(path, |file| {
        file.write_all(&bytes)?;
        file.write_all(hash.as_bytes())
    })
}

/// The examples in a file, or what is wrong with it.
fn read(path: &Path, key: &blake3::Hash, examples: usize) -> Result<Vec<Encoded>, String> {
    let file = Arc::new(Mapped::open(path).map_err(|e| e.to_string())?);
    let (content, hash) = file
        .len()
        .checked_sub(HASH)
        .filter(|&end| end >= HEADER)
        .map(|end| file.split_at(end))
        .ok_or_else(|| format!("it has only {} bytes", file.len()))?;
    if blake3::hash(content).as_bytes() != hash {
        return Err("its content does not match its checksum".into());
    }
    let (start, content_key) = content.split_at(MAGIC.len());
    let count = &content_key[HASH..HASH + 8];
    if start != MAGIC || &content_key[..HASH] != key.as_bytes() || count != (examples as u64).to_le_bytes() {
        return Err("it belongs to other data".into());
    }
    let mut lengths = content[HEADER..].chunks_exact(4).map(number);
    let mut at = HEADER + 4 * LENGTHS_OF_ONE * examples;
    let mut row = |length: usize| {
        let end = at + 4 * length;
        let row = Tokens::mapped(&file, at..end);
        at = end;
        row
    };
    let encoded: Option<Vec<Encoded>> = (0..examples)
        .map(|_| {
            let [input, labels, document, reference] = [(); LENGTHS_OF_ONE].map(|()| lengths.next());
            let (input, labels) = (row(input?)?, row(labels?)?);
            Some(Encoded { input, labels, whole: [document?, reference?] })
        })
        .collect();
    encoded.filter(|_| at == content.len()).ok_or_else(|| "its lengths do not add up".into())
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | byte as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tokenizer() -> Tokenizer {
        Tokenizer::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led")).unwrap()
    }

    fn examples() -> Vec<Example> {
        let example = |input: &str, references: &[&str]| Example {
            id: "a".into(),
            pid: "a".into(),
            input: input.into(),
            references: references.iter().map(|text| text.to_string()).collect(),
        };
        vec![
            example("The meeting began late, and some left early.", &["It was late.", "unused"]),
            example("", &[]),
            example("Budget and remote control.", &[""]),
        ]
    }

    const LENGTHS: Lengths = Lengths { source: 12, target: 5 };

    fn made() -> Vec<Encoded> {
        let encoded = |input: &[u32], labels: &[u32], cut: usize| {
            let whole = Encoded::new(input.to_vec(), labels.to_vec());
            Encoded { whole: whole.whole.map(|length| length + cut), ..whole }
        };
        vec![
            encoded(&[0, 7, 9, 2], &[0, 2], 0),
            encoded(&[0, 2], &[], 0),
            encoded(&[0, 1 << 20, 2], &[0, 4, 2], 5),
        ]
    }

    fn ask(dir: &Path, lengths: Lengths, examples: &[Example]) -> (Vec<Encoded>, Outcome) {
        TokenCache::new(dir).tokens(&tokenizer(), examples, lengths, || Ok(made())).unwrap()
    }

    fn the_file(dir: &Path) -> PathBuf {
        fs::read_dir(dir).unwrap().next().unwrap().unwrap().path()
    }

    #[test]
    fn what_was_made_is_mapped_the_next_time() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(ask(dir.path(), LENGTHS, &examples()).1, Outcome::Written));
        let never = || -> Result<Vec<Encoded>> { Err(Error::internal("made again")) };
        let (again, outcome) =
            TokenCache::new(dir.path()).tokens(&tokenizer(), &examples(), LENGTHS, never).unwrap();
        assert_eq!(again, made());
        assert!(matches!(outcome, Outcome::Read));
        // Deleting the file under a reader takes nothing from it.
        fs::remove_file(the_file(dir.path())).unwrap();
        assert_eq!(again, made());
    }

    #[test]
    fn everything_that_decides_the_ids_is_in_the_key() {
        let dir = tempfile::tempdir().unwrap();
        ask(dir.path(), LENGTHS, &examples());
        let changed = |change: fn(&mut Vec<Example>)| {
            let mut examples = examples();
            change(&mut examples);
            examples
        };
        for other in [
            changed(|e| e[0].input.push('.')),
            changed(|e| e[0].references[0].push('.')),
            changed(|e| e[2].references.clear()),
            changed(|e| e.swap(0, 2)),
        ] {
            assert!(matches!(ask(dir.path(), LENGTHS, &other).1, Outcome::Written));
        }
        for lengths in [Lengths { source: 13, ..LENGTHS }, Lengths { target: 6, ..LENGTHS }] {
            assert!(matches!(ask(dir.path(), lengths, &examples()).1, Outcome::Written));
        }
        // What is not tokenised decides nothing.
        let same = changed(|e| e[0].references[1].push('.'));
        assert!(matches!(ask(dir.path(), LENGTHS, &same).1, Outcome::Read));
    }

    #[test]
    fn a_file_that_is_no_good_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        ask(dir.path(), LENGTHS, &examples());
        let path = the_file(dir.path());
        let good = fs::read(&path).unwrap();
        let spoilt = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        };
        let mut bad = vec![Vec::new(), good[..good.len() - 1].to_vec(), good[..40].to_vec()];
        bad.extend([0, 9, 41, 50, good.len() - 40, good.len() - 1].map(spoilt));
        for bytes in bad {
            fs::write(&path, &bytes).unwrap();
            let (encoded, outcome) = ask(dir.path(), LENGTHS, &examples());
            assert_eq!(encoded, made());
            assert!(matches!(outcome, Outcome::Rewritten { .. }), "{} bytes: {outcome:?}", bytes.len());
            assert_eq!(fs::read(&path).unwrap(), good);
        }
    }

    #[test]
    fn lengths_that_lie_under_a_right_checksum_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        ask(dir.path(), LENGTHS, &examples());
        let path = the_file(dir.path());
        let good = fs::read(&path).unwrap();
        for length in [3u32, 5, u32::MAX] {
            let mut bytes = good[..good.len() - HASH].to_vec();
            bytes[HEADER..HEADER + 4].copy_from_slice(&length.to_le_bytes());
            let hash = blake3::hash(&bytes);
            bytes.extend(hash.as_bytes());
            fs::write(&path, &bytes).unwrap();
            assert!(matches!(ask(dir.path(), LENGTHS, &examples()).1, Outcome::Rewritten { .. }));
        }
    }

    #[test]
    fn many_may_write_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let writers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| ask(dir.path(), LENGTHS, &examples()))).collect();
            for writer in writers {
                let (encoded, outcome) = writer.join().unwrap();
                assert_eq!(encoded, made());
                assert!(matches!(outcome, Outcome::Read | Outcome::Written), "{outcome:?}");
            }
        });
        // Nothing but the one file is left.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(matches!(ask(dir.path(), LENGTHS, &examples()).1, Outcome::Read));
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_only_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let (encoded, outcome) = ask(&file, LENGTHS, &examples());
        assert_eq!(encoded, made());
        assert!(matches!(outcome, Outcome::Unwritten(_)));
    }
}
