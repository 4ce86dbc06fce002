//! `profile`: the table, the trace, comparisons and predictions as a new user meets them.

use super::{Ran, command, median, model, ran, wattention};
use serde_json::Value;
use std::fs;
use std::path::Path;

const SMALL: &str = "--max-source-length 40 --max-target-length 7 --device cpu --seconds 0";
/// The same for long enough to tell a difference.
const LONGER: &str = "--max-source-length 40 --max-target-length 7 --device cpu --seconds 2";

fn step(flags: &str) -> Ran {
    let config = model("led_plain").join("config.json");
    ran(command().args(["profile", "step", "--config"]).arg(config).args(flags.split_whitespace()))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Rows of the printed table: words and numbers, split where two spaces are.
fn table(text: &str) -> Vec<Vec<&str>> {
    let start = text.lines().skip_while(|line| !line.starts_with("phase") && !line.starts_with("kernel"));
    let lines = start.take_while(|line| !line.is_empty());
    lines.map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}

#[test]
fn a_step_is_shared_out_among_its_phases() {
    let done = step(&format!("{SMALL} --batch-size 2"));
    done.succeeds();
    let rows = table(&done.out);
    let (header, body) = (&rows[0], &rows[1..]);
    assert_eq!(header[..2], ["phase", "pass"], "{}", done.out);
    let share = header.iter().position(|title| *title == "share").unwrap();
    let percent = |row: &Vec<&str>| -> f64 { row[share].trim_end_matches(" %").parse().unwrap() };
    let (all, phases) = body.split_last().unwrap();
    assert_eq!(all[0], "all");
    let sum: f64 = phases.iter().map(percent).sum();
    // Each of them is rounded to a tenth.
    assert!((sum - 100.0).abs() < 1.0, "{sum} % in {}", done.out);
    for phase in ["encoder.attention", "encoder.ffn", "decoder.cross", "loss", "optimizer"] {
        assert!(phases.iter().any(|row| row[0] == phase), "{phase} is not in {}", done.out);
    }
    assert!(body.iter().all(|row| row[0] != "other"), "{}", done.out);
    assert!(done.out.contains("kernels, order and costs as planned"), "{}", done.out);
    assert!(done.out.contains("limits    n/a: measure them with `bench limits"), "{}", done.out);
}

#[test]
fn times_and_costs_of_rows_add_up_to_those_of_the_plan() {
    let profile = step(&format!("{SMALL} --by both --json --energy none")).json();
    let rows = profile["rows"].as_array().unwrap();
    let sum = |key: &str| rows.iter().map(|row| number(&row[key])).sum::<f64>();
    let planned = wattention(&format!(
        "plan --json --max-source-length 40 --max-target-length 7 --config {}",
        model("led_plain").join("config.json").display()
    ))
    .json();
    for key in ["flops", "bytes", "exponentials"] {
        assert_eq!(sum(key), number(&planned["work"][key]), "{key}");
    }
    assert_eq!(sum("calls"), number(&planned["work"]["launches"]));
    let traced = profile["runs"]["traced_s"].as_array().unwrap();
    assert_eq!(traced.len(), 3);
    let (host, launches): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| row["phase"] == "host");
    for (run, whole) in traced.iter().enumerate() {
        let sum = |rows: &[&Value]| rows.iter().map(|row| number(&row["seconds"][run])).sum::<f64>();
        let (launched, all) = (sum(&launches), sum(&launches) + sum(&host));
        assert!(
            launched > 0.0 && launched < all && all <= number(whole) + 1e-9,
            "{launched}, {all} of {whole} s"
        );
    }
    let passes: Vec<&str> = launches.iter().map(|row| row["pass"].as_str().unwrap()).collect();
    assert!(passes.contains(&"forward") && passes.contains(&"backward"));
    let places: Vec<&str> = host.iter().map(|row| row["kernel"].as_str().unwrap()).collect();
    assert_eq!(places, ["between launches", "between steps"]);
}

#[test]
fn every_mode_and_both_families_are_profiled() {
    for (family, mode) in
        [("led_plain", "encoder"), ("led_plain", "forward-backward"), ("bigbird_block_sparse", "train")]
    {
        let config = model(family).join("config.json");
        let line = format!("profile step --config {} --mode {mode} {SMALL} --json", config.display());
        let profile = wattention(&line).json();
        assert_eq!(profile["planned"]["difference"], Value::Null, "{family} {mode}");
        let rows = profile["rows"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["phase"] != "other"), "{family} {mode}");
    }
}

#[test]
fn generation_and_evaluation_are_profiled() {
    let config = model("led_plain").join("config.json");
    let line = format!(
        "profile generate --config {} --max-source-length 40 --max-new-tokens 3 --num-beams 2 --device cpu --seconds 0 --json",
        config.display()
    );
    let profile = wattention(&line).json();
    assert_eq!(profile["planned"]["difference"], Value::Null);
    let labels: Vec<&str> =
        profile["rows"].as_array().unwrap().iter().map(|row| row["phase"].as_str().unwrap()).collect();
    assert!(
        labels.contains(&"encoder.attention") && labels.iter().any(|label| label.starts_with("decoder."))
    );

    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led");
    let evaluated = ran(command()
        .args(["profile", "evaluate", "--dataset", "qmsum-slice", "--max-samples", "1"])
        .args(["--max-new-tokens", "2", "--max-source-length", "64", "--device", "cpu", "--seconds", "0"])
        .arg("--model")
        .arg(weights));
    evaluated.succeeds();
    assert!(evaluated.out.contains("1 examples of"), "{}", evaluated.out);
    assert!(evaluated.out.contains("as planned"), "{}", evaluated.out);
}

#[test]
fn the_trace_nests_and_has_no_holes_in_its_form() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    step(&format!("{SMALL} --trace {}", path.display())).succeeds();
    let trace: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut open: Vec<(String, f64)> = Vec::new();
    let (mut last, mut kernels, mut counters) = (0.0, 0, 0);
    for event in events {
        assert_eq!(event["pid"], 1, "{event}");
        assert!(event["name"].is_string(), "{event}");
        match event["ph"].as_str().unwrap() {
            "M" => assert!(event["args"]["name"].is_string(), "{event}"),
            "C" => {
                counters += 1;
                let values = event["args"].as_object().unwrap();
                assert!(values.values().all(|value| number(value).is_finite()), "{event}");
                assert!(number(&event["ts"]) >= last, "{event}");
            }
            "X" => {
                let (ts, dur) = (number(&event["ts"]), number(&event["dur"]));
                assert!(event["tid"] == 1 && ts >= last && dur >= 0.0, "{event}");
                last = ts;
                open.retain(|(_, end)| *end > ts + 1e-4);
                if let Some((around, end)) = open.last() {
                    assert!(ts + dur <= end + 1e-3, "{event} outlasts {around}");
                }
                let depth = ["run", "pass", "phase", "kernel"].iter().position(|cat| event["cat"] == *cat);
                let depth = depth.unwrap_or_else(|| panic!("{event}"));
                assert!(open.len() >= depth.min(1), "{event} is inside of nothing");
                kernels += usize::from(depth == 3);
                open.push((event["name"].as_str().unwrap().into(), ts + dur));
            }
            other => panic!("{other} is no phase of an event here"),
        }
    }
    // Three runs of as many launches, each with the tensors alive.
    let launches = number(&step(&format!("{SMALL} --json")).json()["planned"]["launches"]) as usize;
    assert_eq!(kernels, 3 * launches);
    assert!(counters >= kernels, "{counters} counters");
}

#[test]
fn a_planted_difference_is_marked_and_equal_profiles_have_none() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.json", "b.json"].map(|name| dir.path().join(name));
    step(&format!("{LONGER} --save {}", a.display())).succeeds();
    let mut profile: Value = serde_json::from_str(&fs::read_to_string(&a).unwrap()).unwrap();
    let compare = |by: &str| ran(command().args(["profile", "--compare"]).arg(&a).arg(&b).args(["--by", by]));
    fs::copy(&a, &b).unwrap();
    let same = compare("phase");
    same.succeeds();
    assert!(same.out.contains("no difference beyond the spread of the runs"), "{}", same.out);
    for row in profile["rows"].as_array_mut().unwrap() {
        if row["phase"] == "encoder.ffn" && row["pass"] == "forward" {
            for seconds in row["seconds"].as_array_mut().unwrap() {
                *seconds = (10.0 * number(seconds)).into();
            }
        }
    }
    profile["work"]["batch_size"] = 2.into();
    fs::write(&b, profile.to_string()).unwrap();
    let other = compare("phase");
    other.succeeds();
    let marked: Vec<&str> = other.out.lines().filter(|line| line.starts_with("*  ")).collect();
    assert!(marked.len() == 1 && marked[0].contains("encoder.ffn forward"), "{}", other.out);
    assert!(other.out.contains("not the same batch_size: 1 in A, 2 in B"), "{}", other.out);
    assert!(compare("kernel").succeeds().out.contains("matmul"));
    let json = ran(command().args(["profile", "--json", "--compare"]).arg(&a).arg(&b)).json();
    let changed: Vec<&Value> =
        json["rows"].as_array().unwrap().iter().filter(|row| row["significant"] == true).collect();
    assert_eq!(changed.len(), 1);
    assert!((number(&changed[0]["change"]) - 9.0).abs() < 1e-6);
}

#[test]
fn four_gpus_are_predicted_without_one() {
    let mut times = Vec::new();
    for gpu in ["h200", "h100", "a100", "a6000"] {
        let profile = step(&format!(
            "--plan-only --gpu {gpu} --max-source-length 40 --max-target-length 7 --precision bf16 --json"
        ))
        .json();
        assert_eq!(profile["origin"], "predicted");
        let rows = profile["rows"].as_array().unwrap();
        assert!(rows.iter().all(|row| median(&row["seconds"]) > 0.0));
        times.push(rows.iter().map(|row| median(&row["seconds"])).sum::<f64>());
    }
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
    let text =
        step("--plan-only --gpu a6000 --max-source-length 40 --max-target-length 7").succeeds().out.clone();
    assert!(text.contains("predicted: least time at the limits of a6000"), "{text}");
    assert!(text.contains("at the power limit of 300 W"), "{text}");
    // The same step by the other command.
    let config = model("led_plain").join("config.json");
    let line = format!(
        "plan --config {} --max-source-length 40 --max-target-length 7 --gpu a6000",
        config.display()
    );
    let planned = wattention(&format!("{line} --json --precision bf16")).json();
    assert!((number(&planned["predicted"]["least_s"]) / times[3] - 1.0).abs() < 1e-9);
    assert!(wattention(&line).succeeds().out.contains("predicted: "));
}

#[test]
fn a_narrow_terminal_gets_a_narrow_table() {
    let config = model("led_plain").join("config.json");
    for width in [80, 120] {
        let done = ran(command()
            .env("COLUMNS", width.to_string())
            .args(["profile", "step", "--by", "both", "--config"])
            .arg(&config)
            .args(SMALL.split_whitespace()));
        let longest = table(&done.succeeds().out).len();
        assert!(longest > 10, "{}", done.out);
        let lines = done.out.lines().skip(3).take_while(|line| !line.starts_with("run "));
        assert!(lines.clone().all(|line| line.chars().count() <= width), "{}", done.out);
    }
}

#[test]
fn limits_from_a_file_give_percentages() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limits.json");
    let limits = r#"{"device": "cpu", "origin": "measured", "memory": null, "bandwidth": 1e12, "fma": 1e13, "fp32": 1e13,
        "tf32": null, "bf16": null, "exponentials": 1e12, "launch_s": 1e-9, "power_limit_w": null}"#;
    fs::write(&path, limits).unwrap();
    let profile = step(&format!("{SMALL} --json --limits {}", path.display())).json();
    let launches = profile["rows"].as_array().unwrap().iter().filter(|row| row["phase"] != "host");
    for row in launches {
        let least: f64 = row["least_s"].as_object().unwrap().values().map(number).sum();
        assert!(least > 0.0 && least < median(&row["seconds"]), "{row}");
    }
    let text = step(&format!("{SMALL} --limits {}", path.display())).succeeds().out.clone();
    assert!(text.contains("of limit") && text.contains(" memory"), "{text}");
}

#[test]
fn what_cannot_be_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display();
    wattention("profile").fails(2, &["profile step", "--compare A.json B.json"]);
    wattention("profile step").fails(2, &["--model"]);
    step("--batch-size 1,2").fails(2, &["one combination of sizes", "bench step"]);
    step("--by layer").fails(2, &["--by", "phase", "kernel", "both"]);
    step("--plan-only").fails(2, &["--gpu"]);
    step("--gpu h200").fails(2, &["--plan-only"]);
    step("--plan-only --gpu b300").fails(2, &["'b300'", "h200, h100, a100, a6000"]);
    step("--plan-only --gpu h200 --trace x.json").fails(2, &["--trace"]);
    step("--seconds -1").fails(2, &["--seconds"]);
    step("--energy sometimes").fails(2, &["replayed", "in-place"]);
    step("--trials 0").fails(2, &["--trials"]);
    step("--max-source-length 65").fails(2, &["--max-source-length 65", "64 positions"]);
    step(&format!("{SMALL} --trace {folder}/none/x.json")).fails(74, &["none"]);
    step(&format!("{SMALL} --trace {folder}/x.json --save {folder}/x.json")).fails(2, &["same file"]);
    step(&format!("{SMALL} --limits {folder}/none.json")).fails(66, &["none.json"]);
    wattention("profile --compare a.json").fails(2, &["2 values"]);
    wattention(&format!("profile --compare {folder}/a.json {folder}/b.json")).fails(66, &["a.json"]);
    let path = dir.path().join("wrong.json");
    fs::write(&path, "{\"rows\": 3}").unwrap();
    let twice = format!("profile --compare {0} {0}", path.display());
    wattention(&twice).fails(65, &["wrong.json", "this is no profile", "--save"]);
}

#[test]
fn joules_of_a_recorded_counter_close_by_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meter.jsonl");
    // 50 W in steps of 5 ms.
    let lines: Vec<String> = (0..400)
        .map(|i| format!("{{\"time_s\": {}, \"energy_j\": {}}}\n", f64::from(i) * 0.005, f64::from(i) * 0.25))
        .collect();
    fs::write(&path, lines.concat()).unwrap();
    let config = model("led_plain").join("config.json");
    let run = |flags: &str| {
        ran(command()
            .env("WATTENTION_METER", format!("replay:{}", path.display()))
            .args(["profile", "step", "--mode", "forward", "--config"])
            .arg(&config)
            .args(SMALL.split_whitespace())
            .args(["--replay-seconds", "0.2", "--trials", "2", "--cooldown", "0", "--in-place-seconds", "2"])
            .args(flags.split_whitespace()))
    };
    let energy = run("--json -q").json()["energy"].clone();
    assert!(energy["sensor"].as_str().unwrap().contains("replay"), "{energy}");
    let replayed = &energy["replayed"];
    let phases = replayed["phases"].as_array().unwrap();
    for phase in phases {
        let power = number(&phase["power_w"]);
        assert!((power - 50.0).abs() < 5.0, "{phase}");
        assert!((number(&phase["energy_j"]) - power * number(&phase["time_s"])).abs() < 1e-9, "{phase}");
    }
    let sum: f64 = phases.iter().map(|phase| number(&phase["energy_j"])).sum();
    let whole = number(&replayed["step"]["energy_j"]);
    assert!((sum + number(&replayed["residual_j"]) - whole).abs() < 1e-9, "{replayed}");
    let in_place = &energy["in_place"];
    assert!((number(&in_place["step"]["power_w"]) - 50.0).abs() < 5.0, "{in_place}");
    let text = run("--energy replayed -q").succeeds().out.clone();
    assert!(text.contains("replayed: the phases' sum is") && !text.contains("in place:"), "{text}");
    let none = run("--energy none -q").succeeds().out.clone();
    assert!(!none.contains("replayed"), "{none}");
}

#[test]
fn without_a_sensor_the_reason_is_said_once() {
    let config = model("led_plain").join("config.json");
    let done = ran(command()
        .env("WATTENTION_METER", "none")
        .args(["profile", "step", "--mode", "encoder", "--config"])
        .arg(&config)
        .args(SMALL.split_whitespace()));
    assert_eq!(done.succeeds().out.matches("energy    n/a: ").count(), 1, "{}", done.out);
    let wrong =
        ran(command().env("WATTENTION_METER", "x").args(["profile", "step", "--config"]).arg(&config));
    wrong.fails(2, &["WATTENTION_METER"]);
}
