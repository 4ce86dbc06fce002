//! `finetune --resume`: the run that goes on, what it refuses, and a process that is killed again and again.

use super::finetune::{CONFIG, SMALL, finetune, lines, tiny_led};
use super::{Ran, command, names_in, ran};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a run here is asked for, unless a test asks otherwise.
const DEFAULTS: [&str; 12] = [
    "--dataset qmsum-slice",
    "--max-train-samples 6",
    "--max-eval-samples 2",
    "--per-device-train-batch-size 2",
    "--max-source-length 64",
    "--max-target-length 16",
    "--max-new-tokens 8",
    "--max-steps 8",
    "--eval-steps 3",
    "--learning-rate 1e-3",
    "--save-steps 2",
    "--device cpu",
];

/// A run of [`CONFIG`] in `dir/run`: 8 steps with a checkpoint at every second, but for what `flags` say.
pub fn start(dir: &Path, flags: &str) -> Command {
    let config = dir.join("config.json");
    fs::write(&config, CONFIG).unwrap();
    let mut start = command();
    start.args(["finetune", "--config-name"]).arg(config);
    start.arg("--tokenizer").arg(tiny_led()).arg("--output-dir").arg(dir.join("run"));
    let asked: Vec<&str> = flags.split_whitespace().collect();
    for default in DEFAULTS {
        let mut words = default.split_whitespace();
        if !asked.contains(&words.clone().next().unwrap()) {
            start.args(words.by_ref());
        }
    }
    start.args(asked);
    start
}

pub fn model(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("run/model/model.safetensors")).unwrap()
}

/// The lines of `metrics.jsonl` without those that hold times.
pub fn events(run: &Path) -> Vec<Value> {
    let mut lines = lines(&run.join("metrics.jsonl"));
    lines.retain(|line| line.get("train_runtime").is_none() && line.get("eval_runtime").is_none());
    lines
}

fn number(ran: &Ran, key: &str) -> f64 {
    ran.json()["train"][key].as_f64().unwrap()
}

#[test]
fn a_run_that_goes_on_is_the_run_in_one_go() {
    let whole = tempfile::tempdir().unwrap();
    ran(&mut start(whole.path(), "")).succeeds();
    let kept = ["checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-8"];
    let names = names_in(&whole.path().join("run"));
    assert_eq!(names[..4], kept);
    let files = ["config.json", "energy.json", "latest", "metrics.jsonl", "model", "predictions.jsonl"];
    assert_eq!(names[4..], files);

    // From a checkpoint by name, over the end of another run.
    let dir = tempfile::tempdir().unwrap();
    ran(&mut start(dir.path(), "")).succeeds();
    let from = dir.path().join("run/checkpoint-4");
    let done = ran(start(dir.path(), "--json --resume").arg(&from));
    assert!(model(dir.path()) == model(whole.path()));
    assert_eq!(events(&dir.path().join("run")), events(&whole.path().join("run")));
    let predictions = |dir: &Path| fs::read(dir.join("run/predictions.jsonl")).unwrap();
    assert!(predictions(dir.path()) == predictions(whole.path()));
    // Both halves are counted, and the parts of the time are parts of it.
    assert_eq!(number(&done, "train_samples"), 16.0);
    let parts = ["step_runtime", "evaluation_runtime", "checkpoint_runtime"].map(|key| number(&done, key));
    assert!((parts.iter().sum::<f64>() - number(&done, "train_runtime")).abs() < 1e-9);
    assert!(number(&done, "data_runtime") <= parts[0]);
    let rate = number(&done, "train_samples_per_second") * number(&done, "train_runtime");
    assert!((rate - 16.0).abs() < 1e-6);
    let config: Value =
        serde_json::from_str(&fs::read_to_string(dir.path().join("run/config.json")).unwrap()).unwrap();
    assert_eq!(config["resumed_from"], from.to_str().unwrap());

    // A checkpoint is a model by itself.
    let evaluation = ran(command()
        .args(
            "evaluate --dataset qmsum-slice --max-samples 2 --max-source-length 64 --json".split_whitespace(),
        )
        .args("--max-target-length 16 --max-new-tokens 8 --device cpu --model".split_whitespace())
        .arg(whole.path().join("run/checkpoint-8")));
    let last = lines(&whole.path().join("run/metrics.jsonl")).pop().unwrap();
    assert_eq!(evaluation.json()["eval_loss"], last["eval_loss"]);
}

#[test]
fn auto_starts_at_the_beginning_where_there_is_nothing_and_passes_over_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let first = ran(&mut start(dir.path(), "--resume auto"));
    first.succeeds();
    assert!(first.err.contains("starts at the beginning"), "{}", first.err);
    let (weights, said) = (model(dir.path()), events(&dir.path().join("run")));
    let broken = dir.path().join("run/checkpoint-8/optimizer.safetensors");
    fs::write(&broken, "").unwrap();
    fs::remove_file(dir.path().join("run/checkpoint-6/manifest.json")).unwrap();
    let again = ran(&mut start(dir.path(), "--resume auto"));
    again.succeeds();
    for part in
        ["checkpoint-8/optimizer.safetensors", "checkpoint-6/manifest.json", "resuming from", "checkpoint-4"]
    {
        assert!(again.err.contains(part), "{part}: {}", again.err);
    }
    assert!(model(dir.path()) == weights && events(&dir.path().join("run")) == said);
    // The damaged ones were written anew.
    let from = dir.path().join("run/checkpoint-8");
    ran(start(dir.path(), "--resume").arg(from)).succeeds();
    fs::write(&broken, "").unwrap();
    let named = ran(start(dir.path(), "--resume").arg(dir.path().join("run/checkpoint-8")));
    named.fails(65, &["optimizer.safetensors", "0 bytes long"]);
}

#[test]
fn other_settings_data_and_models_are_refused_with_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    ran(&mut start(dir.path(), "--no-predict")).succeeds();
    let (weights, names) = (model(dir.path()), names_in(&dir.path().join("run")));
    let last = |flags: &str| ran(&mut start(dir.path(), &format!("{flags} --resume auto")));
    last("--learning-rate 2e-3 --max-steps 9").fails(
        2,
        &[
            "checkpoint-8",
            "other settings",
            "learning_rate: 0.001 then, 0.002 now",
            "max_steps: 8 then, 9 now",
        ],
    );
    last("--max-train-samples 5").fails(2, &["training_data: "]);
    last("--seed 43").fails(2, &["model: ", "seed: 42 then, 43 now"]);
    last("--precision bf16").fails(2, &["precision: \"fp32\" then, \"bf16\" now"]);
    last("--early-stopping-patience 3").fails(2, &["early_stopping_patience: 0 then, 3 now"]);
    // What is kept does not decide what is computed.
    last("--save-steps 4 --save-total-limit 9 --max-bad-steps 2").succeeds();
    assert!(model(dir.path()) == weights);

    // Without any checkpoint the run's own settings are what is compared.
    for step in [2, 4, 6, 8] {
        fs::remove_dir_all(dir.path().join(format!("run/checkpoint-{step}"))).unwrap();
    }
    last("--learning-rate 2e-3").fails(2, &["the run in", "learning_rate: 0.001 then, 0.002 now"]);
    last("--save-steps 2").succeeds();
    assert!(model(dir.path()) == weights);
    assert_eq!(
        names_in(&dir.path().join("run")).len(),
        names.len() + 1,
        "predictions.jsonl and nothing else"
    );
}

#[test]
fn what_cannot_be_gone_on_with_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    ran(start(dir.path(), "--resume").arg(run.join("checkpoint-2"))).fails(66, &["checkpoint-2"]);
    ran(&mut start(dir.path(), "--resume auto --overwrite-output-dir")).fails(2, &["--resume"]);
    // A folder that is no run is left alone.
    fs::write(run.join("mine.txt"), "mine").unwrap();
    ran(&mut start(dir.path(), "--resume auto")).fails(74, &["no run to resume"]);
    assert_eq!(names_in(&run), ["mine.txt"]);
    fs::remove_file(run.join("mine.txt")).unwrap();
    ran(&mut start(dir.path(), "--no-predict")).succeeds();
    let other = tempfile::tempdir().unwrap();
    let foreign = run.join("checkpoint-4");
    ran(start(other.path(), "--resume").arg(&foreign)).fails(2, &["--output-dir", "--model"]);
    // An overwritten run leaves no checkpoints to resume from.
    ran(&mut start(dir.path(), "--no-predict --overwrite-output-dir --save-steps 0")).succeeds();
    assert_eq!(names_in(&run), ["config.json", "energy.json", "metrics.jsonl", "model"]);
}

#[test]
fn saving_flags_that_mean_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (flags, parts) in [
        ("--load-best-model-at-end", &["--load-best-model-at-end", "--eval-steps"][..]),
        ("--early-stopping-patience 2", &["--early-stopping-patience", "--eval-steps"]),
        ("--early-stopping-patience -1", &["-1"]),
        ("--eval-steps 1 --early-stopping-threshold nan", &["--early-stopping-threshold"]),
        ("--max-bad-steps 0", &["--max-bad-steps"]),
        ("--skip-loss-zscore -1", &["--skip-loss-zscore is -1"]),
        ("--metric-for-best-model bleu", &["rouge1", "geometric_mean"]),
        ("--save-steps x", &["--save-steps"]),
    ] {
        let refused = finetune(dir.path(), &format!("{SMALL} --max-steps 1 {flags}"));
        assert_eq!(refused.code, Some(2), "{flags}: {}", refused.err);
        for part in parts {
            assert!(refused.err.contains(part), "{flags}: {}", refused.err);
        }
        assert!(!dir.path().join("run").exists(), "{flags} left a run directory");
    }
}

#[test]
fn the_best_by_a_score_is_found_by_predictions() {
    let dir = tempfile::tempdir().unwrap();
    let flags = format!(
        "{SMALL} --max-steps 4 --eval-steps 1 --metric-for-best-model eval_rouge1 --load-best-model-at-end --json"
    );
    let report = finetune(dir.path(), &flags).json();
    let metrics = lines(&dir.path().join("run/metrics.jsonl"));
    let scored: Vec<f64> = metrics
        .iter()
        .filter(|line| line.get("eval_runtime").is_none())
        .filter_map(|line| line.get("eval_rouge1")?.as_f64())
        .collect();
    assert_eq!(scored.len(), 4);
    // The first of the greatest.
    let best = (0..4).min_by(|&a, &b| scored[b].total_cmp(&scored[a])).unwrap() + 1;
    assert_eq!(report["train"]["best_step"], best);
    assert_eq!(report["train"]["model_step"], best);
    assert_eq!(report["eval"]["eval_rouge1"].as_f64(), Some(scored[best - 1]));
}

#[test]
fn a_learning_rate_beyond_all_measure_ends_the_run_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let flags = format!("{SMALL} --max-steps 4 --learning-rate 1e30 --no-predict");
    finetune(dir.path(), &flags).fails(65, &["step 2", "examples", "the first value that is not finite is"]);
    assert_eq!(lines(&dir.path().join("run/metrics.jsonl")).len(), 1);
    // Passed over as often as asked for, and told every time.
    let flags = format!("{flags} --max-bad-steps 5 --overwrite-output-dir");
    let done = finetune(dir.path(), &flags);
    done.succeeds();
    let skipped: Vec<Value> = lines(&dir.path().join("run/metrics.jsonl"))
        .into_iter()
        .filter(|line| line.get("skipped").is_some())
        .collect();
    assert_eq!(skipped.len(), 3);
    assert!(skipped.iter().all(|line| line["examples"].as_array().unwrap().len() == 2));
    assert_eq!(done.err.lines().filter(|line| line.contains("is skipped: ")).count(), 3, "{}", done.err);
}

/// Draws below 1 from a fixed sequence (SplitMix64's increments through its finaliser).
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// `WATTENTION_KILL_ROUNDS` sets how often; 200 takes minutes.
#[test]
fn a_process_killed_at_any_moment_goes_on_to_the_same_end() {
    let rounds = std::env::var("WATTENTION_KILL_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let flags = "--resume auto --save-steps 1 --save-total-limit 2 --load-best-model-at-end --quiet";
    let start = |dir: &Path| start(dir, flags);
    let whole = tempfile::tempdir().unwrap();
    let began = Instant::now();
    ran(&mut start(whole.path())).succeeds();
    let duration = began.elapsed();
    let mut dir = tempfile::tempdir().unwrap();
    let (mut killed, mut finished, mut seed) = (0, 0, 1);
    while killed < rounds {
        let mut child = start(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs_f64(duration.as_secs_f64() * draw(&mut seed)));
        child.kill().unwrap();
        match child.wait().unwrap().code() {
            None => killed += 1,
            // It was faster than the kill.
            Some(code) => {
                assert_eq!(code, 0, "after {killed} kills");
                finished += 1;
                same(dir.path(), whole.path());
                dir = tempfile::tempdir().unwrap();
            }
        }
    }
    ran(&mut start(dir.path())).succeeds();
    same(dir.path(), whole.path());
    println!("killed {killed} times, {} runs finished", finished + 1);
}

#[track_caller]
fn same(dir: &Path, whole: &Path) {
    assert!(model(dir) == model(whole), "other weights");
    assert_eq!(events(&dir.join("run")), events(&whole.join("run")));
    assert_eq!(names_in(&dir.join("run")), names_in(&whole.join("run")));
}
