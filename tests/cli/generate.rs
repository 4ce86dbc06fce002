//! `generate`: tokens as transformers gives them, texts in the order they came, and files that are whole or absent.

use super::finetune::talkative;
use super::{Ran, command, golden, model, names_in, ran};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

fn generate(dir: &Path, flags: &[&str]) -> Ran {
    ran(command().args(["generate", "--device", "cpu", "--model"]).arg(dir).args(flags))
}

/// `generate` with few tokens.
fn short(dir: &Path, flags: &[&str]) -> Ran {
    generate(dir, &[flags, &["--max-new-tokens", "6"]].concat())
}

#[test]
fn sequences_equal_transformers() {
    let dir = tempfile::tempdir().unwrap();
    for name in golden::cases() {
        let output = dir.path().join("y.safetensors");
        let inputs = model(&name).join("inputs.safetensors");
        let flags = ["--max-new-tokens", "12", "--inputs", inputs.to_str().unwrap()];
        let output_flag = ["--output", output.to_str().unwrap()];
        generate(&model(&name), &[&flags[..], &output_flag].concat()).succeeds();
        let expected = &golden::read(&model(&name).join("expected.safetensors"))["greedy_tokens"];
        let sequences = &golden::read(&output)["sequences"];
        assert_eq!(sequences.shape, expected.shape, "{name}");
        assert_eq!(sequences.integers(), expected.integers(), "{name}");
    }
    assert_eq!(names_in(dir.path()), ["y.safetensors"]);
}

const RECORDS: &str = concat!(
    r#"{"id": "q7", "pid": "q7_1", "input": "The committee met on Tuesday to talk about the budget.", "output": "x"}"#,
    "\n\n",
    r#"{"id": 12, "text": "Nobody knows."}"#,
    "\n",
    r#"{"text": "A remote control with two buttons was designed and then built."}"#,
    "\n",
);

#[test]
fn predictions_keep_names_and_order_wherever_they_go() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out.jsonl"));
    fs::write(&input, RECORDS).unwrap();
    let model = talkative();
    let from = ["--batch-size", "2", "--input", input.to_str().unwrap()];
    short(model.path(), &[&from[..], &["--output", output.to_str().unwrap()]].concat()).succeeds();
    assert_eq!(names_in(dir.path()), ["in.jsonl", "out.jsonl"]);
    let text = fs::read_to_string(&output).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["id"], &lines[0]["pid"]), (&Value::from("q7"), &Value::from("q7_1")));
    assert_eq!(lines[1]["id"], 12);
    assert_eq!(lines[2].as_object().unwrap().len(), 1, "a name was made up");
    let said: HashSet<&str> = lines.iter().map(|l| l["prediction"].as_str().unwrap()).collect();
    assert!(said.len() == 3 && !said.contains(""), "the model says too little: {said:?}");

    // The same on stdout, in one JSON object, and one by one: batching changes nothing.
    assert_eq!(short(model.path(), &from).succeeds().out, text);
    let one = ["--json", "--batch-size", "1", "--input", input.to_str().unwrap()];
    let report = short(model.path(), &one).json();
    assert_eq!(report["predictions"], Value::from(lines));
}

#[test]
fn the_report_says_which_tokens_were_global_and_what_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    fs::write(&input, RECORDS).unwrap();
    let model = talkative();
    let run = |flags: &[&str]| short(model.path(), &[&["--input", input.to_str().unwrap()], flags].concat());
    let whole = run(&["--json"]).json();
    assert_eq!(whole["global_attention"], "first", "auto, with a tokenizer that separates no documents");
    assert_eq!(whole["cut"]["documents_cut"], 0);
    assert_eq!(whole["cut"]["tokens_read"], whole["cut"]["tokens"]);
    let cut = run(&["--json", "--max-source-length", "8", "--global-attention", "every:2"]);
    let report = cut.json();
    assert_eq!(report["global_attention"], "every:2");
    assert_eq!(report["cut"]["documents"], 3);
    assert_eq!(report["cut"]["tokens"], whole["cut"]["tokens"]);
    // All but "Nobody knows." are longer than eight tokens.
    assert_eq!(report["cut"]["documents_cut"], 2);
    assert!(cut.err.contains("2 of 3 documents cut"), "{}", cut.err);
    assert_ne!(report["predictions"], whole["predictions"]);
    run(&["--global-attention", "tokens:<doc-sep>"]).fails(2, &["<doc-sep>"]);
    run(&["--global-attention", "every:0"]).fails(2, &["every:N"]);
}

#[test]
fn a_text_file_is_one_document_and_stdin_is_either() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.txt");
    let text = "Nobody knows.\nNot even now.\n";
    fs::write(&input, text).unwrap();
    let model = talkative();
    let from_file = short(model.path(), &["--input", input.to_str().unwrap()]);
    assert!(from_file.succeeds().out.trim().len() > 1);
    let piped = |text: &str| {
        let mut child = command()
            .args(["generate", "--max-new-tokens", "6"])
            .args(["--input", "-", "--model"])
            .arg(model.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    assert_eq!(piped(text), from_file.out);
    let line = serde_json::json!({ "text": text }).to_string();
    let answer: Value = serde_json::from_str(&piped(&line)).unwrap();
    assert_eq!(answer["prediction"], from_file.out.trim_end_matches('\n'));
}

#[test]
fn refusals_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    fs::write(at("bad.jsonl"), "{\"text\": \"fine\"}\n{\"text\": 3}\n").unwrap();
    fs::write(at("in.txt"), "fine").unwrap();
    fs::write(at("in.md"), "fine").unwrap();
    fs::write(at("latin.txt"), b"caf\xe9").unwrap();
    let before = names_in(dir.path());
    let model = talkative();
    let output = at("out.jsonl");
    for (flags, code, parts) in [
        (vec!["--input", &at("bad.jsonl")], 65, vec!["bad.jsonl:2", "string"]),
        (vec!["--input", &at("none.txt")], 66, vec!["none.txt"]),
        (vec!["--input", &at("in.md")], 2, vec!["in.md", ".jsonl"]),
        (vec!["--input", &at("latin.txt")], 65, vec!["UTF-8 at byte 3"]),
        (vec!["--input", &at("in.txt"), "--max-source-length", "129"], 2, vec!["128"]),
        (vec!["--input", &at("in.txt"), "--max-new-tokens", "65"], 2, vec!["64"]),
    ] {
        let flags: Vec<&str> = flags.iter().map(|f| f as &str).chain(["--output", &output]).collect();
        generate(model.path(), &flags).fails(code, &parts);
        assert_eq!(names_in(dir.path()), before, "{flags:?}");
    }
    let input = at("in.txt");
    let nowhere = at("nowhere/out.jsonl");
    short(model.path(), &["--input", &input, "--output", &nowhere]).fails(74, &["nowhere"]);
    short(model.path(), &["--input", &input, "--output", &input]).fails(2, &["overwritten"]);
    assert_eq!(generate(model.path(), &["--inputs", "x"]).code, Some(2));
    assert_eq!(generate(model.path(), &[]).code, Some(2));
}

#[test]
fn settings_of_decoding_are_flags_or_the_files_of_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.txt");
    fs::write(&input, "Nobody knows.").unwrap();
    let model = talkative();
    let input = ["--json", "--input", input.to_str().unwrap()];
    let decoding = |flags: &[&str]| generate(model.path(), &[&input, flags].concat()).json();
    let flags =
        ["--num-beams", "3", "--early-stopping", "never", "--length-penalty=-0.5", "--max-length", "7"];
    let report = decoding(&[&flags[..], &["--num-return-sequences", "2"]].concat());
    let (used, said) = (&report["decoding"], report["predictions"].as_array().unwrap());
    assert_eq!((&used["num_beams"], &used["early_stopping"]), (&3.into(), &"never".into()));
    assert_eq!((&used["length_penalty"], &used["max_new_tokens"]), (&(-0.5).into(), &6.into()));
    assert_eq!(said.len(), 2);

    let own = model.path().join("generation_config.json");
    fs::write(&own, r#"{"num_beams": 2, "early_stopping": true, "max_new_tokens": 5}"#).unwrap();
    assert_eq!(decoding(&[])["decoding"]["num_beams"], 2);
    assert_eq!(decoding(&["--num-beams", "1"])["decoding"]["early_stopping"], true);
    let drawn = |seed: &str| {
        decoding(&["--num-beams", "1", "--do-sample", "--temperature", "3", "--seed", seed])["predictions"]
            .clone()
    };
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));

    let refused = |flags: &[&str], parts: &[&str]| {
        generate(model.path(), &[&input, flags].concat()).fails(2, parts);
    };
    refused(&["--num-beams", "1", "--length-penalty", "2"], &["--length-penalty", "--num-beams"]);
    refused(&["--temperature", "0.5"], &["--temperature", "--do-sample"]);
    refused(&["--suppress-tokens", "100000"], &["--suppress-tokens is 100000", "vocabulary"]);
    refused(&["--top-p", "1.5", "--do-sample"], &["--top-p", "above 0 and at most 1"]);
    refused(&["--num-return-sequences", "3"], &["--num-return-sequences is 3"]);
    refused(&["--early-stopping", "always"], &["always", "true, false or never"]);
    refused(&["--max-length", "9", "--max-new-tokens", "9"], &["--max-length", "--max-new-tokens"]);
    fs::write(&own, r#"{"num_beams": "two"}"#).unwrap();
    generate(model.path(), &input).fails(65, &["generation_config.json", "num_beams"]);
}
