//! Learning by heart: a model that is trained on a few real examples gives them back, under both protocols.

use super::{command, ran};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use wattention::data::{self, Example, Split};
use wattention::metrics::Protocol;

/// The examples of the embedded meetings with the shortest answers, as a dataset to train on and to be asked about.
fn write_examples(dir: &Path, how_many: usize, words: usize) {
    let meetings = data::open("qmsum-slice").unwrap();
    let mut examples = meetings.examples(Split::Train, Protocol::Paper).unwrap();
    examples.sort_by_key(|example| example.references[0].len());
    let line = |example: &Example| {
        let answer: Vec<&str> = example.references[0].split_whitespace().take(words).collect();
        json!({"id": example.id, "pid": example.pid, "input": example.input, "output": answer.join(" ")})
            .to_string()
    };
    let lines: Vec<String> = examples.iter().take(how_many).map(line).collect();
    for name in ["train.jsonl", "validation.jsonl"] {
        fs::write(dir.join(name), lines.join("\n") + "\n").unwrap();
    }
}

/// A fresh model of the embedded `family` with other values for some keys, and its tokenizer.
fn write_model(dir: &Path, family: &str, changes: &Value) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights").join(family);
    fs::copy(from.join("tokenizer.json"), dir.join("tokenizer.json")).unwrap();
    let text = fs::read_to_string(from.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

/// Trains, then asks for what was trained on, one example at a time: pads of a batch are scored by the paper.
fn learns_by_heart(dir: &Path, device: &str, lengths: &str, training: &str) {
    let run = dir.join("run");
    let words = |command: &mut std::process::Command, flags: &str| {
        command.args(flags.split_whitespace()).args(lengths.split_whitespace()).arg("--dataset").arg(dir);
    };
    let mut finetune = command();
    finetune.args(["finetune", "--device", device, "--no-predict", "--config-name"]).arg(dir);
    finetune.arg("--output-dir").arg(&run);
    words(&mut finetune, training);
    ran(&mut finetune).succeeds();
    for protocol in ["scrolls", "paper"] {
        let mut evaluate = command();
        evaluate.args(["evaluate", "--device", device, "--json", "--protocol", protocol, "--model"]);
        evaluate.arg(run.join("model"));
        words(&mut evaluate, "--batch-size 1");
        let report = ran(&mut evaluate).json();
        for metric in ["rouge1", "rouge2", "rougeL"] {
            let score = report[metric].as_f64().unwrap();
            assert!(score >= 95.0, "{protocol}: {metric} is {score}");
        }
    }
}

#[test]
fn eight_real_examples_are_learnt_by_heart_on_the_cpu() {
    for family in ["tiny-led", "tiny-bigbird-pegasus"] {
        let dir = tempfile::tempdir().unwrap();
        write_examples(dir.path(), 8, usize::MAX);
        write_model(dir.path(), family, &json!({"init_std": 0.1, "dropout": 0.0}));
        let training =
            "--per-device-train-batch-size 8 --max-steps 160 --learning-rate 3e-3 --warmup-ratio 0.1";
        let lengths = "--max-source-length 128 --max-target-length 64 --max-new-tokens 64";
        learns_by_heart(dir.path(), "cpu", lengths, training);
    }
}

#[test]
fn two_shorter_ones_are_learnt_by_heart_in_the_simulator() {
    if !cfg!(wattention_sim) {
        return println!("skipped: no simulator in this build");
    }
    let dir = tempfile::tempdir().unwrap();
    write_examples(dir.path(), 2, 6);
    let small = json!({
        "init_std": 0.15, "dropout": 0.0, "d_model": 32, "attention_window": [16],
        "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 32
    });
    write_model(dir.path(), "tiny-led", &small);
    let training = "--per-device-train-batch-size 2 --max-steps 40 --learning-rate 1e-2 --warmup-ratio 0.1";
    let lengths = "--max-source-length 32 --max-target-length 24 --max-new-tokens 24";
    learns_by_heart(dir.path(), "sim", lengths, training);
}
