//! The model card of a run, and what it says of where the run's model came from.

use super::energy::{number, replayed};
use super::finetune::{SMALL, finetune, talkative};
use super::resume::start;
use super::scalar::assert_near;
use super::{command, names_in, ran};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The lines of a card's metadata.
fn metadata(run: &Path) -> Vec<String> {
    let card = fs::read_to_string(run.join("model/README.md")).unwrap();
    let (_, rest) = card.split_once("---\n").unwrap();
    rest.split_once("---\n").unwrap().0.lines().map(|line| line.trim().to_string()).collect()
}

fn has(lines: &[String], line: &str) -> bool {
    lines.iter().any(|known| known == line)
}

#[test]
fn a_card_has_the_scores_of_the_run_and_no_emissions_that_nobody_measured() {
    let dir = tempfile::tempdir().unwrap();
    let report = finetune(dir.path(), &format!("{SMALL} --max-steps 2 --carbon-intensity 400 --json")).json();
    let lines = metadata(&dir.path().join("run"));
    for line in [
        "library_name: transformers",
        "pipeline_tag: summarization",
        "- \"qmsum-slice\"",
        "split: validation",
    ] {
        assert!(has(&lines, line), "{line} in {lines:?}");
    }
    for key in ["eval_rouge1", "eval_rouge2", "eval_rougeL", "eval_geometric_mean", "eval_f1", "eval_loss"] {
        let want = report["eval"][key].as_f64();
        let mut values = lines.iter().filter_map(|line| line.strip_prefix("value: "));
        assert!(values.any(|value| value.parse().ok() == want), "{key} {want:?} in {lines:?}");
    }
    // A model with drawn weights has no base, and without a meter nobody knows its emissions.
    let measured = report["energy"]["whole"]["energy_j"].is_number();
    assert!(!lines.iter().any(|line| line.starts_with("base_model")));
    assert_eq!(has(&lines, "co2_eq_emissions:"), measured);
}

#[test]
fn emissions_are_measured_energy_at_the_intensity_that_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let done = replayed(dir.path(), start(dir.path(), "--carbon-intensity 400 --json"));
    let joules = number(&done.json()["energy"], "/whole/energy_j");
    let lines = metadata(&dir.path().join("run"));
    let grams = lines.iter().find_map(|line| line.strip_prefix("emissions: ")).unwrap();
    assert_near(grams.parse().unwrap(), joules / 3.6e6 * 400.0, 1e-9);
    assert!(has(&lines, "training_type: fine-tuning"));
    // Measured, and no intensity given.
    let dir = tempfile::tempdir().unwrap();
    replayed(dir.path(), start(dir.path(), "")).succeeds();
    assert!(!has(&metadata(&dir.path().join("run")), "co2_eq_emissions:"));
    let refused = ran(&mut start(dir.path(), "--overwrite-output-dir --carbon-intensity -1"));
    assert_eq!(refused.code, Some(2), "{}", refused.err);
}

#[test]
fn a_repository_is_the_base_and_a_run_names_its_commit() {
    let (base, cache, dir) = (talkative(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = cache.path().join("models--acme--led");
    let snapshot = folder.join("snapshots/0a1b2c");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), "0a1b2c").unwrap();
    for name in names_in(base.path()) {
        fs::copy(base.path().join(&name), snapshot.join(&name)).unwrap();
    }
    let run = dir.path().join("run");
    let flags = format!("finetune --model acme/led {SMALL} --max-steps 1 --no-predict --device cpu");
    let mut finetune = command();
    finetune.env("HF_HUB_CACHE", cache.path()).args(flags.split_whitespace());
    ran(finetune.arg("--output-dir").arg(&run)).succeeds();
    let lines = metadata(&run);
    assert!(has(&lines, "base_model: \"acme/led\""), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("model-index")), "it was not scored");
    let config: Value = serde_json::from_str(&fs::read_to_string(run.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["arguments"]["model"], "acme/led@0a1b2c");
}
