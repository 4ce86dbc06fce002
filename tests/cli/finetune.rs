//! `finetune`: what a run directory holds, that its model reloads, and what is refused before any work.

use super::scalar::assert_near;
use super::{Ran, command, configure, model, names_in, ran};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use wattention::device::Device;
use wattention::models;

/// The embedded tiny LED, whose tokenizer serves every model of 2048 tokens.
pub fn tiny_led() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led")
}

/// A model small enough to train in milliseconds.
pub const CONFIG: &str = r#"{"model_type": "led", "d_model": 16, "vocab_size": 2048, "init_std": 0.02,
"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
"encoder_attention_heads": 2, "decoder_attention_heads": 2, "attention_window": 16,
"max_encoder_position_embeddings": 128, "max_decoder_position_embeddings": 64,
"dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0, "activation_function": "gelu",
"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}"#;

pub const SMALL: &str = "--dataset qmsum-slice --max-train-samples 6 --max-eval-samples 2 \
    --per_device_train_batch_size=2 --max-source-length 64 --max-target-length 16 --max-new-tokens 8";

/// A model with the embedded tokenizer and weights so large that every input gets its own gibberish.
pub fn talkative() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.json");
    fs::write(&config, CONFIG.replace("0.02", "1.0")).unwrap();
    let random = models::random(&config, &Device::cpu(), Default::default(), 3).unwrap();
    random.save(dir.path()).unwrap();
    fs::copy(tiny_led().join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    dir
}

/// `finetune` of [`CONFIG`] in `dir/config.json`, into `dir/run`.
pub fn finetune(dir: &Path, flags: &str) -> Ran {
    let config = dir.join("config.json");
    fs::write(&config, CONFIG).unwrap();
    ran(command()
        .args(["finetune", "--device", "cpu", "--config-name"])
        .arg(config)
        .arg("--tokenizer")
        .arg(tiny_led())
        .arg("--output-dir")
        .arg(dir.join("run"))
        .args(flags.split_whitespace()))
}

fn small(dir: &Path, flags: &str) -> Ran {
    finetune(dir, &format!("{SMALL} {flags}"))
}

pub fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{} is cut off", path.display());
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn numbers(lines: &[Value], key: &str) -> Vec<f64> {
    lines.iter().filter_map(|line| line.get(key)?.as_f64()).collect()
}

#[test]
fn a_run_directory_is_complete_and_its_model_reloads() {
    let dir = tempfile::tempdir().unwrap();
    let done = small(dir.path(), "--max-steps 3 --eval-steps 2 --learning-rate 1e-3 --json");
    let report = done.json();
    let run = dir.path().join("run");
    assert_eq!(names_in(&run), ["config.json", "energy.json", "metrics.jsonl", "model", "predictions.jsonl"]);

    let metrics = lines(&run.join("metrics.jsonl"));
    assert_eq!(numbers(&metrics, "loss").len(), 3);
    assert_eq!(numbers(&metrics[..2], "learning_rate"), [1e-3, 1e-3 * 2.0 / 3.0]);
    assert!(numbers(&metrics, "grad_norm").iter().all(|&norm| norm > 0.0));
    // Steps 2 and 3, and once more with the scores.
    let eval_losses = numbers(&metrics, "eval_loss");
    assert_eq!(eval_losses.len(), 3);
    assert_eq!(eval_losses[1], eval_losses[2]);
    // 6 examples by 2 are an epoch of 3 steps.
    assert_eq!(numbers(&metrics, "epoch").last(), Some(&1.0));
    let mean = numbers(&metrics, "loss").iter().sum::<f64>() / 3.0;
    let train_loss = report["train"]["train_loss"].as_f64().unwrap();
    assert_near(train_loss, mean, 1e-6);

    let config: Value = serde_json::from_str(&fs::read_to_string(run.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["arguments"]["max_steps"], 3);
    assert_eq!(config["arguments"]["per_device_train_batch_size"], 2);
    assert_eq!(config["arguments"]["seed"], 42);
    assert_eq!(config["command"][1], "finetune");

    let bytes = |key: &str| report[key].as_u64().unwrap();
    let (used, planned) = (bytes("used_bytes"), bytes("planned_bytes"));
    assert!(used <= planned && used > planned / 2, "planned {planned}, used {used}");

    // The saved model, evaluated by itself, says what the run said.
    let again = dir.path().join("again.jsonl");
    let flags = "--dataset qmsum-slice --max-samples 2 --max-source-length 64 \
        --max-target-length 16 --max-new-tokens 8 --json";
    let evaluation = ran(command()
        .arg("evaluate")
        .arg("--model")
        .arg(run.join("model"))
        .arg("--predictions-output")
        .arg(&again)
        .args(flags.split_whitespace()))
    .json();
    let last = metrics.last().unwrap();
    assert_eq!(evaluation["eval_loss"], last["eval_loss"]);
    assert_eq!(evaluation["rougeL"], last["eval_rougeL"]);
    assert_eq!(evaluation["f1"], last["eval_f1"]);
    assert_eq!(numbers(&metrics, "eval_samples"), [2.0]);
    assert_eq!(fs::read(&again).unwrap(), fs::read(run.join("predictions.jsonl")).unwrap());
}

#[test]
fn the_same_seed_gives_the_same_files_and_another_seed_others() {
    let model = |seed: u64| {
        let dir = tempfile::tempdir().unwrap();
        small(dir.path(), &format!("--max-steps 2 --no-predict --seed {seed}")).succeeds();
        let run = dir.path().join("run");
        assert_eq!(names_in(&run), ["config.json", "energy.json", "metrics.jsonl", "model"]);
        let losses = numbers(&lines(&run.join("metrics.jsonl")), "loss");
        (losses, fs::read(run.join("model/model.safetensors")).unwrap())
    };
    let first = model(1);
    assert!(first == model(1), "two runs of one seed differ");
    assert!(first.0 != model(2).0, "the seed changes nothing");
}

#[test]
fn training_learns_one_example_by_heart() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--dataset qmsum-slice --max-train-samples 1 --max-eval-samples 1 --no-predict \
        --max-source-length 32 --max-target-length 16 --max-steps 60 --learning-rate 1e-2 --lr-scheduler-type constant";
    finetune(dir.path(), flags).succeeds();
    let losses = numbers(&lines(&dir.path().join("run/metrics.jsonl")), "loss");
    let (first, last) = (losses[0], *losses.last().unwrap());
    assert!((first - 2048f64.ln()).abs() < 0.5, "a fresh model starts at ln V, not {first}");
    assert!(last < 1.0, "the loss only fell from {first} to {last}");
}

#[test]
fn a_run_directory_is_not_overwritten_unless_asked() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("predictions.jsonl"), "old").unwrap();
    fs::write(run.join("mine.txt"), "mine").unwrap();
    let refused = small(dir.path(), "--max-steps 1");
    refused.fails(74, &["not empty", "--overwrite-output-dir"]);
    assert_eq!(names_in(&run), ["mine.txt", "predictions.jsonl"]);
    small(dir.path(), "--max-steps 1 --no-predict --overwrite-output-dir").succeeds();
    // What the earlier run said is gone; what no run wrote is not.
    assert_eq!(names_in(&run), ["config.json", "energy.json", "metrics.jsonl", "mine.txt", "model"]);
}

#[test]
fn a_saved_folder_says_what_it_holds_and_not_what_its_base_held() {
    let base = talkative();
    for (key, value) in [
        ("dtype", "\"float16\""),
        ("torch_dtype", "\"float16\""),
        ("architectures", "[\"LEDModel\"]"),
        ("transformers_version", "\"4.2.0\""),
        ("_name_or_path", "\"/home/me/led\""),
        ("of_its_own", "[1, 2]"),
    ] {
        configure(base.path(), key, value);
    }
    let dir = tempfile::tempdir().unwrap();
    let flags = format!("finetune {SMALL} --device cpu --no-predict --max-steps 1 --save-steps 1");
    ran(command()
        .args(flags.split_whitespace())
        .arg("--model")
        .arg(base.path())
        .arg("--output-dir")
        .arg(dir.path().join("run")))
    .succeeds();
    for folder in ["model", "checkpoint-1"] {
        let path = dir.path().join("run").join(folder).join("config.json");
        let config: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        // What the weights' file has, by its own header, and what loads them.
        assert_eq!(config["dtype"], "float32", "{folder}");
        assert_eq!(config["architectures"], serde_json::json!(["LEDForConditionalGeneration"]), "{folder}");
        for key in ["torch_dtype", "transformers_version", "_name_or_path"] {
            assert_eq!(config.get(key), None, "{folder}: {key}");
        }
        assert_eq!((&config["d_model"], &config["of_its_own"]), (&16.into(), &serde_json::json!([1, 2])));
        let weights = fs::read(dir.path().join("run").join(folder).join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&weights).unwrap();
        assert!(tensors.tensors().iter().all(|(_, tensor)| tensor.dtype() == safetensors::Dtype::F32));
    }
}

#[test]
fn a_run_scores_as_its_model_generates_and_so_does_what_it_saves() {
    let base = talkative();
    let own = r#"{"num_beams": 2, "no_repeat_ngram_size": 2, "max_length": 9, "min_length": 5, "length_penalty": 0.5,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 2, "transformers_version": "4.2.0"}"#;
    fs::write(base.path().join("generation_config.json"), own).unwrap();
    let data = "--dataset qmsum-slice --max-source-length 64 --max-target-length 16 --device cpu";
    let tuned = |run: &Path, flags: &str| {
        let flags = format!(
            "finetune {data} --max-train-samples 2 --max-eval-samples 2 --max-steps 1 --learning-rate 1e-5 {flags}"
        );
        ran(command()
            .args(flags.split_whitespace())
            .arg("--model")
            .arg(base.path())
            .arg("--output-dir")
            .arg(run))
        .succeeds();
        fs::read(run.join("predictions.jsonl")).unwrap()
    };
    let scored = |run: &Path, flags: &str| {
        let predictions = run.with_extension("jsonl");
        let flags = format!("evaluate {data} --max-samples 2 --json {flags}");
        let report = ran(command()
            .args(flags.split_whitespace())
            .arg("--model")
            .arg(run.join("model"))
            .arg("--predictions-output")
            .arg(&predictions))
        .json();
        (fs::read(predictions).unwrap(), report)
    };
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let predictions = tuned(&run, "");
    let (again, report) = scored(&run, "");
    assert!(predictions == again, "finetune and evaluate generate otherwise");
    for (key, value) in
        [("num_beams", 2), ("no_repeat_ngram_size", 2), ("max_new_tokens", 8), ("min_new_tokens", 4)]
    {
        assert_eq!(report["decoding"][key], value, "{key}");
    }
    assert!(scored(&run, "--num-beams 1 --ignore-settings length_penalty").0 != predictions);
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(run.join("model/generation_config.json")).unwrap()).unwrap();
    let want = serde_json::json!({
        "bos_token_id": 0, "max_new_tokens": 8, "eos_token_id": [2], "pad_token_id": 1, "decoder_start_token_id": 2,
        "min_new_tokens": 4, "num_beams": 2, "length_penalty": 0.5, "no_repeat_ngram_size": 2,
    });
    assert_eq!(saved, want);
    // What a flag says is what the run scored with, and so what its model says.
    let greedy = dir.path().join("greedy");
    let predictions = tuned(&greedy, "--num-beams 1 --min-new-tokens 0 --no-repeat-ngram-size 0");
    assert!(predictions == scored(&greedy, "").0);
}

#[test]
fn refusals_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (name, text) in [("train.jsonl", ""), ("validation.jsonl", "")] {
        fs::write(empty.join(name), text).unwrap();
    }
    let only_validation = dir.path().join("only-validation");
    fs::create_dir(&only_validation).unwrap();
    let line = r#"{"id": "a", "pid": "a", "input": "x", "output": "y"}"#;
    fs::write(only_validation.join("validation.jsonl"), line).unwrap();
    for (flags, code, parts) in [
        ("--dataset no-such-data", 66, &["no-such-data"][..]),
        (&format!("--dataset {}", empty.display()), 65, &["train.jsonl", "no records"]),
        (&format!("--dataset {}", only_validation.display()), 66, &["train.jsonl"]),
        (&format!("{SMALL} --learning-rate 0"), 2, &["--learning-rate"]),
        (&format!("{SMALL} --warmup-ratio nan"), 2, &["--warmup-ratio"]),
        (&format!("{SMALL} --gradient-accumulation-steps 0"), 2, &["--gradient-accumulation-steps"]),
        ("--dataset qmsum-slice --max-source-length 129", 2, &["--max-source-length", "128"]),
        ("--dataset qmsum-slice --max-target-length 65", 2, &["--max-target-length", "64"]),
        ("--dataset qmsum-slice --max-new-tokens 65", 2, &["65", "64"]),
        ("--dataset qmsum-slice --global-attention all", 2, &["first"]),
        ("--dataset qmsum-slice --model x", 2, &["--config-name"]),
    ] {
        let refused = finetune(dir.path(), flags);
        assert_eq!(refused.code, Some(code), "{flags}: {}", refused.err);
        for part in parts {
            assert!(refused.err.contains(part), "{flags}: {}", refused.err);
        }
        assert!(!dir.path().join("run").exists(), "{flags} left a run directory");
    }
}

#[test]
fn a_dataset_without_validation_trains_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("only-train");
    fs::create_dir(&data).unwrap();
    let line = r#"{"id": "a", "pid": "a", "input": "some words", "output": "fewer"}"#;
    fs::write(data.join("train.jsonl"), line).unwrap();
    let flags = format!("--dataset {} --max-steps 1", data.display());
    let done = finetune(dir.path(), &flags);
    done.succeeds();
    assert!(done.err.contains("no validation split"), "{}", done.err);
    assert!(!dir.path().join("run/predictions.jsonl").exists());
    // Asking for evaluations that cannot be is refused.
    let flags = format!("{flags} --eval-steps 1 --overwrite-output-dir");
    finetune(dir.path(), &flags).fails(66, &["validation.jsonl"]);
}

#[test]
fn sources_and_targets_that_get_in_each_others_way() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in names_in(&tiny_led()) {
        fs::copy(tiny_led().join(&name), copy.join(&name)).unwrap();
    }
    let finetune = |model: &Path, output: &Path| {
        ran(command()
            .args(["finetune", "--dataset", "qmsum-slice", "--overwrite-output-dir"])
            .arg("--model")
            .arg(model)
            .arg("--output-dir")
            .arg(output))
    };
    finetune(&copy, &copy).fails(2, &["overwritten while it is read"]);
    assert_eq!(names_in(&copy), names_in(&tiny_led()));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    finetune(&copy, &file).fails(74, &["file"]);
    finetune(&copy, &file.join("run")).fails(74, &["file"]);
    // A tokenizer of another model.
    let other = ran(command()
        .args(["finetune", "--dataset", "qmsum-slice", "--model"])
        .arg(model("led_plain"))
        .arg("--tokenizer")
        .arg(tiny_led())
        .arg("--output-dir")
        .arg(dir.path().join("run")));
    other.fails(65, &["vocab_size 99"]);
}
