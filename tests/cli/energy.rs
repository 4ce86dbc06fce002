//! What `finetune`, `evaluate` and `generate` say about energy: with a meter that plays a recording, and without one.

use super::finetune::{talkative, tiny_led};
use super::scalar::assert_near;
use super::{Ran, command, ran, resume};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every recording here draws.
pub const WATTS: f64 = 50.0;

/// A recording of so many values of a meter that moves every 20 us, in `dir`, with `last` as its last lines.
pub fn recording(dir: &Path, values: usize, last: &str) -> PathBuf {
    let line = |i: usize| {
        let (time, energy) = (i as f64 * 2e-5, i as f64 * 2e-5 * WATTS);
        format!(
            "{{\"time_s\": {time}, \"energy_j\": {energy}, \"power_w\": {WATTS}, \"utilisation\": 0.75, \
             \"memory_bytes\": 512, \"memory_total_bytes\": 1024}}\n"
        )
    };
    let text: String = (0..values).map(line).collect();
    let file = dir.join("meter.jsonl");
    fs::write(&file, text + last).unwrap();
    file
}

pub fn metered(mut command: Command, meter: &str) -> Ran {
    ran(command.env("WATTENTION_METER", meter))
}

/// `command` with a recording that never fails.
pub fn replayed(dir: &Path, command: Command) -> Ran {
    metered(command, &format!("replay:{}", recording(dir, 5000, "").display()))
}

fn kept(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("run/energy.json")).unwrap()).unwrap()
}

#[track_caller]
pub fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {path} in {value}"))
}

/// Checks that the activities sum to the whole, and that the whole is what was recorded.
#[track_caller]
pub fn assert_sums(energy: &Value) {
    let windows = energy["windows"].as_object().unwrap();
    let sum = |key: &str| windows.values().map(|window| window[key].as_f64().unwrap()).sum::<f64>();
    assert_near(sum("time_s"), number(energy, "/whole/time_s"), 1e-12);
    assert_near(sum("counted_j"), number(energy, "/whole/energy_j"), 1e-9);
    // Either end is off by less than a step of 1 mJ.
    assert_near(number(energy, "/whole/energy_j"), WATTS * number(energy, "/whole/time_s"), 0.02);
    assert_eq!(number(energy, "/whole/peak_power_w"), WATTS);
    assert_near(number(energy, "/mean_power_w"), WATTS, 0.02);
    assert_eq!(number(energy, "/whole/memory_mean_bytes"), 512.0);
    assert_near(number(energy, "/whole/utilisation"), 0.75, 1e-9);
    assert_near(number(energy, "/update_period_s"), 2e-5, 1e-6);
    assert_near(number(energy, "/counter_over_integrated"), 1.0, 1e-6);
    let source = energy["source"].as_str().unwrap();
    assert!(source.contains("replay of") && source.contains("not measured here"), "{source}");
}

/// A short run of `finetune` into `dir/run`.
fn training(dir: &Path, flags: &str) -> Command {
    resume::start(dir, flags)
}

#[test]
fn a_runs_activities_sum_to_the_whole_and_its_phases_to_the_steps() {
    let dir = tempfile::tempdir().unwrap();
    // Long enough for the counter to be seen to move more often than there are phases, on a fast machine, too.
    let flags = "--json --energy-per-phase --max-steps 600 --eval-steps 200 --save-steps 200";
    let report = replayed(dir.path(), training(dir.path(), flags)).json();
    let samples = 1200.0;
    let energy = kept(dir.path());
    assert_eq!(report["energy"], energy);
    assert_sums(&energy);
    let windows = energy["windows"].as_object().unwrap();
    let names: Vec<&str> = windows.keys().map(String::as_str).collect();
    assert_eq!(names, ["data", "training", "evaluation", "checkpoint", "rest"]);

    let training = number(&energy, "/windows/training/energy_j");
    assert_eq!(number(&energy, "/training/samples"), samples);
    assert_near(samples * number(&energy, "/training/joules_per_sample"), training, 1e-9);
    assert_near(number(&energy, "/training/samples_per_second_per_watt"), samples / training, 1e-9);
    let tokens = number(&energy, "/training/tokens");
    assert_near(tokens * number(&energy, "/training/joules_per_token"), training, 1e-9);
    // The paper: the mean power of all of the run times the time of training with its evaluations.
    let runtime = report["train"]["train_runtime"].as_f64().unwrap();
    assert_near(number(&energy, "/paper/energy_j"), WATTS * runtime, 1e-9);
    assert_near(number(&energy, "/paper/samples_per_second"), samples / runtime, 1e-9);
    assert_eq!(
        (number(&energy, "/paper/gpu_utilisation"), number(&energy, "/paper/gpu_memory")),
        (0.75, 0.5)
    );

    let phases = energy["phases"]["phases"].as_array().unwrap();
    let named: Vec<&str> = phases.iter().map(|phase| phase["phase"].as_str().unwrap()).collect();
    for name in ["encoder.attention", "decoder.cross", "loss", "optimizer", "rest"] {
        assert!(named.contains(&name), "{named:?} without {name}");
    }
    let sum: f64 = phases.iter().map(|phase| phase["energy_j"].as_f64().unwrap()).sum();
    let (total, residual) = (number(&energy, "/phases/total_j"), number(&energy, "/phases/residual_j"));
    assert_near(sum + residual, total, 1e-9);
    // All phases draw the same here, whatever can be told of each.
    assert!(residual.abs() < 0.05 * total, "{residual} of {total} J");
    // What passes between two steps is in the phases' rest, and in the data's window.
    let steps = training + number(&energy, "/windows/data/energy_j");
    assert!(total < steps, "{total} of {steps} J");
}

#[test]
fn what_an_attempt_cost_before_it_was_stopped_counts() {
    let dir = tempfile::tempdir().unwrap();
    replayed(dir.path(), training(dir.path(), "--no-predict")).succeeds();
    let first = kept(dir.path());
    let mut again = training(dir.path(), "--no-predict --resume");
    again.arg(dir.path().join("run/checkpoint-4"));
    let done = replayed(dir.path(), again);
    assert!(done.succeeds().out.contains("sum of 2 attempts"), "{}", done.out);
    let both = kept(dir.path());
    assert_eq!((number(&first, "/attempts"), number(&both, "/attempts")), (1.0, 2.0));
    assert_sums(&both);
    for path in ["/whole/time_s", "/windows/training/counted_j", "/windows/rest/time_s"] {
        assert!(number(&both, path) > number(&first, path), "{path}");
    }
    // What was done twice is in the energy; what was learnt from is counted once.
    assert_eq!(number(&both, "/training/samples"), number(&first, "/training/samples"));
    // A new run forgets both.
    replayed(dir.path(), training(dir.path(), "--no-predict --overwrite-output-dir")).succeeds();
    assert_eq!(number(&kept(dir.path()), "/attempts"), 1.0);
}

fn evaluation(model: &Path, flags: &str) -> Command {
    let mut command = command();
    command.args(["evaluate", "--device", "cpu", "--model"]).arg(model);
    let short = "--dataset qmsum-slice --max-samples 3 --max-source-length 64 --max-new-tokens 8";
    command.args(short.split_whitespace()).args(flags.split_whitespace());
    command
}

fn generation(dir: &Path, flags: &str) -> Command {
    let input = dir.join("in.txt");
    fs::write(&input, "The committee met on Tuesday to talk about the budget.").unwrap();
    let mut command = command();
    command.args(["generate", "--device", "cpu", "--max-new-tokens", "8", "--model"]).arg(tiny_led());
    command.arg("--input").arg(input).args(flags.split_whitespace());
    command
}

#[test]
fn predictions_have_their_cost_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let model = talkative();
    for (command, activity, samples) in [
        (evaluation(model.path(), "--json"), "evaluation", 3.0),
        (generation(dir.path(), "--json"), "generation", 1.0),
    ] {
        let energy = replayed(dir.path(), command).json()["energy"].clone();
        assert_sums(&energy);
        assert_eq!(number(&energy, "/predicted/samples"), samples);
        let spent = number(&energy, &format!("/windows/{activity}/energy_j"));
        assert_near(samples * number(&energy, "/predicted/joules_per_sample"), spent, 1e-9);
        assert_near(number(&energy, "/paper/energy_j"), WATTS * number(&energy, "/paper/runtime_s"), 1e-9);
    }
    let done = replayed(dir.path(), evaluation(model.path(), ""));
    let line = done.succeeds().out.lines().find(|line| line.starts_with("energy: ")).unwrap().to_string();
    for part in [
        "50.0 W mean",
        "50.0 W peak",
        "GPU busy 75 %, 512 B of GPU memory in use",
        " samples/s, ",
        "/sample",
        "/source token",
        "samples/s/W",
        "counter every 20 us, counter/integrated 1.00",
    ] {
        assert!(line.contains(part), "{line} does not say {part}");
    }
    // Where stdout has the predictions, stderr has the rest.
    let done = replayed(dir.path(), generation(dir.path(), ""));
    assert!(done.succeeds().err.contains("energy: ") && !done.out.contains("energy: "), "{}", done.out);
}

#[test]
fn a_studys_cells_have_their_cost() {
    let dir = tempfile::tempdir().unwrap();
    let config = super::study::TINY.replace("[64, 128]", "[64]").replace("max_steps = 4", "max_steps = 20");
    replayed(dir.path(), super::study::study(dir.path(), &config, "")).succeeds();
    let text = fs::read_to_string(dir.path().join("out/results.json")).unwrap();
    let cell = serde_json::from_str::<Value>(&text).unwrap()["cells"][0].clone();
    let of = |name: &str| number(&cell, &format!("/{name}/value"));
    assert_near(of("mean_power_watts"), WATTS, 0.02);
    assert_eq!((of("peak_power_watts"), of("utilisation_percent")), (WATTS, 75.0));
    assert_eq!((of("device_memory_mean_bytes"), of("device_memory_peak_bytes")), (512.0, 512.0));
    // 20 steps of 2 samples.
    assert_near(40.0 * of("joules_per_sample"), of("energy_joules"), 1e-9);
    assert_near(of("samples_per_second_per_watt") * of("joules_per_sample"), 1.0, 1e-9);
    let tokens = of("train_tokens_per_second") * of("train_seconds");
    assert_near(tokens * of("joules_per_token"), of("energy_joules"), 1e-9);
    assert_near(of("paper_power_watts"), WATTS, 1e-9);
    let header = fs::read_to_string(dir.path().join("out/results.csv")).unwrap();
    assert!(header.contains(",peak_power_watts,") && header.contains(",joules_per_token,"), "{header}");
}

#[test]
fn without_a_sensor_there_is_the_reason_once_and_the_work_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let model = talkative();
    let reason = "energy: n/a: WATTENTION_METER is none";
    for command in [training(dir.path(), "--no-predict --energy-per-phase"), evaluation(model.path(), "")] {
        let done = metered(command, "none");
        let lines = done.succeeds().out.lines().filter(|line| line.contains("n/a")).collect::<Vec<_>>();
        assert_eq!(lines, [reason]);
    }
    assert!(metered(generation(dir.path(), ""), "none").succeeds().err.contains(reason));
    let energy = kept(dir.path());
    assert!(number(&energy, "/windows/training/time_s") > 0.0);
    assert_eq!((&energy["whole"]["energy_j"], &energy["paper"]), (&Value::Null, &Value::Null));
    assert_eq!(energy["training"]["joules_per_sample"], Value::Null);
}

#[test]
fn a_sensor_that_fails_half_way_leaves_the_run_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // A tenth of a second is less than the run takes, and the fault lasts longer than it.
    let fault = "{\"time_s\": 0.1, \"error\": \"the GPU is lost\"}\n{\"time_s\": 900, \"energy_j\": 60}\n";
    let file = recording(dir.path(), 4000, fault);
    let flags = "--max-steps 100 --eval-steps 100 --save-steps 0 --no-predict --energy-per-phase";
    let done = metered(training(dir.path(), flags), &format!("replay:{}", file.display()));
    assert!(done.succeeds().out.contains("energy: n/a: the GPU is lost"), "{}", done.out);
    assert!(number(&kept(dir.path()), "/windows/training/time_s") > 0.0);
}

#[test]
fn a_meter_that_cannot_be_is_refused_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let model = talkative();
    let broken = dir.path().join("broken.jsonl");
    fs::write(&broken, "{\"time_s\": 0, \"energy_j\": 1}\n{\"time_s\": 0, \"energy_j\": 2}\n").unwrap();
    for (meter, code, part) in [
        ("nvml".to_string(), 2, "auto, none, record:FILE or replay:FILE"),
        ("replay:/nowhere/x.jsonl".to_string(), 66, "/nowhere/x.jsonl"),
        (format!("replay:{}", broken.display()), 65, "broken.jsonl:2: time_s is 0"),
        ("record:/nowhere/x.jsonl".to_string(), 74, "/nowhere/x.jsonl"),
    ] {
        metered(evaluation(model.path(), ""), &meter).fails(code, &[part]);
        metered(training(dir.path(), ""), &meter).fails(code, &[part]);
        assert!(!dir.path().join("run").exists(), "{meter} left a run directory");
    }
    for help in ["finetune --help", "evaluate --help", "generate --help"] {
        let done = super::wattention(help);
        assert!(done.succeeds().out.contains("WATTENTION_METER"), "{help}");
    }
}
