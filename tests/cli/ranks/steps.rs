//! `bench step` and `profile step` by several ranks: each its micro-batch, and the sum of gradients.

use super::*;
use serde_json::json;

fn step(what: &str, flags: &str) -> Command {
    let dir = super::super::model("led_plain");
    let mut command = command();
    command
        .args([what, "step", "--device", "cpu", "--threads", "1", "--config"])
        .arg(dir.join("config.json"));
    command.args(["--max-source-length", "32", "--max-target-length", "8"]).args(flags.split_whitespace());
    command
}

#[test]
fn a_benchmark_by_ranks_has_the_examples_of_all() {
    if !has_ranks() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("rows.csv");
    let mut command = step("bench", "--json --kernels --warmup 1 --repeat 3 --batch-size 2");
    let report = ran(by(2, &command).arg("--csv").arg(&csv)).json();
    assert_eq!(names_in(dir.path()), ["rows.csv"]);
    assert_eq!(report["ranks"]["world_size"], 2);
    assert!(report["ranks"]["exchange_runtime"].as_f64().unwrap() > 0.0);
    assert!(report["name"].as_str().unwrap().ends_with(", 2 ranks"), "{}", report["name"]);
    let samples = report["samples_per_second"].as_f64().unwrap() * report["median_s"].as_f64().unwrap();
    assert!((samples - 4.0).abs() < 1e-9, "{samples}");
    let exchanges = report["kernels"].as_array().unwrap().iter().filter(|row| row["phase"] == "exchange");
    assert_eq!(exchanges.count(), 2, "the losses and the gradients");
    // The mean over the tokens of all ranks, not the first one's part of it.
    let one = ran(&mut command).json()["loss"].as_f64().unwrap();
    let both = report["loss"].as_f64().unwrap();
    assert!((both - one).abs() < 0.5 * one, "{both} and {one}");
    let lists = ran(&mut by(2, &step("bench", "--warmup 0 --repeat 1 --batch-size 1,2")));
    assert_eq!(lists.succeeds().out.matches("2 ranks on 1 device").count(), 2, "{}", lists.out);
}

/// What a step exchanges, as `finetune` has it, is part of what was measured and of its name.
#[test]
fn a_benchmark_says_what_its_ranks_share() {
    if !has_ranks() {
        return;
    }
    let mut command = step("bench", "--json --kernels --warmup 0 --repeat 1");
    let plain = ran(&mut by(2, &command)).json();
    assert!(plain.get("zero_stage").is_none() && plain.get("communication_data_type").is_none());
    command.args(["--zero-stage", "1", "--communication-data-type", "bf16"]);
    let report = ran(&mut by(2, &command)).json();
    assert_eq!((&report["zero_stage"], &report["communication_data_type"]), (&json!(1), &json!("bf16")));
    let name = report["name"].as_str().unwrap();
    assert!(name.ends_with(", ZeRO 1, exchanged in bf16, fp32, 2 ranks"), "{name}");
    let exchanges = report["kernels"].as_array().unwrap().iter().filter(|row| row["phase"] == "exchange");
    let names: Vec<&str> = exchanges.map(|row| row["kernel"].as_str().unwrap()).collect();
    assert!(names.len() == 3 && names.contains(&"gathering of weights"), "{names:?}");
}

#[test]
fn a_profile_has_the_exchanges_as_a_phase_of_their_own() {
    if !has_ranks() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (trace, saved) = (dir.path().join("trace.json"), dir.path().join("profile.json"));
    let mut command = step("profile", "--seconds 0 --warmup 1");
    command.arg("--trace").arg(&trace).arg("--save").arg(&saved);
    let shown = ran(&mut by(2, &command));
    let line = shown.succeeds().out.lines().find(|line| line.starts_with("exchange"));
    assert!(line.is_some_and(|line| line.split_whitespace().nth(1) == Some("-")), "{}", shown.out);
    assert!(shown.out.contains("as planned"), "{}", shown.out);
    let read = |path: &Path| serde_json::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap();
    let profile = read(&saved);
    assert_eq!(profile["work"]["world_size"], 2);
    let rows = profile["rows"].as_array().unwrap().iter().filter(|row| row["phase"] == "exchange");
    let names: Vec<&str> = rows.map(|row| row["kernel"].as_str().unwrap()).collect();
    assert_eq!(names, ["sum of losses", "sum of gradients"]);
    let trace = read(&trace);
    for rank in 0..2 {
        let of = |name: &str| {
            let events = trace["traceEvents"].as_array().unwrap().iter();
            events.filter(|event| event["pid"] == rank && event["name"] == name).count()
        };
        // Three runs are kept.
        assert_eq!((of("run 1"), of("run 3"), of("sum of gradients")), (1, 1, 3), "rank {rank}");
        assert!(of("exchange") >= 3);
    }
    let energy = ran(&mut by(2, &step("profile", "--seconds 0 --energy both")));
    assert_eq!(energy.code, Some(2), "{}", energy.err);
    assert!(energy.err.contains("--energy"), "{}", energy.err);
}
