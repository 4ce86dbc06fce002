//! Which tokens are global under each rule, and what was left out, against transformers' tokenizer.

use crate::support::golden;
use serde_json::Value;
use std::path::Path;
use wattention::data::Example;
use wattention::models::{self, ModelLimits};
use wattention::text::Tokenizer;
use wattention::train::{Corpus, Cut, GlobalAttention, Lengths};

fn goldens() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden::root().join("global_attention.json")).unwrap())
        .unwrap()
}

fn tiny_led() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led")
}

/// tiny-led's tokenizer with PRIMERA's token between documents as `separator`.
fn primera(separator: u64) -> Tokenizer {
    let text = std::fs::read_to_string(tiny_led().join("tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let token = serde_json::json!({
        "id": separator, "content": "<doc-sep>", "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
    });
    json["added_tokens"].as_array_mut().unwrap().push(token);
    Tokenizer::from_json(json.to_string().as_bytes(), "tokenizer.json").unwrap()
}

/// A model of LED's kind with room for one more token.
fn limits() -> ModelLimits {
    let limits = models::limits(&tiny_led().join("config.json")).unwrap();
    ModelLimits { vocab: limits.vocab + 1, ..limits }
}

fn example(text: &str) -> Example {
    Example { id: "a".into(), pid: "a".into(), input: text.into(), references: vec!["b".into()] }
}

fn lengths(all: &Value) -> Lengths {
    Lengths { source: all["max_length"].as_u64().unwrap() as usize, target: 8 }
}

#[test]
fn every_rule_chooses_the_tokens_that_offsets_do() {
    let all = goldens();
    let tokenizer = primera(all["separator"].as_u64().unwrap());
    let cases = all["cases"].as_array().unwrap();
    let examples: Vec<Example> = cases.iter().map(|case| example(case["text"].as_str().unwrap())).collect();
    let which: Vec<usize> = (0..cases.len()).collect();
    for rule in cases[0]["global"].as_object().unwrap().keys() {
        let attention: GlobalAttention = rule.parse().unwrap();
        let corpus = Corpus::encode(&tokenizer, &examples, lengths(&all), limits(), attention).unwrap();
        let source = corpus.source(&which).unwrap();
        let mut most = 0;
        for (i, case) in cases.iter().enumerate() {
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(corpus.examples[i].input[..], ids, "{}", case["text"]);
            let row = &source.global_index[i * source.globals..][..source.globals];
            let got: Vec<i32> = row.iter().copied().filter(|&at| at >= 0).collect();
            let want: Vec<i32> = serde_json::from_value(case["global"][rule].clone()).unwrap();
            assert_eq!(got, want, "{rule} of {}", case["text"]);
            most = most.max(want.len());
        }
        let (largest, _) = corpus.largest(1).unwrap();
        assert_eq!(largest.globals, most, "{rule}: the largest batch has room for all global tokens");
    }
}

#[test]
fn auto_follows_the_tokenizer() {
    let all = goldens();
    let rule = |tokenizer: &Tokenizer| {
        let corpus =
            Corpus::encode(tokenizer, &[example("a")], lengths(&all), limits(), GlobalAttention::Auto);
        corpus.unwrap().global_attention.to_string()
    };
    assert_eq!(rule(&primera(all["separator"].as_u64().unwrap())), "tokens:<doc-sep>");
    assert_eq!(rule(&Tokenizer::load(&tiny_led()).unwrap()), "first");
}

#[test]
fn a_token_that_the_tokenizer_has_not_is_refused_by_name() {
    let tokenizer = Tokenizer::load(&tiny_led()).unwrap();
    let attention: GlobalAttention = "tokens:<doc-sep>".parse().unwrap();
    let refused =
        Corpus::encode(&tokenizer, &[example("a")], lengths(&goldens()), limits(), attention.clone());
    let error = refused.err().unwrap();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("<doc-sep>"), "{error}");
    // A model without global attention has nothing to choose.
    let without = ModelLimits { has_global_attention: false, ..limits() };
    let corpus =
        Corpus::encode(&tokenizer, &[example("a")], lengths(&goldens()), without, attention).unwrap();
    assert_eq!(corpus.source(&[0]).unwrap().globals, 0);
}

#[test]
fn what_was_left_out_is_counted_in_tokens() {
    let all = goldens();
    let tokenizer = primera(all["separator"].as_u64().unwrap());
    let cases = all["cases"].as_array().unwrap();
    // Each text is its own reference, cut to another length.
    let examples: Vec<Example> = cases
        .iter()
        .map(|case| case["text"].as_str().unwrap())
        .map(|text| Example { references: vec![text.into()], ..example(text) })
        .collect();
    let corpus =
        Corpus::encode(&tokenizer, &examples, lengths(&all), limits(), GlobalAttention::First).unwrap();
    let numbers = |of: &dyn Fn(&Value) -> u64| -> Vec<u64> { cases.iter().map(of).collect() };
    let whole = numbers(&|case| case["tokens"].as_u64().unwrap());
    let read = numbers(&|case| case["ids"].as_array().unwrap().len() as u64);
    let cut = whole.iter().zip(&read).filter(|(whole, read)| whole > read).count();
    assert!(0 < cut && cut < cases.len());
    let want = Cut {
        documents: cases.len(),
        documents_cut: cut,
        tokens: whole.iter().sum(),
        tokens_read: read.iter().sum(),
        references: cases.len(),
        references_cut: whole.iter().filter(|&&whole| whole > 8).count(),
        reference_tokens: whole.iter().sum(),
        reference_tokens_read: whole.iter().map(|&whole| whole.min(8)).sum(),
    };
    assert_eq!(corpus.cut(), want);
    assert!(want.text().unwrap().starts_with(&format!("{cut} of {} documents cut", cases.len())));
    let whole = Cut { documents_cut: 0, references_cut: 0, ..want };
    assert_eq!(whole.text(), None);
    assert!(Cut { references_cut: 1, ..whole }.text().unwrap().starts_with("1 of"));
    let nearly = Cut { documents_cut: 1, tokens: 100_000, tokens_read: 99_999, ..whole };
    assert!(nearly.text().unwrap().contains(" 99 %"), "what was cut is not all of it");
}
