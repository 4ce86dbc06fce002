//! `convert --to led`: a folder like any other, and every refusal by its code.

use super::{Ran, command, model, names_in, ran};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn convert(name: &str, to: &Path, flags: &str) -> Ran {
    let mut line = command();
    line.arg("convert").arg("--model").arg(model(name)).arg("--output-dir").arg(to);
    ran(line.args(flags.split_whitespace()))
}

#[test]
fn a_bart_becomes_a_led_that_reads_longer_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("led");
    convert("bart_plain", &to, "--to led --max-positions 150 --attention-window 8 --json").succeeds();
    assert_eq!(names_in(&to), ["config.json", "generation_config.json", "model.safetensors"]);
    assert_eq!(names_in(dir.path()), ["led"], "nothing is left beside it");
    let config: Value = serde_json::from_str(&fs::read_to_string(to.join("config.json")).unwrap()).unwrap();
    for (key, value) in [
        ("model_type", json!("led")),
        ("architectures", json!(["LEDForConditionalGeneration"])),
        ("max_encoder_position_embeddings", json!(150)),
        ("max_decoder_position_embeddings", json!(64)),
        ("attention_window", json!([8, 8])),
        ("max_position_embeddings", Value::Null),
        ("d_model", json!(32)),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    let generation = |dir: &Path| fs::read_to_string(dir.join("generation_config.json")).unwrap();
    assert_eq!(generation(&to), generation(&model("bart_plain")));

    // Its inputs are the BART's, of which the LED computes something.
    let inputs = model("bart_plain").join("inputs.safetensors");
    let mut line = command();
    line.args(["forward", "--device", "cpu", "--model"]).arg(&to).arg("--inputs").arg(inputs);
    ran(line.arg("--output").arg(dir.path().join("y"))).succeeds();
}

#[test]
fn what_cannot_be_converted_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("new");
    for (name, flags, code, parts) in [
        ("pegasus_plain", "--to led", 65, &["Pegasus"][..]),
        ("mbart_plain", "--to led", 65, &["mBART"]),
        ("bart_scaled", "--to led", 65, &["scale_embedding"]),
        ("bart_plain", "--to led --max-positions 63", 2, &["64"]),
        ("bart_plain", "--to led --attention-window 7", 65, &["attention_window is 7"]),
        ("bart_plain", "--to bart", 2, &["--to", "led"]),
        ("bart_plain", "--max-positions 128", 2, &["--to"]),
    ] {
        convert(name, &to, flags).fails(code, parts);
        assert!(names_in(dir.path()).is_empty(), "{name} {flags}");
    }
    fs::create_dir(&to).unwrap();
    fs::write(to.join("mine.txt"), "x").unwrap();
    convert("bart_plain", &to, "--to led").fails(74, &["not empty"]);
    assert_eq!(names_in(&to), ["mine.txt"]);
}
