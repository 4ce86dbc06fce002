//! A LED with PRIMERA's token between documents, from its files on the hub to its scores, against transformers, which
//! fine-tuned and scored it for `tests/goldens/primera`.

use super::finetune::lines;
use super::interop::{self, Saved};
use super::scalar::assert_near;
use super::{Ran, command, model, ran};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use wattention::text::Tokenizer;
use wattention::weights::{Named, Values, read_file, write_file};

fn golden() -> PathBuf {
    model("primera")
}

fn expected() -> Value {
    serde_json::from_str(&fs::read_to_string(golden().join("expected.json")).unwrap()).unwrap()
}

/// The model as it would lie on the hub: the separator stands in added_tokens.json alone.
fn primera(dir: &Path) -> PathBuf {
    let folder = dir.join("primera");
    fs::create_dir(&folder).unwrap();
    for (from, names) in [
        (
            golden().join("model"),
            &["config.json", "model.safetensors", "generation_config.json", "added_tokens.json"][..],
        ),
        (
            model("hub_tokenizers/led"),
            &["vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"],
        ),
    ] {
        for name in names {
            fs::copy(from.join(name), folder.join(name)).unwrap();
        }
    }
    folder
}

fn lengths(all: &Value) -> String {
    let [source, target] = ["source", "target"].map(|side| all["lengths"][side].as_u64().unwrap());
    format!("--max-source-length {source} --max-target-length {target} --device cpu --json")
}

fn evaluate(folder: &Path, all: &Value, predictions: &Path, flags: &str) -> Ran {
    let mut line = command();
    line.arg("evaluate").arg("--model").arg(folder).arg("--dataset").arg(golden());
    line.args(lengths(all).split_whitespace()).arg("--predictions-output").arg(predictions);
    ran(line.args(flags.split_whitespace()))
}

/// The scores and predictions of `report` are those that transformers and rouge_score have.
fn assert_scored(report: &Value, want: &Value, prefix: &str, predictions: &Path) {
    let said: Vec<Value> = lines(predictions).iter().map(|line| line["prediction"].clone()).collect();
    assert_eq!(json!(said), want["predictions"]);
    for rouge in ["rouge1", "rouge2", "rougeL"] {
        let got = report[format!("{prefix}{rouge}")].as_f64().unwrap();
        // Results have four decimals.
        assert!((got - want[rouge].as_f64().unwrap()).abs() <= 5.1e-5, "{rouge}: {got}, not {}", want[rouge]);
    }
    assert_near(report["eval_loss"].as_f64().unwrap(), want["eval_loss"].as_f64().unwrap(), 1e-5);
}

/// Rows of unequal lengths, filled up on the right, with the mask of what is there and that of global tokens.
fn batch(rows: &[Value]) -> [Vec<i64>; 3] {
    let of = |row: &Value, key: &str| -> Vec<i64> { serde_json::from_value(row[key].clone()).unwrap() };
    let longest = rows.iter().map(|row| of(row, "ids").len()).max().unwrap();
    let mut batch = [Vec::new(), Vec::new(), Vec::new()];
    for row in rows {
        let (ids, global) = (of(row, "ids"), of(row, "global"));
        for at in 0..longest {
            batch[0].push(ids.get(at).copied().unwrap_or(1));
            batch[1].push((at < ids.len()) as i64);
            batch[2].push(global.contains(&(at as i64)) as i64);
        }
    }
    batch
}

/// The sequences that the folder generates for the validation split, from tokens.
fn sequences(folder: &Path, all: &Value, dir: &Path) -> [PathBuf; 2] {
    let rows = all["validation"].as_array().unwrap();
    let [ids, mask, global] = batch(rows);
    let shape = [rows.len(), ids.len() / rows.len()];
    let named = |name, values| Named { name, shape: &shape, values: Values::I64(values) };
    let [inputs, output] = ["inputs.safetensors", "sequences.safetensors"].map(|name| dir.join(name));
    let tensors =
        [named("input_ids", &ids), named("attention_mask", &mask), named("global_attention_mask", &global)];
    write_file(&inputs, &tensors).unwrap();
    let mut line = command();
    line.args(["generate", "--device", "cpu", "--model"]).arg(folder).arg("--inputs").arg(&inputs);
    ran(line.arg("--output").arg(&output)).succeeds();
    [inputs, output]
}

/// The run that fine-tunes `folder` as transformers did for the golden.
fn tuned(folder: &Path, all: &Value, run: &Path) -> Ran {
    let flags = format!(
        "{} --per-device-train-batch-size 4 --lr-scheduler-type constant --learning-rate {} --max-steps {}",
        lengths(all),
        all["learning_rate"],
        all["tuned"]["train_losses"].as_array().unwrap().len()
    );
    let mut line = command();
    line.arg("finetune").arg("--model").arg(folder).arg("--dataset").arg(golden());
    ran(line.args(flags.split_whitespace()).arg("--output-dir").arg(run))
}

/// The inputs of both splits, and what they are in tokens.
fn inputs(all: &Value) -> Vec<(String, Value)> {
    let of = |split: &str| {
        let records = lines(&golden().join(format!("{split}.jsonl")));
        let texts = records.into_iter().map(|record| record["input"].as_str().unwrap().to_string());
        texts.zip(all[split].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    [of("train"), of("validation")].concat()
}

#[test]
fn a_primera_is_read_and_scored_as_transformers_does() {
    let (all, dir) = (expected(), tempfile::tempdir().unwrap());
    let folder = primera(dir.path());
    let predictions = dir.path().join("predictions.jsonl");
    let done = evaluate(&folder, &all, &predictions, "");
    let report = done.json();
    assert_scored(&json!(report), &all["before"], "", &predictions);
    assert_eq!(report["global_attention"], "tokens:<doc-sep>", "by default");
    let rows = all["validation"].as_array().unwrap();
    let whole: u64 = rows.iter().map(|row| row["tokens"].as_u64().unwrap()).sum();
    let read: usize = rows.iter().map(|row| row["ids"].as_array().unwrap().len()).sum();
    assert_eq!((&report["cut"]["tokens"], &report["cut"]["tokens_read"]), (&json!(whole), &json!(read)));
    assert_eq!(report["cut"]["documents_cut"], 1);
    assert!(done.err.contains("1 of 3 documents cut"), "{}", done.err);
    let first = evaluate(&folder, &all, &dir.path().join("first.jsonl"), "--global-attention first").json();
    assert_ne!(first["eval_loss"], report["eval_loss"]);
}

#[test]
fn a_primera_is_fine_tuned_as_transformers_does_and_what_is_saved_is_the_same() {
    let (all, dir) = (expected(), tempfile::tempdir().unwrap());
    let run = dir.path().join("run");
    let report = tuned(&primera(dir.path()), &all, &run).json();
    assert_eq!(report["global_attention"], "tokens:<doc-sep>");
    let metrics = lines(&run.join("metrics.jsonl"));
    let steps: Vec<f64> = metrics.iter().filter_map(|line| line.get("loss")?.as_f64()).collect();
    let losses: Vec<f64> = serde_json::from_value(all["tuned"]["train_losses"].clone()).unwrap();
    assert_eq!(steps.len(), losses.len());
    for (got, want) in steps.iter().zip(&losses) {
        assert_near(*got, *want, 1e-5);
    }
    assert_scored(&report["eval"], &all["tuned"], "eval_", &run.join("predictions.jsonl"));

    // The saved folder alone.
    let model = run.join("model");
    let predictions = dir.path().join("predictions.jsonl");
    let evaluated = evaluate(&model, &all, &predictions, "").json();
    assert_scored(&json!(evaluated), &all["tuned"], "", &predictions);
    let [_, output] = sequences(&model, &all, dir.path());
    let want: Vec<Vec<i64>> = serde_json::from_value(all["tuned"]["sequences"].clone()).unwrap();
    let found = read_file(&output).unwrap();
    assert_eq!(found.shape("sequences").unwrap(), [want.len(), want[0].len()]);
    assert_eq!(found.i64("sequences").unwrap(), want.concat());
    let tokenizer = Tokenizer::load(&model).unwrap();
    let most = all["lengths"]["source"].as_u64().unwrap() as usize;
    for (text, row) in inputs(&all) {
        assert_eq!(json!(tokenizer.encode(&text, most).unwrap()), row["ids"], "{text}");
    }
}

#[test]
fn transformers_takes_a_fine_tuned_primera() {
    let Some(python) = interop::python() else { return };
    let (all, dir) = (expected(), tempfile::tempdir().unwrap());
    let run = dir.path().join("run");
    tuned(&primera(dir.path()), &all, &run).succeeds();
    let model = run.join("model");
    let batch = Some(sequences(&model, &all, dir.path()));
    let tokenizer = Tokenizer::load(&model).unwrap();
    let ids = |(text, _): (String, Value)| json!([text, tokenizer.encode(&text, usize::MAX).unwrap()]);
    let texts = dir.path().join("texts.json");
    fs::write(&texts, json!(inputs(&all).into_iter().map(ids).collect::<Vec<_>>()).to_string()).unwrap();
    interop::check(&python, &[Saved { model, batch, texts: Some(texts) }]);
}
