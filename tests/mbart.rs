//! mBART's tokenizers in the files of the hub, with their languages, against what AutoTokenizer makes of them.

use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use wattention::error::Result;
use wattention::text::{Source, Tokenizer};

const MODEL: &str = "sentencepiece.bpe.model";

/// `scripts/hub_mbart.py` says what lies here.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/hub_tokenizers/mbart")
}

#[derive(Deserialize)]
struct Cases {
    texts: Vec<String>,
    folders: Vec<Folder>,
}

#[derive(Deserialize)]
struct Folder {
    name: String,
    settings: Value,
    sources: Vec<Vec<u32>>,
    targets: Vec<Vec<u32>>,
}

fn cases() -> Cases {
    serde_json::from_str(&std::fs::read_to_string(golden().join("cases.json")).unwrap()).unwrap()
}

/// A model's folder without a `tokenizer.json`.
fn folder(settings: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(golden().join(MODEL), dir.path().join(MODEL)).unwrap();
    std::fs::write(dir.path().join("config.json"), r#"{"model_type": "mbart"}"#).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), settings.to_string()).unwrap();
    dir
}

#[track_caller]
fn assert_same(what: &str, texts: &[String], got: Result<Vec<Vec<u32>>>, want: &[Vec<u32>]) {
    for ((text, got), want) in texts.iter().zip(got.unwrap()).zip(want) {
        assert_eq!(&got, want, "{what}: {text:?}");
    }
}

#[test]
fn texts_have_their_language_as_transformers_gives_it() {
    let Cases { texts, folders } = cases();
    for Folder { name, settings, sources, targets } in folders {
        let dir = folder(&settings);
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        assert_same(&name, &texts, tokenizer.encode_batch(&texts, usize::MAX), &sources);
        let written = &texts[..targets.len()];
        assert_same(
            &format!("{name}, written"),
            written,
            tokenizer.encode_targets(written, usize::MAX),
            &targets,
        );
        // As `convert` leaves it: a tokenizer.json beside the same settings.
        let json = Source::read(dir.path()).unwrap().json().unwrap();
        std::fs::remove_file(dir.path().join(MODEL)).unwrap();
        std::fs::write(dir.path().join("tokenizer.json"), json).unwrap();
        let converted = Tokenizer::load(dir.path()).unwrap();
        assert_same(
            &format!("{name}, converted"),
            &texts,
            converted.encode_batch(&texts, usize::MAX),
            &sources,
        );
    }
}

#[test]
fn a_language_changes_what_the_tokens_of_a_text_are_kept_under() {
    let hash = |target: &str| {
        let dir = folder(&json!({ "src_lang": "en_XX", "tgt_lang": target }));
        Tokenizer::load(dir.path()).unwrap().fingerprint().unwrap()
    };
    assert!(hash("ro_RO") != hash("de_DE"), "tokens on disk would be those of another language");
}

#[test]
fn languages_that_there_are_not_are_refused_by_name() {
    for key in ["src_lang", "tgt_lang"] {
        // Slovene came with mBART-50.
        for code in ["sl_SI", "de", "German"] {
            let dir = folder(&json!({ "tokenizer_class": "MBartTokenizer", key: code }));
            let error = Tokenizer::load(dir.path()).err().unwrap();
            assert_eq!(error.exit_code(), 65);
            for part in [key, code, "de_DE"] {
                assert!(error.to_string().contains(part), "{error}");
            }
        }
    }
}
