//! `bench step` and `bench generate`: one row or many, what each costs, and in which form.

use super::csv::csv_rows;
use super::scalar::assert_near;
use super::{Ran, command, median, model, ran};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

const QUICK: &str = "--device cpu --threads 1 --warmup 0 --max-source-length 40";

fn bench(what: &str, flags: &str) -> Ran {
    with(what, flags, |_| ())
}

fn with(what: &str, flags: &str, more: impl Fn(&mut std::process::Command)) -> Ran {
    let config = model("led_plain").join("config.json");
    let mut told = command();
    told.args(["bench", what, "--config"]).arg(config).args(QUICK.split_whitespace());
    told.args(flags.split_whitespace());
    if what == "step" && !flags.contains("--max-target-length") {
        told.args(["--max-target-length", "7"]);
    }
    more(&mut told);
    ran(&mut told)
}

#[track_caller]
fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {row}"))
}

fn rows(report: &Map<String, Value>) -> Vec<Value> {
    report["rows"].as_array().unwrap().clone()
}

#[test]
fn a_scan_has_a_row_for_each_combination_and_one_alone_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("rows.csv");
    let asked = "--mode encoder,train,encoder --batch-size 1,2 --precisions fp32,bf16 --repeat 2 \
                 --max-target-length 7";
    let report = with("step", &format!("{asked} --json"), |told| {
        told.arg("--csv").arg(&csv);
    });
    let report = report.json();
    let rows = rows(&report);
    let sizes: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["precision"].as_str().unwrap(),
                row["mode"].as_str().unwrap(),
                row["batch_size"].as_u64().unwrap(),
            )
        })
        .collect();
    let of = |precision| {
        [("encoder", 1), ("encoder", 2), ("train", 1), ("train", 2)].map(|(m, b)| (precision, m, b))
    };
    assert_eq!(sizes, [of("fp32"), of("bf16")].concat());
    for row in &rows {
        let samples = number(row, "samples_per_second") * median(&row["seconds"]);
        assert!((samples / number(row, "batch_size") - 1.0).abs() < 1e-9, "{row}");
        assert_eq!(row["peak_bytes"].is_null(), row["peak_bytes_missing"].is_string(), "{row}");
        assert!(row["limits"].is_null(), "said once");
    }
    let text = fs::read_to_string(&csv).unwrap();
    let lines = csv_rows(&text);
    assert_eq!(lines.len(), 9);
    for (line, row) in lines[1..].iter().zip(&rows) {
        assert_eq!(line.len(), lines[0].len(), "{line:?}");
        let field = |name: &str| line[lines[0].iter().position(|title| title == name).unwrap()].as_str();
        assert_eq!(field("median_s").parse::<f64>().unwrap(), number(row, "median_s"));
        assert_eq!(field("mode"), row["mode"].as_str().unwrap());
        assert!(field("mfu").starts_with("n/a: measure them with"), "{line:?}");
    }
    // One combination, however it was asked for, has its keys at the top.
    let one = bench("step", "--mode encoder,encoder --repeat 2 --json").json();
    assert!(!one.contains_key("rows") && one["median_s"].as_f64().unwrap() > 0.0, "{one:?}");
    assert_eq!((one["seconds"].as_array().unwrap().len(), one["batch_size"].as_u64()), (2, Some(1)));

    let table = with("step", asked, |told| {
        told.env("COLUMNS", "300");
    });
    let rows =
        table.succeeds().out.lines().filter(|line| line.contains("  fp32  ") || line.contains("  bf16  "));
    assert_eq!(rows.count(), 8, "{}", table.out);
    assert!(table.out.contains("\nn/a in mfu: measure them"), "{}", table.out);
    assert!(
        table.err.contains("8 of 8: ") && table.err.contains("train, 2 x 40 to 7, bf16"),
        "{}",
        table.err
    );
}

#[test]
fn every_row_has_its_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let told = |flags: &str| {
        with("generate", &format!("--max-new-tokens 3 --repeat 2 {flags}"), |told| {
            told.arg("--baseline-dir").arg(dir.path());
        })
    };
    told("--num-beams 1,2 --save-baseline main").succeeds();
    let path = dir.path().join("main/generate.json");
    let mut kept: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    // Planted: the first row took a thousandth of the time then, the second a thousand times as long.
    for (row, factor) in kept["rows"].as_array_mut().unwrap().iter_mut().zip([0.001, 1000.0]) {
        for key in ["min_s", "p20_s", "median_s", "p80_s", "max_s"] {
            row[key] = Value::from(number(row, key) * factor);
        }
    }
    fs::write(&path, kept.to_string()).unwrap();
    let judged = told("--num-beams 1,2,3 --baseline main");
    assert_eq!(judged.code, Some(1), "{}", judged.err);
    let slower = judged.err.lines().last().unwrap();
    assert!(slower.contains("1 beams, fp32") && !slower.contains("2 beams"), "{slower}");
    let line = |beams: &str, verdict: &str| {
        judged.out.lines().any(|line| line.contains(beams) && line.ends_with(verdict))
    };
    assert!(
        line("1 beams, fp32", "slower")
            && line("2 beams, fp32", "faster")
            && line("3 beams, fp32", "not in the baseline"),
        "{}",
        judged.out
    );
}

#[test]
fn a_row_that_does_not_fit_leaves_the_others() {
    let report = bench("step", "--mode encoder --repeat 1 --batch-size 999999999,1 --json").json();
    assert_eq!(rows(&report).len(), 1);
    let why = report["unmeasured"][0]["why"].as_str().unwrap();
    assert!(why.contains("999999999 x 40") && why.contains("smaller --batch-size"), "{why}");
    let text = bench("step", "--mode encoder --repeat 1 --batch-size 999999999,1");
    assert!(text.succeeds().out.contains("n/a: ") && text.out.contains("999999999 x 40"), "{}", text.out);
    bench("step", "--batch-size 999999999").fails(75, &["999999999 x 40"]);
    bench("step", "--batch-size 999999999,888888888").fails(75, &["no row fits", "999999999 x 40"]);
}

#[test]
fn memory_of_a_later_row_is_its_own_or_not_said() {
    // Each row ends with 256 MiB that are read for the limit of memory, after the mark was looked at.
    let report = bench("generate", "--max-new-tokens 2 --repeat 1 --batch-size 1,2 --json").json();
    for row in rows(&report) {
        match row["peak_bytes"].as_u64() {
            Some(bytes) => assert!(bytes > 1 << 20 && bytes < 200 << 20, "{bytes}"),
            None => assert!(row["peak_bytes_missing"].as_str().unwrap().contains("a command of its own")),
        }
    }
}

#[test]
fn utilisation_counts_the_operations_that_a_run_launches() {
    let dir = tempfile::tempdir().unwrap();
    let limits = dir.path().join("limits.json");
    let told = r#"{"device": "cpu", "origin": "measured", "memory": null, "bandwidth": 1e9, "fma": 1e9, "fp32": 1e9,
        "tf32": null, "bf16": null, "exponentials": 1e9, "launch_s": 1e-9, "power_limit_w": null}"#;
    fs::write(&limits, told).unwrap();
    let run = |what: &str, flags: &str| {
        Value::Object(
            with(what, &format!("{flags} --json"), |told| {
                told.arg("--limits").arg(&limits);
            })
            .json(),
        )
    };
    // What the launches of a profiled generation add up to, each step at its own cost.
    let config = model("led_plain").join("config.json");
    let mut profiled = command();
    profiled.args(["profile", "generate", "--config"]).arg(config);
    profiled.args(
        "--device cpu --max-source-length 40 --max-new-tokens 9 --num-beams 2 --seconds 0 --json".split(' '),
    );
    let profile = ran(&mut profiled).json();
    let launched: f64 = profile["rows"].as_array().unwrap().iter().map(|row| number(row, "flops")).sum();
    let generated = run("generate", "--max-new-tokens 9 --num-beams 2 --repeat 2");
    assert_eq!(number(&generated, "flops"), launched);
    for row in [generated, run("step", "--mode forward --repeat 2")] {
        let mfu = number(&row, "flops") / number(&row, "median_s") / 1e9;
        assert!((number(&row, "mfu") / mfu - 1.0).abs() < 1e-9, "{row}");
    }
}

#[test]
fn joules_of_a_sample_and_of_a_token_are_those_of_the_meter() {
    let dir = tempfile::tempdir().unwrap();
    let meter = constant(dir.path(), 50.0);
    let measured = |what: &str, flags: &str| {
        let told = with(what, &format!("{flags} --json"), |told| {
            told.env("WATTENTION_METER", format!("replay:{}", meter.display()));
        });
        Value::Object(told.json())
    };
    let step = measured("step", "--batch-size 2 --repeat 60");
    let mean = step["seconds"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).sum::<f64>() / 60.0;
    assert_near(number(&step, "joules_per_sample"), 50.0 * mean / 2.0, 0.1);
    assert_near(40.0 * number(&step, "joules_per_token"), number(&step, "joules_per_sample"), 1e-9);
    let generated = measured("generate", "--max-new-tokens 5 --repeat 60");
    let mean =
        generated["seconds"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).sum::<f64>() / 60.0;
    assert_near(number(&generated, "joules_per_sample"), 50.0 * mean, 0.1);
    assert_near(5.0 * number(&generated, "joules_per_token"), number(&generated, "joules_per_sample"), 1e-9);
    let text = with("generate", "--max-new-tokens 5 --repeat 60", |told| {
        told.env("WATTENTION_METER", format!("replay:{}", meter.display()));
    });
    for line in ["a sample", "a token"] {
        let found = text.succeeds().out.lines().find(|found| found.starts_with(line));
        assert!(found.is_some_and(|found| found.ends_with('J')), "{}", text.out);
    }
}

/// A recording of so many watts by a counter that moves every millisecond.
fn constant(dir: &Path, watts: f64) -> std::path::PathBuf {
    let file = dir.join("meter.jsonl");
    let line = |i: u32| {
        let time = f64::from(i) * 1e-3;
        format!("{{\"time_s\": {time}, \"energy_j\": {}}}\n", time * watts)
    };
    fs::write(&file, (0..2000).map(line).collect::<String>()).unwrap();
    file
}

#[test]
fn what_no_row_could_be_is_refused_before_the_first() {
    let refused = |what: &str, flags: &str, code: i32, parts: &[&str]| {
        let told = bench(what, flags);
        told.fails(code, parts);
        assert!(!told.err.contains(" of 2: "), "{}", told.err);
    };
    refused("step", "--max-target-length 7,8", 2, &["7,8"]);
    refused("step", "--batch-size 1,0", 2, &["--batch-size"]);
    refused("step", "--mode train,sideways", 2, &["sideways", "forward-backward"]);
    refused("step", "--precisions fp32,fp8", 2, &["fp8"]);
    refused("step", "--precisions fp32,tf32", 2, &["tf32", "GPUs"]);
    refused("step", "--repeat 0", 2, &["--repeat"]);
    refused("step", "--model x", 2, &["--config"]);
    refused("step", "--csv nowhere/rows.csv", 74, &["nowhere", "make it first"]);
    refused("generate", "--num-beams 1,0", 2, &["--num-beams"]);
    let config = model("led_plain").join("config.json");
    let line = |flags: &str| {
        ran(command()
            .args(["bench", "step", "--device", "cpu", "--config"])
            .arg(&config)
            .args(flags.split(' ')))
    };
    line("--max-target-length 7 --max-source-length 40,65")
        .fails(2, &["--max-source-length 65", "64 positions"]);
    let two = format!("{},nowhere.json", config.display());
    let mut told = command();
    told.args(["bench", "step", "--device", "cpu", "--config", &two]);
    let told = ran(told.args(["--max-source-length", "40", "--max-target-length", "7"]));
    told.fails(66, &["nowhere.json"]);
}
