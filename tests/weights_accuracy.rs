//! What the embedded models can do, against what the construction of made-up documents says they should.

use std::path::{Path, PathBuf};
use wattention::data::needle::{Maker, Task, Wanted};
use wattention::data::reach::tokens_needed;
use wattention::data::{Record, Split, group};
use wattention::device::Device;
use wattention::evaluate::{self, evaluate};
use wattention::generate::{self, GenerateOptions};
use wattention::metrics::Protocol;
use wattention::models::session::Session;
use wattention::models::{self, ModelOptions};
use wattention::nn::Weights;
use wattention::text::Tokenizer;
use wattention::train::{Corpus, GlobalAttention, Lengths};

/// The models, the lengths that they are tried at, and the share of owners in sight that each gives without a mistake, at
/// the least.
const LEAST: [(&str, &[usize], f64); 4] = [
    ("tiny-led", &[1024, 2048], 0.1),
    ("small-led", &[1024, 2048], 0.9),
    ("tiny-bigbird-pegasus", &[1024, 2048], 0.9),
    ("tiny-bart", &[1024], 0.5),
];

/// No split that a model was trained on has this seed.
const SEED: u64 = 2022;

const EXAMPLES: usize = 32;

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights")
}

/// Of each record whether it is answered right, its input cut to `length` tokens.
fn answered(
    dir: &Path,
    tokenizer: &Tokenizer,
    records: &[Record],
    length: usize,
    weights: Weights,
) -> Vec<bool> {
    let options = ModelOptions { weights, ..ModelOptions::default() };
    let loaded = models::load(dir, &Device::cpu(), options).unwrap();
    let limits = loaded.model.limits();
    let examples = group(records.to_vec(), Protocol::Scrolls);
    let lengths = Lengths { source: length, target: 16 };
    let corpus = Corpus::encode(tokenizer, &examples, lengths, limits, GlobalAttention::First).unwrap();
    let mut session = Session::new(loaded, options, generate::state).unwrap();
    let decoding = GenerateOptions { max_new_tokens: 8, ..GenerateOptions::new(&limits) };
    let task = evaluate::Task {
        tokenizer,
        corpus: &corpus,
        examples: &examples,
        protocol: Protocol::Scrolls,
        decoding: &decoding,
        batch_size: 8,
        known: Vec::new(),
    };
    let evaluation = evaluate(&mut session, task, &mut |_| Ok(())).unwrap();
    let right = |(said, record): (&String, &Record)| Some(said) == record.output.as_ref();
    evaluation.predictions.iter().zip(records).map(right).collect()
}

/// Of the records whose fact stands within `length` tokens, and of the others: how many there are, how many right.
fn counts(name: &str, length: usize, kept: Weights) -> [[usize; 2]; 2] {
    let dir = weights().join(name);
    let tokenizer = Tokenizer::load(&dir).unwrap();
    let wanted = Wanted { task: Task::Qa, length: 4096, facts: 1, seed: SEED };
    let mut maker = Maker::new(wanted, Some(&tokenizer)).unwrap();
    let records: Vec<Record> =
        (0..EXAMPLES).map(|index| maker.record(Split::Validation, index).unwrap()).collect();
    let needed = tokens_needed(&tokenizer, &records).unwrap();
    let mut counts = [[0; 2]; 2];
    for (needed, right) in needed.iter().zip(answered(&dir, &tokenizer, &records, length, kept)) {
        let [all, known] = &mut counts[usize::from(needed[0] > length)];
        *all += 1;
        *known += usize::from(right);
    }
    counts
}

#[test]
fn what_stands_within_the_input_length_is_answered_and_the_rest_is_not() {
    for (name, lengths, least) in LEAST {
        for &length in lengths {
            let [[seen, right], [_, guessed]] = counts(name, length, Weights::Stored);
            // A quarter of the places and half of them, one place more or less.
            assert!((EXAMPLES * length / 4096).abs_diff(seen) <= 1, "{name} at {length}: {seen} seen");
            assert!(right as f64 >= least * seen as f64, "{name} at {length}: {right} of {seen} seen");
            // Nobody guesses one of 65,536 owners.
            assert_eq!(guessed, 0, "{name} at {length}");
        }
    }
}

/// As many as of the weights that they are rounded from, but for one.
#[test]
fn weights_in_8_bits_answer_as_well() {
    for (name, lengths, least) in LEAST {
        let [[seen, stored], _] = counts(name, lengths[0], Weights::Stored);
        let [[_, right], [_, guessed]] = counts(name, lengths[0], Weights::Int8);
        assert!(right as f64 >= least * seen as f64, "{name}: {right} of {seen} seen");
        assert!(right + 1 >= stored, "{name}: {right}, and {stored} with the stored weights");
        assert_eq!(guessed, 0, "{name}");
    }
}

#[test]
fn the_larger_model_gives_more_owners_without_a_mistake() {
    let right = |name| counts(name, 4096, Weights::Stored)[0][1];
    let (tiny, small) = (right("tiny-led"), right("small-led"));
    // Two standard deviations of a difference between two shares of EXAMPLES are a quarter at most.
    assert!(small >= tiny + EXAMPLES / 4, "{small} and {tiny} of {EXAMPLES}");
}

#[test]
fn all_weights_are_small() {
    let mut folders = vec![weights()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => bytes += path.metadata().unwrap().len(),
            }
        }
    }
    assert!(bytes < 20_000_000, "{bytes} bytes");
}
