//! `data import` and `data stats`.

use super::{Ran, command, golden, names_in, ran};
use serde_json::{Value, json};
use std::path::Path;

fn import(from: &Path, to: &Path, flags: &[&str]) -> Ran {
    ran(command().args(["data", "import", "qmsum", "--from"]).arg(from).arg("--to").arg(to).args(flags))
}

fn stats(dataset: &Path, flags: &[&str]) -> Ran {
    ran(command().args(["data", "stats", "--dataset"]).arg(dataset).args(flags))
}

/// A meeting with `queries` queries of four words, answered in two.
fn meeting(queries: usize) -> String {
    let query = json!({"query": "What was decided ?", "answer": "nothing much"});
    json!({
        "general_query_list": vec![query; queries],
        "specific_query_list": [],
        "meeting_transcripts": [{"speaker": "Chair", "content": "Good morning ."}],
    })
    .to_string()
}

fn release(root: &Path) {
    for (path, queries) in [("train/a", 2), ("train/b", 1), ("val/c", 1), ("test/d", 3)] {
        let path = root.join(path).with_extension("json");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, meeting(queries)).unwrap();
    }
}

#[test]
fn an_import_is_what_stats_then_finds() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("release"), dir.path().join("qmsum"));
    release(&from);
    let report = import(&from, &to, &["--json"]).json();
    let counts = ["train", "validation", "test"].map(|split| report[split].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 3]);
    assert_eq!(names_in(&to), ["test.jsonl", "train.jsonl", "validation.jsonl"]);

    let report = stats(&to, &["--json"]).json();
    assert_eq!((&report["dataset"], &report["kind"]), (&json!("qmsum"), &json!("summarisation")));
    // Query of four words, then "Chair: Good morning .".
    let lengths = |words: u64| json!({"min": words, "median": words as f64, "max": words});
    let found: Vec<&Value> = report["splits"].as_array().unwrap().iter().collect();
    assert_eq!(found.len(), 3);
    for (found, (split, examples)) in found.iter().zip([("train", 3), ("validation", 1), ("test", 3)]) {
        assert_eq!(found["split"], split);
        assert_eq!(found["examples"], examples);
        assert_eq!(found["ids"], examples);
        assert_eq!(found["input_words"], lengths(8));
        assert_eq!(found["output_words"], lengths(2));
        assert!(found.get("input_tokens").is_none());
    }
}

#[test]
fn an_import_does_not_overwrite_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("release"), dir.path().join("qmsum"));
    release(&from);
    import(&from, &to, &[]).succeeds();
    std::fs::write(to.join("train.jsonl"), "mine").unwrap();
    import(&from, &to, &[]).fails(74, &["train.jsonl", "--overwrite"]);
    assert_eq!(std::fs::read_to_string(to.join("train.jsonl")).unwrap(), "mine");
    let again = import(&from, &to, &["--overwrite"]);
    again.succeeds();
    assert!(again.out.contains("3 train"), "{}", again.out);
    assert_ne!(std::fs::read_to_string(to.join("train.jsonl")).unwrap(), "mine");
}

#[test]
fn imports_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("release"), dir.path().join("qmsum"));
    import(&from, &to, &[]).fails(66, &["release", "no such folder"]);
    release(&from);
    std::fs::write(from.join("val/c.json"), "{}").unwrap();
    import(&from, &to, &[]).fails(65, &["c.json", "meeting_transcripts"]);
    assert!(!to.exists());
    std::fs::write(from.join("val/c.json"), meeting(1)).unwrap();
    std::fs::write(&to, "a file").unwrap();
    import(&from, &to, &[]).fails(74, &["qmsum"]);
}

fn write_split(folder: &Path, split: &str, examples: &[(&str, &str, Option<&str>)]) {
    let lines: Vec<String> = examples
        .iter()
        .enumerate()
        .map(|(i, (id, input, output))| {
            json!({"id": id, "pid": i.to_string(), "input": input, "output": output}).to_string()
        })
        .collect();
    std::fs::write(folder.join(format!("{split}.jsonl")), lines.join("\n")).unwrap();
}

#[test]
fn ids_repeat_and_splits_may_be_absent() {
    let dir = tempfile::tempdir().unwrap();
    let examples = [
        ("a", "one two three", Some("one")),
        ("a", "one two three", Some("one two")),
        ("b", "one", Some("one two three four")),
        ("c", "one\n\ntwo", Some("one two three four five")),
    ];
    write_split(dir.path(), "validation", &examples);
    write_split(dir.path(), "test", &[("a", "one", None)]);
    let report = stats(dir.path(), &["--json"]).json();
    let splits = report["splits"].as_array().unwrap();
    assert_eq!(splits.len(), 2);
    let validation = &splits[0];
    assert_eq!((&validation["examples"], &validation["ids"]), (&json!(4), &json!(3)));
    assert_eq!(validation["input_words"], json!({"min": 1, "median": 2.5, "max": 3}));
    assert_eq!(validation["output_words"], json!({"min": 1, "median": 3.0, "max": 5}));
    assert_eq!(splits[1]["output_words"], Value::Null);

    let table = stats(dir.path(), &[]).out;
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["validation", "4", "3", "input", "words", "1", "2.5", "3"]), "{table}");
    assert!(rows.contains(&vec!["output", "words", "1", "3", "5"]), "{table}");
}

#[test]
fn tokens_are_those_of_transformers() {
    let file = std::fs::read(golden::root().join("tokenizers.json")).unwrap();
    let goldens: Value = serde_json::from_slice(&file).unwrap();
    for name in ["tiny-led", "tiny-bigbird-pegasus"] {
        let results = goldens[name].as_array().unwrap();
        let (mut texts, mut lengths) = (Vec::new(), Vec::new());
        for (case, expected) in goldens["cases"].as_array().unwrap().iter().zip(results) {
            let tokens = expected["ids"].as_array().unwrap().len();
            let room = case["max_length"].as_u64().unwrap() as usize;
            // Cut-off texts have as many tokens as there was room for.
            if let Some(text) = case["text"].as_str()
                && !text.trim().is_empty()
                && tokens < room
            {
                texts.push(("id", text, Some(text)));
                lengths.push(tokens);
            }
        }
        assert!(texts.len() > 5, "{name}: {} texts", texts.len());
        let dir = tempfile::tempdir().unwrap();
        write_split(dir.path(), "train", &texts);
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights").join(name);
        let flags = ["--json", "--tokenizer", tokenizer.to_str().unwrap()];
        let done = stats(dir.path(), &flags);
        assert!(done.err.contains("tokenising train"), "{}", done.err);
        let split = done.json()["splits"][0].clone();
        lengths.sort();
        for key in ["input_tokens", "output_tokens"] {
            assert_eq!(split[key]["min"], lengths[0], "{name}");
            assert_eq!(split[key]["max"], lengths[lengths.len() - 1], "{name}");
            let half = lengths.len() / 2;
            let median = (lengths[half] + lengths[(lengths.len() - 1) / 2]) as f64 / 2.0;
            assert_eq!(split[key]["median"], median, "{name}");
        }
    }
}

/// The flags of columns and of bad records, and what is said of those passed over.
#[test]
fn columns_by_name_and_bad_records() {
    let dir = tempfile::tempdir().unwrap();
    let lines =
        "{\"chapter\": \"one two\", \"tldr\": \"a\", \"n\": NaN}\n{\"chapter\": null, \"tldr\": \"b\"}\n";
    std::fs::write(dir.path().join("TRAIN.jsonl"), lines).unwrap();
    stats(dir.path(), &[]).fails(65, &["TRAIN.jsonl:1", "chapter, tldr, n", "--text-column"]);
    let columns = ["--text-column", "chapter", "--summary-column", "tldr"];
    stats(dir.path(), &columns)
        .fails(65, &["TRAIN.jsonl:2", "the chapter is missing, null or NaN (record \"line-2\")"]);
    let done = stats(dir.path(), &[&columns[..], &["--skip-bad-records", "1", "--json"]].concat());
    let split = done.json()["splits"][0].clone();
    assert_eq!((&split["examples"], &split["skipped"]), (&json!(1), &json!(1)));
    assert!(done.err.contains("TRAIN.jsonl:2"), "{}", done.err);
    stats(dir.path(), &["--text-column", "body"]).fails(65, &["\"body\"", "chapter, tldr, n"]);
    stats(Path::new("qmsum-slice"), &columns).fails(2, &["qmsum-slice", "text_column"]);
}

#[test]
fn datasets_and_tokenizers_that_are_not_there() {
    let slice = Path::new("qmsum-slice");
    let dir = tempfile::tempdir().unwrap();
    stats(Path::new("no-such-dataset"), &[]).fails(66, &["no-such-dataset", "qmsum-slice"]);
    stats(dir.path(), &[]).fails(66, &["train.jsonl"]);
    stats(slice, &["--tokenizer", "no-such-model"])
        .fails(66, &["no-such-model", "hf download no-such-model"]);
    write_split(dir.path(), "train", &[("a", "one", None)]);
    stats(dir.path(), &[]).fails(65, &["train.jsonl:1"]);
    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    let at = dir.path().to_str().unwrap();
    stats(slice, &["--tokenizer", at]).fails(65, &["not a valid tokenizer"]);
}

/// `data synth needle` into `to`.
fn synth(to: &Path, flags: &str) -> Ran {
    ran(command().args(["data", "synth", "needle", "--to"]).arg(to).args(flags.split_whitespace()))
}

#[test]
fn a_made_dataset_is_what_stats_then_finds() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("needle-qa");
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led");
    let tokenizer = tokenizer.to_str().unwrap();
    let sizes =
        format!("--length 512 --facts 3 --train 64 --validation 32 --test 16 --tokenizer {tokenizer}");
    let report = synth(&to, &format!("{sizes} --json")).json();
    let counts = ["train", "validation", "test"].map(|split| report[split].as_u64().unwrap());
    assert_eq!(counts, [64, 32, 16]);
    assert_eq!(names_in(&to), ["test.jsonl", "train.jsonl", "validation.jsonl"]);
    let files = || names_in(&to).into_iter().map(|name| std::fs::read(to.join(name)).unwrap());
    let made: Vec<Vec<u8>> = files().collect();

    let report = stats(&to, &["--json", "--tokenizer", tokenizer]).json();
    assert_eq!(report["kind"], "question_answering");
    for (found, count) in report["splits"].as_array().unwrap().iter().zip(counts) {
        assert_eq!((&found["examples"], &found["needles"]["examples"]), (&json!(count), &json!(count)));
        assert!(found["input_tokens"]["max"].as_u64().unwrap() <= 512);
        let within = found["needles"]["within"].as_array().unwrap();
        let share = |at: usize| within[at]["share"].as_f64().unwrap();
        assert_eq!(within.len(), 2);
        assert_eq!((within[0]["tokens"].as_u64(), within[1]["tokens"].as_u64()), (Some(256), Some(512)));
        // Places are even: half of them in the first half, give or take two and the question's tokens.
        assert!((share(0) - 0.5).abs() <= 2.0 / count as f64 + 0.04, "{}", share(0));
        assert_eq!(share(1), 1.0);
        // So few of 65,536 owners are all different.
        assert_eq!(found["needles"]["most_frequent_answer"].as_f64(), Some(1.0 / count as f64));
    }
    let text = stats(&to, &["--tokenizer", tokenizer]).out;
    assert!(text.contains("100.0 % of the answers stand in the first 512 tokens"), "{text}");

    synth(&to, &sizes).fails(74, &["train.jsonl", "--overwrite"]);
    synth(&to, &format!("{sizes} --overwrite --seed 43")).succeeds();
    assert!(files().zip(&made).all(|(new, old)| new != *old));
    synth(&to, &format!("{sizes} --overwrite --seed 42")).succeeds();
    assert!(files().eq(made));
}

#[test]
fn datasets_that_cannot_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("made");
    for (flags, said) in [
        ("", "--length"),
        ("--length 0", "--length"),
        ("--length -5", "--length"),
        ("--length 10", "too short"),
        ("--length 99999999999999999999", "--length"),
        ("--length 200 --facts 0", "--facts"),
        ("--length 200 --facts 17", "--facts"),
        ("--length 200 --train 0", "--train"),
        ("--length 200 --train 1e3", "--train"),
        ("--length 200 --task both", "--task"),
    ] {
        let done = synth(&to, flags);
        assert_eq!(done.code, Some(2), "{flags}: {}", done.err);
        assert!(done.err.contains(said), "{flags}: {}", done.err);
        assert!(!to.exists(), "{flags}");
    }
    synth(&to, "--length 200 --tokenizer no-such-model").fails(66, &["no-such-model"]);
    std::fs::write(&to, "a file").unwrap();
    synth(&to, "--length 200").fails(74, &["made"]);
}

#[test]
fn the_embedded_needles_tell_where_their_answers_stand() {
    let report = stats(Path::new("needle-qa"), &["--json"]).json();
    let validation = &report["splits"].as_array().unwrap()[1];
    assert_eq!(
        (&validation["split"], &validation["needles"]["examples"]),
        (&json!("validation"), &json!(128))
    );
    assert_eq!(validation["needles"]["within"], json!([]));
    assert!(stats(Path::new("qmsum-slice"), &["--json"]).json()["splits"][0].get("needles").is_none());
}
