//! Tokenizers made of the files that models have on the hub, against what transformers makes of them.

use crate::support::interop;
use serde::Deserialize;
use serde_json::Value;
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

/// `folders.json`: what AutoTokenizer makes of folders, by `scripts/hub_tokenizer_folders.py`.
#[derive(Deserialize)]
struct Folders {
    texts: Vec<String>,
    folders: Vec<Folder>,
}

#[derive(Deserialize)]
struct Folder {
    name: String,
    base: String,
    copied: Vec<String>,
    /// Files beside the base; null for none.
    files: HashMap<String, Value>,
    /// Changes of tokenizer.json: paths with dots, and values.
    changes: Vec<(String, Value)>,
    /// To cut at.
    length: Option<usize>,
    /// The folder whose ids these are, where `ids` says nothing.
    like: String,
    ids: HashMap<usize, Vec<u32>>,
}

impl Folder {
    fn write(&self) -> tempfile::TempDir {
        let copied: Vec<&str> = self.copied.iter().map(String::as_str).collect();
        let dir = copy(&self.base, &copied);
        for (name, content) in self.files.iter() {
            let path = dir.path().join(name);
            match content {
                Value::Null => drop(fs::remove_file(path)),
                content => fs::write(path, content.to_string()).unwrap(),
            }
        }
        if !self.changes.is_empty() {
            let path = dir.path().join("tokenizer.json");
            let mut whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            for (at, value) in &self.changes {
                change(&mut whole, at, value.clone());
            }
            fs::write(path, whole.to_string()).unwrap();
        }
        dir
    }
}

/// Sets a key, or inserts into a list.
fn change(whole: &mut Value, at: &str, value: Value) {
    let (parents, last) = at.rsplit_once('.').unwrap_or(("", at));
    let pointer = if parents.is_empty() { String::new() } else { format!("/{}", parents.replace('.', "/")) };
    match whole.pointer_mut(&pointer).unwrap() {
        Value::Array(list) => list.insert(last.parse().unwrap(), value),
        object => object[last] = value,
    }
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
    let led = ["vocab.json", "merges.txt", "special_tokens_map.json"];
    let pieces = ["spiece.model", "tokenizer_config.json"];
    for (name, base, files, family) in [
        ("led", "led", &led[..], "led"),
        ("led_bare", "led", &led[..2], "led"),
        ("bigbird_pegasus", "bigbird_pegasus", &pieces, "bigbird_pegasus"),
        ("pegasus", "pegasus", &pieces, "bigbird_pegasus"),
    ] {
        let dir = copy(base, files);
        fs::write(dir.path().join("config.json"), format!(r#"{{"model_type": "{family}"}}"#)).unwrap();
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        for case in &goldens.cases {
            let ids = tokenizer.encode(&case.text, usize::MAX).unwrap();
            assert_eq!(ids, case.ids[name], "{name}: {:?}", case.text);
        }
    }
    // Spaces before <mask> belong to it only where special_tokens_map.json says so.
    assert!(goldens.cases.iter().any(|case| case.ids["led"] != case.ids["led_bare"]));
}

/// Each folder, and then what `convert` would write of it beside the same settings.
#[test]
fn folders_are_read_as_autotokenizer_does() {
    let goldens: Folders = serde_json::from_slice(&fs::read(golden("folders.json")).unwrap()).unwrap();
    assert!(goldens.folders.len() >= 74 && goldens.texts.len() >= 70);
    let mut wrong = Vec::new();
    for folder in &goldens.folders {
        let dir = folder.write();
        let like = goldens.folders.iter().find(|other| other.name == folder.like).unwrap();
        let converted = Source::read(dir.path()).unwrap().json().unwrap();
        for file in ["read", "converted"] {
            let tokenizer = Tokenizer::load(dir.path()).unwrap();
            for (at, text) in goldens.texts.iter().enumerate() {
                let expected = folder.ids.get(&at).unwrap_or_else(|| &like.ids[&at]);
                let ids = tokenizer.encode(text, folder.length.unwrap_or(usize::MAX)).unwrap();
                if ids != *expected {
                    wrong.push(format!(
                        "{} {file}: {text:?} is {ids:?}, {expected:?} in transformers",
                        folder.name
                    ));
                }
            }
            fs::write(dir.path().join("tokenizer.json"), &converted).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// What `convert` writes of each folder, read by transformers where that is installed.
#[test]
fn transformers_reads_the_same_ids_from_what_is_converted() {
    let Some(python) = interop::python() else { return };
    let goldens: Folders = serde_json::from_slice(&fs::read(golden("folders.json")).unwrap()).unwrap();
    let root = tempfile::tempdir().unwrap();
    for folder in &goldens.folders {
        let (from, to) = (folder.write(), root.path().join(&folder.name));
        fs::create_dir(&to).unwrap();
        for name in ["config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"] {
            if from.path().join(name).exists() {
                fs::copy(from.path().join(name), to.join(name)).unwrap();
            }
        }
        let made = Source::read(from.path()).unwrap();
        fs::write(to.join("tokenizer.json"), made.json().unwrap()).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/hub_tokenizer_folders.py");
    let output = std::process::Command::new(python).arg(script).arg(root.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn a_tokenizer_json_is_taken_first_and_is_the_same_tokenizer() {
    for name in ["led", "pegasus"] {
        let made = Source::read(&golden(name)).unwrap();
        assert!(made.made);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), made.json().unwrap()).unwrap();
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
