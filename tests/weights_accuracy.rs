//! What the embedded models can do, against what the construction of made-up documents says they should.

use std::path::{Path, PathBuf};
use wattention::data::needle::{CHANCE, Maker, Task, Wanted};
use wattention::data::reach::tokens_needed;
use wattention::data::{Record, Split, group};
use wattention::device::Device;
use wattention::evaluate::{self, evaluate};
use wattention::generate::{self, GenerateOptions};
use wattention::metrics::Protocol;
use wattention::models::session::Session;
use wattention::models::{self, Options};
use wattention::text::Tokenizer;
use wattention::train::{Corpus, GlobalAttention, Lengths};

const MODELS: [&str; 3] = ["tiny-led", "small-led", "tiny-bigbird-pegasus"];

/// No split that a model was trained on has this seed.
const SEED: u64 = 2022;

const EXAMPLES: usize = 32;

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights")
}

/// Of each record whether it is answered right, its input cut to `length` tokens.
fn answered(dir: &Path, tokenizer: &Tokenizer, records: &[Record], length: usize) -> Vec<bool> {
    let loaded = models::load(dir, &Device::cpu(), Options::default()).unwrap();
    let limits = loaded.model.limits();
    let examples = group(records.to_vec(), Protocol::Scrolls);
    let lengths = Lengths { source: length, target: 16 };
    let corpus = Corpus::encode(tokenizer, &examples, lengths, limits, GlobalAttention::First).unwrap();
    let mut session = Session::new(loaded, Options::default(), generate::state).unwrap();
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

/// The fewest successes of `n` that chance exceeds once in ten thousand times.
fn most_by_chance(n: usize, p: f64) -> usize {
    let mut probability = (1.0 - p).powi(n as i32);
    let (mut at_most, mut k) = (probability, 0);
    while at_most < 1.0 - 1e-4 && k < n {
        probability *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
        k += 1;
        at_most += probability;
    }
    k
}

#[test]
fn what_stands_within_the_input_length_is_answered_and_the_rest_is_not() {
    for name in MODELS {
        let dir = weights().join(name);
        let tokenizer = Tokenizer::load(&dir).unwrap();
        let wanted = Wanted { task: Task::Qa, length: 4096, facts: 1, seed: SEED };
        let mut maker = Maker::new(wanted, Some(&tokenizer)).unwrap();
        let records: Vec<Record> =
            (0..EXAMPLES).map(|index| maker.record(Split::Validation, index).unwrap()).collect();
        let needed = tokens_needed(&tokenizer, &records).unwrap();
        for length in [1024, 2048] {
            let answers = answered(&dir, &tokenizer, &records, length);
            let (mut seen, mut right_seen, mut right_unseen) = (0, 0, 0);
            for (needed, right) in needed.iter().zip(answers) {
                let is_seen = needed[0] <= length;
                seen += usize::from(is_seen);
                right_seen += usize::from(right && is_seen);
                right_unseen += usize::from(right && !is_seen);
            }
            // A quarter of the places and half of them, one place more or less.
            assert!((EXAMPLES * length / 4096).abs_diff(seen) <= 1, "{name} at {length}: {seen} seen");
            assert!(10 * right_seen >= 9 * seen, "{name} at {length}: {right_seen} of {seen} seen");
            let most = most_by_chance(EXAMPLES - seen, CHANCE);
            assert!(right_unseen <= most, "{name} at {length}: {right_unseen} unseen, chance {most}");
        }
    }
}

#[test]
fn chance_is_bounded_as_the_binomial_distribution_says() {
    // 1 - 0.9999 of Binomial(16, 1/16) lies above 6: its tail from 7 on is 4.5e-5 and from 6 on 5.5e-4.
    assert_eq!(most_by_chance(16, 1.0 / 16.0), 6);
    assert_eq!(most_by_chance(0, 0.5), 0);
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
