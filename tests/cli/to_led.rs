//! `convert --to led`: a folder like any other, and every refusal by its code.

use super::{Ran, command, model, names_in, ran};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use wattention::data::Split;
use wattention::data::reach::tokens_needed;
use wattention::text::Tokenizer;

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
fn a_bart_asked_for_more_than_its_positions_names_the_conversion() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("long.txt");
    fs::write(&text, "The committee met. ".repeat(2000)).unwrap();
    for line in [
        "finetune --model tiny-bart --dataset needle-qa --max-source-length 2048 --output-dir RUN",
        "evaluate --model tiny-bart --dataset needle-qa --max-source-length 2048",
        "generate --model tiny-bart --max-source-length 2048 --input TEXT",
        "plan --model tiny-bart --max-source-length 2048",
    ] {
        let words = line.split_whitespace().map(|word| match word {
            "RUN" => dir.path().join("run").display().to_string(),
            "TEXT" => text.display().to_string(),
            word => word.to_string(),
        });
        ran(command().args(words).args(["--device", "cpu"])).fails(2, &["1024", "convert --to led"]);
    }
    assert_eq!(names_in(dir.path()), ["long.txt"], "a refused run leaves nothing");
    let config = super::study::TINY.replace("'tiny-led'", "'tiny-bart'").replace("[64, 128]", "[2048]");
    let refused = ran(&mut super::study::study(dir.path(), &config, ""));
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("convert --to led"), "{}", refused.err);
}

/// The share of the facts of the first `count` questions that stand within so many tokens.
fn share_within(count: usize, length: usize) -> f64 {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-bart");
    let mut records = Vec::new();
    let dataset = wattention::data::open("needle-qa").unwrap();
    dataset
        .visit(Split::Validation, &mut |record| {
            records.push(record);
            Ok(())
        })
        .unwrap();
    let needed = tokens_needed(&Tokenizer::load(&weights).unwrap(), &records[..count]).unwrap();
    needed.iter().filter(|needed| needed[0] <= length).count() as f64 / count as f64
}

#[test]
fn fine_tuned_on_longer_inputs_the_led_answers_what_the_bart_cannot_read() {
    let dir = tempfile::tempdir().unwrap();
    let led = dir.path().join("led");
    let mut line = command();
    line.args(["convert", "--model", "tiny-bart", "--to", "led", "--max-positions", "4096"]);
    ran(line.args(["--attention-window", "64", "--output-dir"]).arg(&led)).succeeds();
    // Eight steps of two documents, as in the quick study.
    let config = format!(
        "models = ['{}']\nbaselines = ['tiny-bart']\ndatasets = ['needle-qa']\nmax_source_lengths = [4096]\n",
        led.display()
    );
    let report = ran(&mut super::study::study(dir.path(), &config, "--json")).json();
    let cells = report["cells"].as_array().unwrap();
    let found: Vec<(&str, u64, f64)> = cells
        .iter()
        .map(|cell| {
            let length = cell["max_source_length"].as_u64().unwrap();
            (cell["family"].as_str().unwrap(), length, cell["f1"]["value"].as_f64().unwrap())
        })
        .collect();
    let [("bart", 1024, bart), ("led", 4096, led)] = found[..] else { panic!("{found:?}") };
    // A quarter of the facts stand where the BART sees them: it answers nearly all of those, and nobody guesses the rest.
    let (seen, beyond) = (100.0 * share_within(48, 1024), 100.0 * (1.0 - share_within(48, 1024)));
    assert!((20.0..=30.0).contains(&seen) && (bart - seen).abs() < 6.0, "{bart} of {seen}");
    assert!(share_within(48, 4096) > 0.95);
    // What it cannot read is all that the LED can gain, and so few steps teach it the most of that.
    assert!(led - bart <= beyond && led - bart > 0.6 * beyond, "{bart} and {led}, {beyond} beyond");
    let page = fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    assert!(page.contains("long input bought"), "the intervals are apart");
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
