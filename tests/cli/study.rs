//! `study`: plans, runs that fail, stop or are killed, and what they leave.

use super::resume::events;
use super::{Ran, command, names_in, ran, wattention};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A study of seconds: one tiny model, two lengths.
pub const TINY: &str = "title = 'Tiny'\n\
    models = ['tiny-led']\ndatasets = ['qmsum-slice']\nmax_source_lengths = [64, 128]\n\
    max_train_samples = 8\nmax_eval_samples = 4\nmax_new_tokens = 4\n\
    [train]\nmax_steps = 4\nper_device_train_batch_size = 2\nmax_target_length = 16\n";

/// The study `config` into `dir/out`.
pub fn study(dir: &Path, config: &str, flags: &str) -> Command {
    let file = dir.join("study.toml");
    // A process that was started a moment ago may be reading it.
    if fs::read_to_string(&file).ok().as_deref() != Some(config) {
        fs::write(&file, config).unwrap();
    }
    let mut command = command();
    command.arg("study").arg("--config").arg(file).arg("--output-dir").arg(dir.join("out"));
    command.args(["--device", "cpu"]).args(flags.split_whitespace());
    command
}

pub fn results(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("out/results.json")).unwrap()).unwrap()
}

/// What two runs of one study must agree in: all but times, sensors and the environment.
pub fn found(dir: &Path) -> Vec<Vec<Value>> {
    const SAME: [&str; 14] = [
        "run",
        "steps",
        "batch_size",
        "rouge1",
        "rouge2",
        "rougeL",
        "geometric_mean",
        "f1",
        "score_low",
        "score_high",
        "train_loss_final",
        "eval_loss",
        "best_step",
        "peak_bytes_planned",
    ];
    let cells = results(dir)["cells"].clone();
    let of = |cell: &Value| SAME.iter().map(|key| cell[key].clone()).collect();
    cells.as_array().unwrap().iter().map(of).collect()
}

pub fn predictions(dir: &Path, cell: &str) -> Vec<u8> {
    fs::read(dir.join("out/cells").join(cell).join("predictions-scrolls.jsonl")).unwrap()
}

#[test]
fn the_papers_study_is_planned_without_its_checkpoints() {
    let done = wattention("study --preset paper --dry-run --json");
    let cells = done.json()["cells"].as_array().unwrap().clone();
    assert_eq!(cells.len(), 48);
    for cell in &cells {
        assert_eq!(cell["problem"], Value::Null);
        assert!(cell["batch_size"].as_u64().unwrap() > 0);
        assert_eq!(cell["memory_bytes"]["kind"], "predicted");
        assert!(cell["memory_bytes"]["value"].as_f64().unwrap() <= (48u64 << 30) as f64);
        assert!(cell["least_step_seconds"]["value"].as_f64().unwrap() > 0.0);
    }
    let of = |model: &str, dataset: &str, length: u64| {
        let same =
            |c: &&Value| c["model"] == model && c["dataset"] == dataset && c["max_source_length"] == length;
        cells.iter().find(same).unwrap()
    };
    let base = of("led-base-16384", "gov_report", 1024);
    assert_eq!(base["paper_batch_size"], 24);
    // PyTorch fitted 24 of them into this card; the plan of this engine has no reason to need more.
    let batch = base["batch_size"].as_u64().unwrap();
    assert!(batch >= 24, "{batch}");
    assert_eq!(base["steps_per_epoch"].as_u64().unwrap(), 17_457u64.div_ceil(batch));
    let long = of("led-base-16384", "gov_report", 4096)["batch_size"].as_u64().unwrap();
    let large = of("led-large-16384", "gov_report", 1024)["batch_size"].as_u64().unwrap();
    assert!(long < batch && large < batch);
    // Four batches of answers are one step.
    let answers = of("led-base-16384", "qasper", 1024);
    let batch = answers["batch_size"].as_u64().unwrap();
    assert_eq!(answers["steps_per_epoch"].as_u64().unwrap(), 2_567u64.div_ceil(batch).div_ceil(4));
}

#[test]
fn a_dry_run_says_what_it_foresees_and_for_which_gpu() {
    let dir = tempfile::tempdir().unwrap();
    let none = ran(&mut study(dir.path(), TINY, "--dry-run"));
    none.succeeds();
    assert!(none.out.contains("--gpu NAME") && none.out.contains("nothing has been run"), "{}", none.out);
    assert!(!dir.path().join("out").exists());
    let gpu = ran(&mut study(dir.path(), TINY, "--dry-run --gpu h200"));
    gpu.succeeds();
    assert!(gpu.out.contains("data sheet of the h200") && gpu.out.contains("kWh"), "{}", gpu.out);
    ran(&mut study(dir.path(), TINY, "--dry-run --gpu b300")).fails(2, &["'b300'", "a6000"]);
    ran(&mut study(dir.path(), TINY, "--gpu h200")).fails(2, &["--dry-run"]);
    let largest = format!("batch_sizes = ['largest']\n{TINY}");
    let refused = ran(&mut study(dir.path(), &largest, "--dry-run"));
    assert!(refused.succeeds().out.contains("--memory"), "{}", refused.out);
    let fits = ran(&mut study(dir.path(), &largest, "--dry-run --json --memory 64MiB")).json();
    assert!(fits["cells"][0]["batch_size"].as_u64().unwrap() > 0);
    let small = ran(&mut study(dir.path(), &largest, "--dry-run --json --memory 1MiB")).json();
    assert!(small["cells"][0]["problem"].as_str().unwrap().contains("not even a batch of 1"));
}

#[test]
fn what_is_missing_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let home = dir.path().join("home");
    let mut command = command();
    command.env("HF_HOME", &home).env_remove("HF_HUB_CACHE").env_remove("HUGGINGFACE_HUB_CACHE");
    command.args(["study", "--preset", "paper", "--data-dir", "scrolls", "--models-dir", "checkpoints"]);
    ran(command.arg("--output-dir").arg(&out)).fails(
        66,
        &[
            "hf download allenai/led-large-16384",
            "checkpoints/google/bigbird-pegasus-large-pubmed/",
            "vocab.json, merges.txt and pytorch_model.bin",
            "qasper.zip of the tau/scrolls dataset",
            "scrolls/gov_report.zip",
        ],
    );
    assert!(!out.exists());
    let nowhere = TINY.replace("tiny-led", "./nowhere");
    ran(&mut study(dir.path(), &nowhere, "")).fails(66, &["./nowhere", "config.json"]);
}

#[test]
fn a_failed_cell_stops_no_other_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = TINY.replace("[64, 128]", "[64, 100000, 128]");
    for again in [false, true] {
        let done = ran(&mut study(dir.path(), &config, "--json"));
        assert_eq!(done.code, Some(2), "{}", done.err);
        assert!(done.err.contains("1 cell failed") && done.err.contains("100000"), "{}", done.err);
        assert_eq!(done.err.matches("already there").count(), if again { 2 } else { 0 });
        let all = results(dir.path());
        assert_eq!(all["cells"].as_array().unwrap().len(), 2);
        assert!(all["failed"][0]["error"].as_str().unwrap().contains("positions"));
        assert!(serde_json::from_str::<Value>(&done.out).unwrap()["report"].is_string());
    }
    let cell = dir.path().join("out/cells/tiny-led_qmsum-slice_64_fp32_seed42");
    let left = [
        "cell.json",
        "config.json",
        "energy.json",
        "metrics.jsonl",
        "predictions-scrolls.jsonl",
        "predictions.jsonl",
        "trained.json",
    ];
    assert_eq!(names_in(&cell), left);
    let report = fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    assert!(report.contains("id=\"unfinished\"") && report.contains("100000"));
}

#[test]
fn a_budget_stops_between_steps_and_says_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let done = ran(&mut study(dir.path(), TINY, "--max-hours 1e-9"));
    done.succeeds();
    assert!(done.err.contains("the 2 cells left") && done.err.contains("--max-hours"), "{}", done.err);
    assert_eq!(results(dir.path())["left"].as_array().unwrap().len(), 2);
    for wrong in ["--max-hours 0", "--max-hours NaN", "--max-kwh -1"] {
        ran(&mut study(dir.path(), TINY, wrong)).fails(2, &["above 0"]);
    }
}

#[test]
fn a_study_that_is_killed_again_and_again_finds_the_same() {
    let whole = tempfile::tempdir().unwrap();
    let config = TINY.replace("max_steps = 4", "max_steps = 24") + "[control]\nsave_steps = 2\n";
    ran(&mut study(whole.path(), &config, "")).succeeds();
    let dir = tempfile::tempdir().unwrap();
    let cells = ["tiny-led_qmsum-slice_64_fp32_seed42", "tiny-led_qmsum-slice_128_fp32_seed42"];
    for (cell, steps, signal) in [(cells[0], 5, "KILL"), (cells[0], 11, "TERM"), (cells[1], 9, "KILL")] {
        let mut child =
            study(dir.path(), &config, "").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let log = dir.path().join("out/cells").join(cell).join("metrics.jsonl");
        while fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < steps {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
            std::thread::yield_now();
        }
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let code = child.wait().unwrap().code();
        assert_eq!(code, if signal == "TERM" { Some(143) } else { None });
    }
    let done = ran(&mut study(dir.path(), &config, ""));
    done.succeeds();
    assert!(done.err.contains("already there") && done.err.contains("resuming from step"), "{}", done.err);
    assert_eq!(found(dir.path()), found(whole.path()));
    for cell in cells {
        assert_eq!(predictions(dir.path(), cell), predictions(whole.path(), cell), "{cell}");
        let log = |dir: &Path| events(&dir.join("out/cells").join(cell));
        assert_eq!(log(dir.path()), log(whole.path()), "{cell}");
    }
}

#[test]
fn protocols_windows_and_seeds_make_cells_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        "protocols = ['paper', 'scrolls']\nattention_windows = [64]\nseeds = [1, 2]\nkeep_models = true\n"
            .to_string()
            + &TINY.replace("[64, 128]", "[64]");
    let done: Ran = ran(&mut study(dir.path(), &config, ""));
    done.succeeds();
    let cells = results(dir.path())["cells"].as_array().unwrap().clone();
    let protocols: Vec<&str> = cells.iter().map(|cell| cell["protocol"].as_str().unwrap()).collect();
    assert_eq!(protocols, ["paper", "scrolls", "paper", "scrolls"]);
    assert!(cells.iter().all(|cell| cell["model"] == "tiny-led (window 64)"));
    let dir = dir.path().join("out/cells/tiny-led_qmsum-slice_64_fp32_window64_seed1");
    let kept: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("model/config.json")).unwrap()).unwrap();
    assert_eq!(kept["attention_window"], 64);
}
