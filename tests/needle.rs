//! Made-up datasets: where answers stand, that they stand there once, and what cannot be made.

use std::collections::HashSet;
use std::path::Path;
use wattention::data::needle::{LONGEST, MOST_FACTS, Maker, Task, Wanted};
use wattention::data::reach::{share_within, tokens_needed};
use wattention::data::{self, Record, Split};
use wattention::text::Tokenizer;

fn records(wanted: Wanted, tokenizer: Option<&Tokenizer>, split: Split, count: usize) -> Vec<Record> {
    let mut maker = Maker::new(wanted, tokenizer).unwrap();
    (0..count).map(|index| maker.record(split, index).unwrap()).collect()
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("weights").join(name)).unwrap()
}

const QA: Wanted = Wanted { task: Task::Qa, length: 400, facts: 4, seed: 3 };
const SUMMARY: Wanted = Wanted { task: Task::Summary, length: 400, facts: 4, seed: 3 };

/// The words of a text without full stops.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().map(|word| word.trim_end_matches(['.', '?'])).collect()
}

#[test]
fn one_sentence_of_the_document_answers_the_question() {
    for record in records(QA, None, Split::Train, 200) {
        let (question, document) = record.input.split_once("\n\n").unwrap();
        let answer = record.output.as_deref().unwrap();
        let (thing, owner) = (words(question)[3], answer.strip_prefix("The ").unwrap());
        assert_eq!(question, format!("Who is the {thing} for?"));
        let said = words(document);
        assert_eq!(said.iter().filter(|&&word| word == thing).count(), 1, "{}", record.input);
        for name in words(owner) {
            assert_eq!(said.iter().filter(|&&word| word == name).count(), 1, "{}", record.input);
            assert!(!words(question).contains(&name), "{question}");
        }
        let [[start, end]] = record.needles[..] else {
            panic!("{:?}", record.needles);
        };
        assert_eq!(record.input[start..end], format!("The {thing} is for the {owner}."));
        assert_eq!(document.matches(" is for the ").count(), QA.facts);
        let length = words(&record.input).len();
        // The longest sentence has seven words.
        assert!((QA.length - 6..=QA.length).contains(&length), "{length} words");
    }
}

#[test]
fn a_summary_is_all_facts_in_their_order() {
    for record in records(SUMMARY, None, Split::Train, 50) {
        let spans = &record.needles;
        assert_eq!(spans.len(), SUMMARY.facts);
        assert!(spans.windows(2).all(|pair| pair[0][1] <= pair[1][0]));
        let said: Vec<&str> = spans.iter().map(|&[start, end]| &record.input[start..end]).collect();
        assert_eq!(record.output.as_deref(), Some(said.join(" ").as_str()));
    }
}

/// The largest difference between the distribution of `places` and the uniform one (Kolmogorov-Smirnov).
fn distance_from_uniform(mut places: Vec<f64>) -> f64 {
    places.sort_by(f64::total_cmp);
    let n = places.len() as f64;
    let gap =
        |(at, place): (usize, &f64)| (at as f64 / n - place).abs().max(((at + 1) as f64 / n - place).abs());
    places.iter().enumerate().map(gap).fold(0.0, f64::max)
}

#[test]
fn places_are_uniform_in_every_run_of_examples() {
    let place = |record: &Record, needle: usize| {
        let document = record.input.find("\n\n").unwrap() + 2;
        let [start, end] = record.needles[needle];
        (start - document) as f64 / (record.input.len() - document - (end - start)) as f64
    };
    let asked = records(QA, None, Split::Validation, 400);
    // Golden-ratio places: less than a place and a half between any two of n, and sentences are a fiftieth apart.
    for run in [&asked[..24], &asked[100..148], &asked[..]] {
        let places: Vec<f64> = run.iter().map(|record| place(record, 0)).collect();
        assert!(distance_from_uniform(places) < 1.5 / run.len() as f64 + 0.03, "{}", run.len());
    }
    // The places of all facts of a summary together; 1.95 / sqrt(n) is exceeded once in a thousand times.
    let mut places = Vec::new();
    for record in records(SUMMARY, None, Split::Validation, 400) {
        places.extend((0..SUMMARY.facts).map(|needle| place(&record, needle)));
    }
    let bound = 1.95 / (places.len() as f64).sqrt() + 0.03;
    assert!(distance_from_uniform(places) < bound);
}

#[test]
fn the_seed_decides_and_no_document_is_made_twice() {
    let made = |seed| records(Wanted { seed, ..QA }, None, Split::Train, 50);
    assert_eq!(made(1), made(1));
    assert!(made(1).iter().zip(made(2)).all(|(one, other)| one.input != other.input));
    // One that was made before is drawn again.
    let mut maker = Maker::new(QA, None).unwrap();
    let inputs: HashSet<String> = (0..50).map(|_| maker.record(Split::Test, 0).unwrap().input).collect();
    assert_eq!(inputs.len(), 50);
}

#[test]
fn lengths_in_tokens_are_those_of_the_tokenizer() {
    for name in ["tiny-led", "tiny-bigbird-pegasus"] {
        let tokenizer = tokenizer(name);
        for record in records(Wanted { length: 512, ..QA }, Some(&tokenizer), Split::Test, 20) {
            let tokens = tokenizer.encode(&record.input, usize::MAX).unwrap().len();
            assert!((512 - 20..=512).contains(&tokens), "{name}: {tokens} tokens");
        }
    }
}

#[test]
fn the_embedded_ones_are_longer_than_4096_tokens_and_spread_over_them() {
    for (name, kind) in
        [("needle-qa", data::Kind::QuestionAnswering), ("needle-summary", data::Kind::Summarisation)]
    {
        let dataset = data::open(name).unwrap();
        assert_eq!((dataset.name.as_str(), dataset.kind), (name, kind));
        let mut inputs = HashSet::new();
        for split in Split::ALL {
            let mut records = Vec::new();
            dataset
                .visit(split, &mut |record| {
                    assert!(inputs.insert(record.input.clone()), "{}", record.id);
                    records.push(record);
                    Ok(())
                })
                .unwrap();
            assert_eq!(records.len(), if split == Split::Train { 256 } else { 128 });
            for model in ["tiny-led", "tiny-bigbird-pegasus"] {
                let tokenizer = tokenizer(model);
                let shortest =
                    records.iter().map(|r| tokenizer.encode(&r.input, usize::MAX).unwrap().len()).min();
                assert!((4097..=4300).contains(&shortest.unwrap()), "{model}: {shortest:?} tokens");
                let needed = tokens_needed(&tokenizer, &records).unwrap();
                let share = |length| share_within(&needed, length).unwrap();
                // Places of several facts are drawn: three standard deviations of 512 draws.
                let bound = if kind == data::Kind::Summarisation { 0.06 } else { 0.03 };
                assert!((share(1024) - 0.25).abs() < bound, "{model}: {}", share(1024));
                assert!((share(2048) - 0.5).abs() < bound, "{model}: {}", share(2048));
                assert!(share(4096) > 0.95, "{model}: {}", share(4096));
            }
        }
    }
}

#[test]
fn what_cannot_be_made_is_refused() {
    for wanted in [
        Wanted { facts: 0, ..QA },
        Wanted { facts: MOST_FACTS + 1, ..QA },
        Wanted { length: LONGEST + 1, ..QA },
        Wanted { length: usize::MAX, ..QA },
    ] {
        assert_eq!(Maker::new(wanted, None).err().unwrap().exit_code(), 2, "{wanted:?}");
    }
    for length in [0, 1, 20] {
        let mut maker = Maker::new(Wanted { length, ..QA }, None).unwrap();
        let error = maker.record(Split::Train, 0).unwrap_err();
        assert!(error.to_string().contains("too short"), "{error}");
    }
}
