//! Settings that change scores, against transformers' `generate()`.

use super::{goldens, open, source, stride};
use crate::support::golden::root;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::slice::from_ref;
use std::sync::Arc;
use wattention::generate::{GenerateOptions, Pieces, Settings, State, generate};
use wattention::models::session::Session;

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(root().join(name)).unwrap()).unwrap()
}

fn about_the_input(options: &Value) -> bool {
    options.as_object().unwrap().keys().any(|key| key.starts_with("encoder_"))
}

/// Answers of several calls as one would have them; transformers' beams take a pad token of 0 for none.
fn padded(mut answers: Vec<Vec<i32>>, options: &GenerateOptions) -> Vec<Vec<i32>> {
    let filler = match (options.num_beams, options.pad_token_id) {
        (2.., 0) => options.eos_token_id[0],
        (_, pad) => pad,
    };
    let longest = answers.iter().map(Vec::len).max().unwrap();
    answers.iter_mut().for_each(|answer| answer.resize(longest, filler));
    answers
}

#[test]
fn sequences_equal_transformers_under_every_setting_that_changes_scores() {
    let batches = goldens().batches;
    let golden = read("generation_settings.json");
    let pieces: Vec<String> = serde_json::from_value(golden["pieces"].clone()).unwrap();
    let pieces = Arc::new(Pieces(pieces.into_iter().map(String::into_bytes).collect()));
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 350);
    let mut sessions: BTreeMap<String, Session<State>> = BTreeMap::new();
    let (mut wrong, mut tried) = (Vec::new(), BTreeSet::new());
    for case in cases.iter().step_by(stride()) {
        let key = case["batch"].as_str().unwrap();
        let model = key.split('/').next().unwrap();
        let session = sessions.entry(model.to_string()).or_insert_with(|| open(model));
        let limits = session.real().loaded.model.limits();
        let settings = Settings::parse(key, &case["options"].to_string()).unwrap();
        let options = settings.options(&limits, 0).unwrap();
        let options = GenerateOptions { pieces: Some(pieces.clone()), ..options };
        // Rules about the input are answered row by row there. Here they do not see the batch; block-sparse attention
        // does, whose blocks follow from the padded length, in transformers as well.
        let alone = model.starts_with("bigbird_") && about_the_input(&case["options"]);
        let got = if alone {
            let rows = batches[key].iter();
            let got =
                rows.flat_map(|row| generate(session, &source(&limits, from_ref(row)), &options).unwrap());
            padded(got.collect(), &options)
        } else {
            generate(session, &source(&limits, &batches[key]), &options).unwrap()
        };
        let want: Vec<Vec<i32>> = serde_json::from_value(case["sequences"].clone()).unwrap();
        if got != want {
            wrong.push(format!("{key} with {}:\n got {got:?}\nwant {want:?}", case["options"]));
        }
        tried.extend(case["options"].as_object().unwrap().keys().cloned());
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    if stride() == 1 {
        for setting in [
            "bad_words_ids",
            "begin_suppress_tokens",
            "encoder_no_repeat_ngram_size",
            "encoder_repetition_penalty",
            "exponential_decay_length_penalty",
            "max_time",
            "renormalize_logits",
            "repetition_penalty",
            "sequence_bias",
            "stop_strings",
            "suppress_tokens",
        ] {
            assert!(tried.contains(setting), "{setting} is in no case");
        }
    }
}

/// The input's rules look at the input alone, not at the padding that a batch needs.
#[test]
fn rules_about_the_input_do_not_see_the_batch() {
    let rows = &goldens().batches["led_plain/0"];
    let mut session = open("led_plain");
    let limits = session.real().loaded.model.limits();
    for text in
        [r#"{"encoder_no_repeat_ngram_size": 1}"#, r#"{"encoder_repetition_penalty": 1.5, "num_beams": 3}"#]
    {
        let options = Settings::parse("", text).unwrap().options(&limits, 0).unwrap();
        let options = GenerateOptions { max_new_tokens: 10, ..options };
        let together = generate(&mut session, &source(&limits, rows), &options).unwrap();
        for (row, together) in rows.iter().zip(&together) {
            let alone = generate(&mut session, &source(&limits, from_ref(row)), &options).unwrap();
            assert_eq!(alone[0][..], together[..alone[0].len()], "{text}");
        }
    }
}

/// Drawn beams are answers of the model's own distribution: the same seed gives the same, and others differ.
#[test]
fn beams_are_drawn_by_seed_and_row() {
    let rows = &goldens().batches["led_plain/0"];
    let mut session = open("led_plain");
    let limits = session.real().loaded.model.limits();
    let mut drawn = |seed: u64, rows: &[Vec<i64>], first_row: u64| {
        let options = GenerateOptions {
            num_beams: 3,
            num_return_sequences: 2,
            do_sample: true,
            top_k: 0,
            max_new_tokens: 10,
            seed,
            first_row,
            ..GenerateOptions::new(&limits)
        };
        generate(&mut session, &source(&limits, rows), &options).unwrap()
    };
    let once = drawn(1, rows, 4);
    assert_eq!(once.len(), 2 * rows.len());
    assert_eq!(once, drawn(1, rows, 4));
    assert_ne!(once, drawn(2, rows, 4));
    for (i, row) in rows.iter().enumerate() {
        let alone = drawn(1, from_ref(row), 4 + i as u64);
        for (alone, together) in alone.iter().zip(&once[2 * i..]) {
            assert_eq!(alone[..], together[..alone.len()]);
        }
    }
}
