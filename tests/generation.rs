//! Greedy and beam search against transformers' `generate()` over a grid of settings, and sampling against itself.

mod files;
mod filters;
mod settings;
mod texts;

use crate::support::executor;
use crate::support::golden::root;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use wattention::device::Precision;
use wattention::generate::{self, GenerateOptions, Settings, State, generate};
use wattention::models::batch::{Source, SourceRows};
use wattention::models::session::Session;
use wattention::models::{self, ModelLimits, ModelOptions};

fn open(model: &str) -> Session<State> {
    let dir = root().join(model);
    let loaded = models::load(&dir, &executor::named(Precision::Fp32), ModelOptions::default()).unwrap();
    Session::new(loaded, ModelOptions::default(), generate::state).unwrap()
}

/// Rows of unequal lengths: padded on the right and masked, the first token global where a model has such.
fn source(limits: &ModelLimits, rows: &[Vec<i64>]) -> Source {
    let longest = rows.iter().map(Vec::len).max().unwrap();
    let padded = |value: i64, pad: i64, row: &Vec<i64>| -> Vec<i64> {
        (0..longest)
            .map(|j| if j < row.len() { if value < 0 { row[j] } else { value } } else { pad })
            .collect()
    };
    let ids: Vec<i64> = rows.iter().flat_map(|row| padded(-1, limits.pad as i64, row)).collect();
    let mask: Vec<i64> = rows.iter().flat_map(|row| padded(1, 0, row)).collect();
    let global: Vec<i64> = (0..ids.len()).map(|at| (at % longest == 0) as i64).collect();
    let rows = SourceRows {
        batch: rows.len(),
        ids: &ids,
        attention_mask: Some(&mask),
        global_attention_mask: Some(&global),
    };
    Source::new(limits, rows).unwrap()
}

struct Goldens {
    batches: BTreeMap<String, Vec<Vec<i64>>>,
    cases: Vec<Value>,
}

fn goldens() -> Goldens {
    let text = std::fs::read_to_string(root().join("generation.json")).unwrap();
    let mut all: Value = serde_json::from_str(&text).unwrap();
    Goldens {
        batches: serde_json::from_value(all["batches"].take()).unwrap(),
        cases: serde_json::from_value(all["cases"].take()).unwrap(),
    }
}

/// The simulator has time for some of the cases.
fn stride() -> usize {
    match std::env::var("WATTENTION_TEST_DEVICE") {
        Ok(device) if device == "sim" => 37,
        _ => 1,
    }
}

#[test]
fn sequences_equal_transformers_under_every_setting() {
    let Goldens { batches, cases } = goldens();
    assert!(cases.len() >= 360);
    let mut sessions: BTreeMap<String, Session<State>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases.iter().step_by(stride()) {
        let key = case["batch"].as_str().unwrap();
        let model = key.split('/').next().unwrap();
        let session = sessions.entry(model.to_string()).or_insert_with(|| open(model));
        let limits = session.real().loaded.model.limits();
        // BART's config.json forces the last token, as transformers' default for it.
        let own = Settings::of_model(&root().join(model), &[]).unwrap();
        let settings = Settings::parse(key, &case["options"].to_string()).unwrap().or(own);
        let options = settings.options(&limits, 0).unwrap();
        let got = generate(session, &source(&limits, &batches[key]), &options).unwrap();
        let want: Vec<Vec<i32>> = serde_json::from_value(case["sequences"].clone()).unwrap();
        if got != want {
            wrong.push(format!("{key} with {}:\n got {got:?}\nwant {want:?}", case["options"]));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_else_is_in_the_batch_changes_nothing() {
    let Goldens { batches, cases } = goldens();
    let mut session = open("led_plain");
    let limits = session.real().loaded.model.limits();
    for case in cases.iter().filter(|case| case["batch"] == "led_plain/0").step_by(stride()) {
        let rows = &batches["led_plain/0"];
        let options = Settings::parse("", &case["options"].to_string()).unwrap().options(&limits, 0).unwrap();
        let together = generate(&mut session, &source(&limits, rows), &options).unwrap();
        let each = options.num_return_sequences;
        for (row, together) in rows.iter().zip(together.chunks(each)) {
            let alone =
                generate(&mut session, &source(&limits, std::slice::from_ref(row)), &options).unwrap();
            for (alone, together) in alone.iter().zip(together) {
                assert_eq!(alone[..], together[..alone.len()], "{}", case["options"]);
            }
        }
    }
}

fn sampled(
    session: &mut Session<State>,
    rows: &[Vec<i64>],
    answers: usize,
    first_row: u64,
    seed: u64,
) -> Vec<Vec<i32>> {
    let limits = session.real().loaded.model.limits();
    let options = GenerateOptions {
        max_new_tokens: 12,
        num_return_sequences: answers,
        do_sample: true,
        temperature: 2.0,
        top_k: 40,
        top_p: 0.95,
        seed,
        first_row,
        ..GenerateOptions::new(&limits)
    };
    generate(session, &source(&limits, rows), &options).unwrap()
}

#[test]
fn a_drawn_token_follows_from_seed_row_and_position() {
    let rows = goldens().batches["led_plain/0"].clone();
    assert!(rows.len() > 1);
    let mut session = open("led_plain");
    let together = sampled(&mut session, &rows, 3, 5, 1);
    assert_eq!(together.len(), 3 * rows.len());
    let distinct: HashSet<&Vec<i32>> = together.iter().collect();
    assert!(distinct.len() > rows.len(), "answers of one input are alike: {together:?}");
    for (i, row) in rows.iter().enumerate() {
        let alone = sampled(&mut session, std::slice::from_ref(row), 3, 5 + i as u64, 1);
        for (alone, together) in alone.iter().zip(&together[3 * i..]) {
            assert_eq!(alone[..], together[..alone.len()]);
        }
    }
    assert_ne!(sampled(&mut session, &rows, 3, 5, 2), together, "another seed");
    assert_ne!(sampled(&mut session, &rows, 3, 6, 1), together, "other rows");
}
