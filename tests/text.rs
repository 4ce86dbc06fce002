//! The tokenizer wrapper against transformers, on the tokenizers of the two tiny models.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wattention::data::{self, Split};
use wattention::metrics::Protocol;
use wattention::text::{Spaces, Tokenizer};

const MODELS: [&str; 2] = ["tiny-led", "tiny-bigbird-pegasus"];

fn model_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights").join(name)
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::load(&model_dir(name)).unwrap()
}

/// `scripts/tiny_tokenizers.py` says what the fields hold.
#[derive(Deserialize)]
struct Goldens {
    cases: Vec<Case>,
    #[serde(flatten)]
    results: HashMap<String, Vec<Expected>>,
}

#[derive(Deserialize)]
struct Case {
    text: Option<String>,
    example: Option<String>,
    max_length: usize,
}

#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    kept: String,
    cleaned: String,
}

fn inputs(split: Split) -> HashMap<String, String> {
    let dataset = data::open("qmsum-slice").unwrap();
    let examples = dataset.examples(split, Protocol::Paper).unwrap();
    examples.into_iter().map(|example| (example.id, example.input)).collect()
}

#[test]
fn encodes_and_decodes_as_transformers_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizers.json");
    let goldens: Goldens = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let inputs = inputs(Split::Validation);
    assert_eq!(goldens.cases.len(), 50);
    for name in MODELS {
        let tokenizer = tokenizer(name);
        let results = &goldens.results[name];
        assert_eq!(results.len(), goldens.cases.len());
        for (case, expected) in goldens.cases.iter().zip(results) {
            let text = match (&case.text, &case.example) {
                (Some(text), _) => text,
                (None, Some(id)) => &inputs[id],
                (None, None) => panic!("a case has neither text nor example"),
            };
            let what = format!("{name}, {} tokens of {:.60?}", case.max_length, text);
            let ids = tokenizer.encode(text, case.max_length).unwrap();
            assert_eq!(ids, expected.ids, "{what}");
            assert_eq!(tokenizer.decode(&ids, Spaces::Kept).unwrap(), expected.kept, "{what}");
            assert_eq!(tokenizer.decode(&ids, Spaces::CleanedUp).unwrap(), expected.cleaned, "{what}");
        }
    }
}

#[test]
fn truncation_is_a_cut_of_the_whole_encoding() {
    let inputs = inputs(Split::Train);
    for name in MODELS {
        let tokenizer = tokenizer(name);
        let closing = tokenizer.id("</s>").unwrap();
        // The other queries of a meeting have the same transcript.
        for (_, text) in inputs.iter().filter(|(id, _)| id.ends_with("-general-0")) {
            let whole = tokenizer.encode(text, usize::MAX).unwrap();
            for max_length in [2, 3, 17, 64, 65, 100, 256, 700, 1024] {
                let ids = tokenizer.encode(text, max_length).unwrap();
                let (last, kept) = ids.split_last().unwrap();
                assert_eq!((ids.len(), *last), (max_length, closing));
                assert_eq!(kept, &whole[..max_length - 1]);
            }
        }
    }
}

/// Taking texts apart is an optimisation; the crate encoding each text whole is the truth.
#[test]
fn segments_do_not_change_the_tokens() {
    let pieces = [
        "word", "don't", "'s", "'", ",", ".", "1", "42", "<mask>", "</s>", "<s>", "é", "e\u{301}", "\u{301}",
        "日本", "🙂", "▁", "_", "\u{200b}", "\u{a0}", "\u{3000}", "\t", "\n", " ", " ", " ", " ", " ", "  ",
    ];
    let mut state = 1u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for name in MODELS {
        let tokenizer = tokenizer(name);
        let whole = tokenizers::Tokenizer::from_file(model_dir(name).join("tokenizer.json")).unwrap();
        for _ in 0..3000 {
            let text: String = (0..draw(40)).map(|_| pieces[draw(pieces.len())]).collect();
            let expected = whole.encode(text.as_str(), true).unwrap();
            assert_eq!(tokenizer.encode(&text, 4096).unwrap(), expected.get_ids(), "{name} {text:?}");
        }
    }
}

#[test]
fn a_batch_equals_its_texts() {
    let inputs: Vec<String> = inputs(Split::Validation).into_values().collect();
    for name in MODELS {
        let tokenizer = tokenizer(name);
        let batch = tokenizer.encode_batch(&inputs, 128).unwrap();
        let single: Vec<_> = inputs.iter().map(|text| tokenizer.encode(text, 128).unwrap()).collect();
        assert_eq!(batch, single);
    }
}

#[test]
fn a_saved_truncation_or_padding_does_not_apply() {
    let json = std::fs::read(model_dir("tiny-led").join("tokenizer.json")).unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    value["truncation"] = serde_json::json!(
        {"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    value["padding"] = serde_json::json!(
        {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
         "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"});
    let saved = Tokenizer::from_json(value.to_string().as_bytes(), "x").unwrap();
    let text = "The Project Manager opened the meeting.";
    let expected = tokenizer("tiny-led").encode(text, 64).unwrap();
    assert!(expected.len() > 4 && expected.len() < 64);
    assert_eq!(saved.encode(text, 64).unwrap(), expected);
}

#[test]
fn vocabulary_must_fit_the_embedding() {
    for name in MODELS {
        let tokenizer = tokenizer(name);
        assert_eq!(tokenizer.id_bound(), 2048);
        tokenizer.check_vocabulary(2048).unwrap();
        let error = tokenizer.check_vocabulary(2047).unwrap_err();
        assert_eq!(error.exit_code(), 65);
        assert!(error.to_string().contains("2047"), "{error}");
    }
}

#[test]
fn no_room_for_the_special_tokens_is_an_error() {
    let error = tokenizer("tiny-led").encode("x", 1).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert_eq!(tokenizer("tiny-led").encode("x", 2).unwrap(), [0, 2]);
    assert_eq!(tokenizer("tiny-bigbird-pegasus").encode("x", 1).unwrap(), [1]);
}

#[test]
fn a_folder_without_any_tokenizer_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    // merges.txt alone makes no tokenizer.
    std::fs::write(dir.path().join("merges.txt"), "").unwrap();
    let error = Tokenizer::load(dir.path()).err().unwrap();
    assert_eq!(error.exit_code(), 66);
    for part in ["tokenizer.json", "vocab.json with merges.txt", "spiece.model", "copy the tokenizer's files"]
    {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// Every one of these is a plausible file with one thing wrong; some make the tokenizers crate panic.
#[test]
fn hostile_files_are_errors_not_panics() {
    let json = std::fs::read(model_dir("tiny-led").join("tokenizer.json")).unwrap();
    let good: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let faults: [(&str, serde_json::Value); 5] = [
        ("/model/merges", serde_json::json!([["x", "nowhere"]])),
        ("/model/vocab", serde_json::json!({"a": -1})),
        ("/model/type", serde_json::json!("None")),
        ("/normalizer", serde_json::json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        (
            "/post_processor",
            serde_json::json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        ),
    ];
    for (at, fault) in faults {
        let mut bad = good.clone();
        *bad.pointer_mut(at).unwrap() = fault;
        let read = Tokenizer::from_json(bad.to_string().as_bytes(), "m/tokenizer.json");
        let outcome = read.and_then(|tokenizer| tokenizer.encode("abc", 16));
        let error = outcome.err().unwrap_or_else(|| panic!("{at} was accepted"));
        assert_eq!(error.exit_code(), 65, "{at}: {error}");
        assert!(error.to_string().contains("not a valid tokenizer"), "{at}: {error}");
    }
}
