//! What tokens are as text: for stop strings, and for the answers that are written.

use crate::support::golden::root;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use wattention::text::{Spaces, Tokenizer};

/// One tokenizer, as transformers has it.
#[derive(Deserialize)]
struct Golden {
    /// By id, bytes in hexadecimal.
    pieces: BTreeMap<String, String>,
    ids: Vec<u32>,
    /// The text of `ids` by whether `tokenizer_config.json` asks for clean_up_tokenization_spaces.
    decoded: BTreeMap<String, String>,
}

fn goldens() -> BTreeMap<String, Golden> {
    serde_json::from_str(&fs::read_to_string(root().join("generation_texts.json")).unwrap()).unwrap()
}

/// The golden folder beside the config.json of its family, without which tokenizer_config.json alone names the class.
fn folder(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(root().join("hub_tokenizers").join(name)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    fs::write(dir.path().join("config.json"), format!(r#"{{"model_type": "{name}"}}"#)).unwrap();
    dir
}

#[test]
fn tokens_add_to_a_text_what_transformers_looks_for_stop_strings_in() {
    for (name, golden) in goldens() {
        let pieces = Tokenizer::load(folder(&name).path()).unwrap().pieces().unwrap();
        assert!(golden.pieces.len() > 100, "{name}");
        for (id, want) in golden.pieces {
            let got: String =
                pieces[id.parse::<usize>().unwrap()].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(got, want, "{name}, token {id}");
        }
    }
}

#[test]
fn spaces_are_cleaned_up_where_transformers_does() {
    for (name, golden) in goldens() {
        for (clean, want) in golden.decoded {
            let dir = folder(&name);
            let path = dir.path().join("tokenizer_config.json");
            let mut config: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            config["clean_up_tokenization_spaces"] = (clean == "true").into();
            fs::write(&path, config.to_string()).unwrap();
            let tokenizer = Tokenizer::load(dir.path()).unwrap();
            assert_eq!(tokenizer.decode(&golden.ids, Spaces::AsModel).unwrap(), want, "{name}, {clean}");
        }
    }
}
