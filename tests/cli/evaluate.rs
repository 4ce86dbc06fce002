//! `evaluate`: scores that follow from the predictions it writes, under both protocols.

use super::finetune::{finetune, talkative};
use super::scalar::assert_near;
use super::{Ran, command, names_in, ran};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use wattention::metrics::{Protocol, score};

const SHORT: &str = "--max-source-length 128 --max-target-length 24 --max-new-tokens 10";

/// `evaluate` of a model that babbles.
fn evaluate(flags: &str, output: Option<&Path>) -> Ran {
    evaluate_model(talkative().path(), flags, output)
}

fn evaluate_model(model: &Path, flags: &str, output: Option<&Path>) -> Ran {
    let mut command = command();
    command.args(["evaluate", "--device", "cpu", "--model"]).arg(model);
    command.args(SHORT.split_whitespace()).args(flags.split_whitespace());
    if let Some(output) = output {
        command.arg("--predictions-output").arg(output);
    }
    ran(&mut command)
}

fn predictions(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn record(id: &str, input: &str, output: &str) -> String {
    serde_json::json!({"id": id, "pid": id, "input": input, "output": output}).to_string() + "\n"
}

#[test]
fn scores_are_the_means_over_the_predictions_written() {
    // A model that knows one answer by heart, asked for it and for another.
    let dir = tempfile::tempdir().unwrap();
    let known = record("a", "What did they decide?", "The group will build a remote control.");
    fs::write(dir.path().join("train.jsonl"), &known).unwrap();
    let other = record("b", "What did they decide?", "zebra quagga");
    fs::write(dir.path().join("validation.jsonl"), known + &other).unwrap();
    let dataset = format!("--dataset {}", dir.path().display());
    let training = "--max-steps 100 --learning-rate 1e-2 --lr-scheduler-type constant --no-predict";
    finetune(dir.path(), &format!("{dataset} {training}")).succeeds();

    for (name, protocol) in [("scrolls", Protocol::Scrolls), ("paper", Protocol::Paper)] {
        let output = dir.path().join("predictions.jsonl");
        let flags = format!("{dataset} --batch-size 2 --protocol {name} --json");
        let report = evaluate_model(&dir.path().join("run/model"), &flags, Some(&output)).json();
        let lines = predictions(&output);
        let ids: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["a", "b"]);
        let mut sum = 0.0;
        for line in &lines {
            let references = [line["references"][0].as_str().unwrap()];
            let prediction = line["prediction"].as_str().unwrap();
            sum += score(protocol, prediction, &references).unwrap().rouge1;
        }
        let rouge1 = report["rouge1"].as_f64().unwrap();
        assert!((rouge1 - sum / 2.0).abs() <= 1e-4, "{name}: {rouge1} is not the mean");
        assert!((25.0..=50.0).contains(&rouge1), "{name}: {rouge1} of {lines:?}");
        assert_eq!((&report["examples"], &report["headline"]), (&2.into(), &"geometric_mean".into()));
        let loss = report["eval_loss"].as_f64().unwrap();
        assert!(loss > 0.0 && loss.is_finite());
    }
}

#[test]
fn references_of_one_id_are_grouped_as_the_protocol_says() {
    let dir = tempfile::tempdir().unwrap();
    let text = record("a", "Some words.", "one answer") + &record("a", "Some words.", "another");
    fs::write(dir.path().join("validation.jsonl"), text).unwrap();
    let dataset = format!("--json --dataset {}", dir.path().display());
    let examples = |protocol: &str| {
        evaluate(&format!("{dataset} --protocol {protocol}"), None).json()["examples"].clone()
    };
    assert_eq!(examples("scrolls"), 1);
    assert_eq!(examples("paper"), 2);
}

#[test]
fn batches_of_any_size_have_the_same_loss() {
    let loss = |batch: usize| {
        let flags =
            format!("--dataset qmsum-slice --max-samples 5 --protocol paper --json --batch-size {batch}");
        evaluate(&flags, None).json()["eval_loss"].as_f64().unwrap()
    };
    let (one, four) = (loss(1), loss(4));
    assert_near(four, one, 1e-5);
}

#[test]
fn people_get_a_table() {
    let done = evaluate("--dataset qmsum-slice --max-samples 1", None);
    done.succeeds();
    for part in ["1 example of qmsum-slice (validation)", "ROUGE-L", "geometric mean", "F1", "loss"] {
        assert!(done.out.contains(part), "{} lacks {part}", done.out);
    }
}

#[test]
fn splits_that_cannot_be_scored() {
    evaluate("--dataset qmsum-slice --split test", None).fails(66, &["test split"]);
    let dir = tempfile::tempdir().unwrap();
    let line = r#"{"id": "a", "pid": "a", "input": "x", "output": null}"#;
    fs::write(dir.path().join("test.jsonl"), line).unwrap();
    let flags = format!("--split test --dataset {}", dir.path().display());
    let output = dir.path().join("predictions.jsonl");
    evaluate(&flags, Some(&output)).fails(65, &["no answers", "--submission"]);
    assert_eq!(names_in(dir.path()), ["test.jsonl"]);
    evaluate("--dataset no-such-data", None).fails(66, &["no-such-data"]);
    assert_eq!(evaluate("--dataset qmsum-slice --batch-size 0", None).code, Some(2));
    assert_eq!(evaluate("--dataset qmsum-slice --protocol rouge", None).code, Some(2));
}

#[test]
fn a_run_that_is_killed_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let model = talkative();
    let evaluation = |output: &Path, more: &[&str]| {
        let mut command = command();
        command.args(["evaluate", "--device", "cpu", "--model"]).arg(model.path());
        command
            .args("--dataset qmsum-slice --max-samples 24 --batch-size 1 --max-source-length 128".split(' '));
        command.args("--max-target-length 24 --max-new-tokens 60 --num-beams 4".split(' '));
        command.args(more).arg("--predictions-output").arg(output);
        command
    };
    let (whole, stopped) = (dir.path().join("whole.jsonl"), dir.path().join("stopped.jsonl"));
    ran(&mut evaluation(&whole, &[])).succeeds();

    let part = dir.path().join("stopped.jsonl.part");
    let mut child = evaluation(&stopped, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let lines = || fs::read_to_string(&part).map_or(0, |text| text.lines().count());
    while lines() < 3 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!stopped.exists() && lines() >= 3, "it was not stopped half-way");

    ran(&mut evaluation(&stopped, &["--no-repeat-ngram-size", "2"]))
        .fails(2, &["stopped.jsonl.part", "delete it"]);
    let done = ran(&mut evaluation(&stopped, &[]));
    done.succeeds();
    assert!(done.err.contains("predictions are there"), "{}", done.err);
    assert_eq!(predictions(&stopped), predictions(&whole));
    assert_eq!(names_in(dir.path()), ["stopped.jsonl", "whole.jsonl"]);
}

#[test]
fn submissions_have_the_form_of_scrolls() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        record("a", "Some words.", "one") + &record("a", "Some words.", "two") + &record("b", "Others.", "x");
    fs::write(dir.path().join("validation.jsonl"), text).unwrap();
    let test = |id: &str| {
        format!("{{\"id\": \"{id}\", \"pid\": \"{id}\", \"input\": \"Words.\", \"output\": null}}\n")
    };
    fs::write(dir.path().join("test.jsonl"), test("c") + &test("d")).unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let dataset = format!("--dataset {} --json", dir.path().display());

    let json = format!("{dataset} --submission {}", at("s.json"));
    evaluate(&json, None).succeeds();
    let all: Value = serde_json::from_str(&fs::read_to_string(at("s.json")).unwrap()).unwrap();
    let ids: Vec<&String> = all.as_object().unwrap().keys().collect();
    assert_eq!(ids, ["a", "b"], "one prediction for each id");
    assert!(all["a"].as_str().is_some_and(|text| !text.is_empty()));

    // A test split has no answers to score against.
    let csv = format!("{dataset} --split test --submission {}", at("s.csv"));
    let report = evaluate(&csv, None).json();
    assert_eq!((&report["examples"], report.get("rouge1")), (&2.into(), None));
    let text = fs::read_to_string(at("s.csv")).unwrap();
    assert!(text.starts_with("ID,Task,Prediction\nc,"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("d,")), "{text}");

    evaluate(&format!("{dataset} --submission {}", at("s.txt")), None).fails(2, &["s.txt", ".json or .csv"]);
    let paper = format!("{dataset} --protocol paper --submission {}", at("t.json"));
    evaluate(&paper, None).fails(2, &["--submission", "scrolls"]);
}
