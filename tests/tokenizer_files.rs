//! Tokenizers made of the files that models have on the hub, against what transformers makes of them.

use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use wattention::error::Error;
use wattention::text::{Source, Tokenizer};

/// `scripts/hub_tokenizers.py` says what lies here.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/hub_tokenizers").join(name)
}

#[derive(Deserialize)]
struct Goldens {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    #[serde(flatten)]
    ids: HashMap<String, Vec<u32>>,
}

/// A folder of its own with some files of a golden.
fn copy(name: &str, files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        fs::copy(golden(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

#[test]
fn ids_are_those_of_transformers() {
    let goldens: Goldens = serde_json::from_slice(&fs::read(golden("cases.json")).unwrap()).unwrap();
    assert!(goldens.cases.len() > 300);
    let bare = copy("led", &["vocab.json", "merges.txt"]);
    for (name, dir) in [
        ("led", golden("led")),
        ("led_bare", bare.path().to_path_buf()),
        ("bigbird_pegasus", golden("bigbird_pegasus")),
        ("pegasus", golden("pegasus")),
    ] {
        let tokenizer = Tokenizer::load(&dir).unwrap();
        for case in &goldens.cases {
            let ids = tokenizer.encode(&case.text, usize::MAX).unwrap();
            assert_eq!(ids, case.ids[name], "{name}: {:?}", case.text);
        }
    }
    // Spaces before <mask> belong to it only where special_tokens_map.json says so.
    assert!(goldens.cases.iter().any(|case| case.ids["led"] != case.ids["led_bare"]));
}

#[test]
fn a_tokenizer_json_is_taken_first_and_is_the_same_tokenizer() {
    for name in ["led", "pegasus"] {
        let made = Source::read(&golden(name)).unwrap();
        assert!(made.made);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), &made.json).unwrap();
        fs::write(dir.path().join("spiece.model"), "not looked at").unwrap();
        assert!(!Source::read(dir.path()).unwrap().made);
        let (saved, first) = (Tokenizer::load(dir.path()).unwrap(), Tokenizer::load(&golden(name)).unwrap());
        let text = "The <mask> opened <n>\n the  meeting <unk_7>";
        assert_eq!(saved.encode(text, 64).unwrap(), first.encode(text, 64).unwrap());
    }
}

#[test]
fn ids_of_settings_are_kept() {
    let dir = copy("led", &["vocab.json", "merges.txt"]);
    let decoder = r#"{"added_tokens_decoder": {"0": {"content": "<s>", "special": true},
        "600": {"content": "<turn>", "special": false}}, "bos_token": "<s>", "cls_token": "<s>"}"#;
    fs::write(dir.path().join("tokenizer_config.json"), decoder).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("<turn>", 9).unwrap(), [0, 600, 2]);

    fs::write(dir.path().join("tokenizer_config.json"), r#"{"additional_special_tokens": ["<a>", "<b>"]}"#)
        .unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("<b><a>", 9).unwrap(), [0, 601, 600, 2]);

    fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    fs::write(dir.path().join("added_tokens.json"), r#"{"<new>": 600}"#).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("<new>", 9).unwrap(), [0, 600, 2]);
    assert_eq!(tokenizer.id_bound(), 601);
}

fn refusal(dir: &Path) -> Error {
    let outcome = Tokenizer::load(dir).and_then(|tokenizer| tokenizer.encode("a b", 9));
    outcome.expect_err("this tokenizer must be refused")
}

#[test]
fn files_that_contradict_each_other_are_named() {
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    let cases: &[(&str, &str, &str, &str)] = &[
        ("led", "vocab.json", "", "empty"),
        ("led", "vocab.json", "[]", "download it again"),
        ("led", "vocab.json", lfs, "git lfs pull"),
        ("led", "vocab.json", r#"{"<s>": -1}"#, "\"<s>\" has the id -1"),
        ("led", "vocab.json", r#"{"<s>": 4294967296}"#, "\"<s>\" has the id 4294967296"),
        ("led", "vocab.json", r#"{"<s>": 0}"#, "line 2"),
        ("led", "merges.txt", "#version: 0.2\n\nt\n", "line 3: expected two tokens"),
        ("led", "merges.txt", "t h x\n", "line 1: expected two tokens"),
        ("led", "merges.txt", "t zzz\n", "\"zzz\""),
        ("led", "tokenizer_config.json", "{", "tokenizer_config.json"),
        ("led", "tokenizer_config.json", r#"{"add_prefix_space": "no"}"#, "add_prefix_space"),
        (
            "led",
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"x": {"content": "y"}}}"#,
            "\"x\" is no id",
        ),
        ("led", "special_tokens_map.json", r#"{"mask_token": 7}"#, "mask_token"),
        ("led", "special_tokens_map.json", r#"{"cls_token": {"lstrip": true}}"#, "cls_token"),
        ("pegasus", "spiece.model", "", "empty"),
        ("pegasus", "spiece.model", lfs, "git lfs pull"),
        ("pegasus", "spiece.model", "<html>", "HTML"),
        ("pegasus", "spiece.model", "something else", "not a SentencePiece model"),
        ("pegasus", "spiece.model", "\u{12}\u{2}\u{18}\u{2}", "algorithm is number 2"),
        ("pegasus", "tokenizer_config.json", r#"{"offset": -3}"#, "offset"),
        ("pegasus", "tokenizer_config.json", r#"{"offset": 1e9}"#, "offset"),
        ("pegasus", "tokenizer_config.json", r#"{"eos_token": 1}"#, "eos_token"),
    ];
    for (name, file, content, says) in cases {
        let files: &[&str] = match *name {
            "led" => &["vocab.json", "merges.txt"],
            _ => &["spiece.model"],
        };
        let dir = copy(name, files);
        fs::write(dir.path().join(file), content).unwrap();
        let error = refusal(dir.path());
        assert_eq!(error.exit_code(), 65, "{file} {content:?}: {error}");
        assert!(error.to_string().contains(says), "{file} {content:?}: {error}");
    }
}

/// Neither a panic nor an endless read, whatever a byte says.
#[test]
fn flipped_bytes_of_a_model_are_read_or_refused() {
    let dir = copy("pegasus", &["spiece.model"]);
    let path = dir.path().join("spiece.model");
    let whole = fs::read(&path).unwrap();
    let mut rng = rand_mt::Mt64::new(5);
    let mut refused = 0;
    for _ in 0..300 {
        let mut bytes = whole.clone();
        let at = rng.next_u64() as usize % bytes.len();
        bytes[at] = rng.next_u64() as u8;
        fs::write(&path, bytes).unwrap();
        let outcome = Tokenizer::load(dir.path())
            .and_then(|tokenizer| tokenizer.encode("The meeting\n\u{a0}e\u{301}", 64));
        if let Err(error) = outcome {
            assert_eq!(error.exit_code(), 65, "{error}");
            refused += 1;
        }
    }
    assert!((10..300).contains(&refused), "{refused} of 300 were refused");
}
