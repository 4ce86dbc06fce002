//! `bench`: scans, files, FLOPs against closed forms, limits and baselines.

use super::csv::csv_rows;
use super::{Ran, command, median, ran, wattention};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

const SIZE: &str = "32x32x32";
const QUICK: &str = "--device cpu --threads 1 --seconds 0 --warmup-seconds 0 --no-flush";

fn attention(flags: &str) -> Map<String, Value> {
    wattention(&format!("bench attention {QUICK} --json {flags}")).json()
}

fn rows(report: &Map<String, Value>) -> &Vec<Value> {
    report["rows"].as_array().unwrap()
}

/// The one row of this kind, pass and length.
#[track_caller]
fn row<'a>(report: &'a Map<String, Value>, kind: &str, pass: &str, length: u64) -> &'a Value {
    let own = |row: &&Value| row["kind"] == kind && row["pass"] == pass && row["length"] == length;
    let found: Vec<&Value> = rows(report).iter().filter(own).collect();
    assert_eq!(found.len(), 1, "{kind} {pass} {length} in {report:?}");
    found[0]
}

#[test]
fn flops_are_those_inside_the_pattern() {
    // Pairs of LED's band and of BigBird's blocks in closed form: 1025 L - 512 * 513 from 1024 tokens on, and
    // 64 (2 L + 2 * 448 + (L / 64 - 4) 512) where no block is drawn twice; 4 D FLOPs a pair forward, 10 D backward.
    let report = attention("--lengths 1024,2048 --heads 1 --pass forward,backward,both --globals 0");
    for length in [1024, 2048] {
        let of = |kind: &str| {
            ["forward", "backward", "both"]
                .map(|pass| row(&report, kind, pass, length)["flops"].as_u64().unwrap())
        };
        let expected = |pairs: u64| [256 * pairs, 640 * pairs, 896 * pairs];
        assert_eq!(of("window"), expected(1025 * length - 512 * 513));
        assert_eq!(of("dense"), expected(length * length));
        let blocks = expected(64 * (2 * length + 2 * 448 + (length / 64 - 4) * 512));
        // At 1024 tokens BigBird's first plan may draw a block of the window, which is then seen once.
        match length {
            2048 => assert_eq!(of("block-sparse"), blocks),
            _ => assert!(of("block-sparse")[0] <= blocks[0] && of("block-sparse")[0] * 10 > blocks[0] * 9),
        }
        assert_eq!(row(&report, "window", "forward", length)["exponentials"], 1025 * length - 512 * 513);
    }
}

#[test]
fn a_scan_is_one_command_and_a_size_without_meaning_is_measured_once() {
    let report = attention(
        "--kind dense,window,decode --lengths 64,128 --batch-size 1,2 --heads 2 --head-size 16,8 --window 4,16 \
         --pass forward,both",
    );
    let count = |kind: &str| rows(&report).iter().filter(|row| row["kind"] == kind).count();
    // 2 lengths, 2 batches, 2 head sizes; windows double the one kind, and decoding has no backward pass.
    assert_eq!((count("dense"), count("window"), count("decode")), (16, 32, 8));
    for row in rows(&report) {
        let at = |key: &str| row[key].as_f64().unwrap();
        assert!(at("min_s") > 0.0 && at("min_s") <= at("median_s") && at("median_s") <= at("max_s"), "{row}");
        if row["kind"] == "dense" && row["pass"] == "forward" {
            // Two products of L x L x D for every head and input.
            let flops = 4.0 * at("length").powi(2) * at("head_size") * at("heads") * at("batch_size");
            let rate = flops / at("median_s") / 1e9;
            assert!((at("gflops_per_second") - rate).abs() < 1e-9 * rate, "{row}");
        }
        assert!(row["share_of_limit"].is_null() && row["runs"].as_u64().unwrap() >= 3, "{row}");
    }
    assert!(
        report["limits"].as_str().unwrap().starts_with("n/a: measure them with `bench limits"),
        "{report:?}"
    );
    let both = row(
        &attention("--kind global --lengths 64 --heads 2 --head-size 8 --pass both"),
        "global",
        "both",
        64,
    )
    .clone();
    assert!(both["flops"].as_u64().unwrap() > 0);
}

#[test]
fn every_precision_runs_the_same_ops() {
    let report = attention(
        "--kind window,decode --lengths 70 --heads 2 --head-size 16 --pass forward --precisions fp32,bf16",
    );
    let formats: Vec<&str> = rows(&report).iter().map(|row| row["precision"].as_str().unwrap()).collect();
    assert_eq!(formats, ["fp32", "fp32", "bf16", "bf16"]);
}

#[test]
fn the_table_the_csv_and_the_drawing_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, svg) = (dir.path().join("rows.csv"), dir.path().join("plot.svg"));
    let line = format!(
        "bench attention {QUICK} --kind window,dense --lengths 64,128 --heads 2 --head-size 16 --window 8"
    );
    let mut told = command();
    told.args(line.split_whitespace()).arg("--csv").arg(&csv).arg("--svg").arg(&svg);
    let told = ran(told.env("COLUMNS", "300"));
    told.succeeds();
    assert_eq!(told.out.lines().count(), 1 + 1 + 8 + 1, "{}", told.out);
    assert!(told.out.contains("\nn/a in of limit: measure them with `bench limits"), "{}", told.out);
    assert!(told.out.contains("window 8, 1 global") && told.out.contains("GFLOP/s"), "{}", told.out);
    assert!(told.err.contains("warning: window forward, 1 x 64"), "three runs are few: {}", told.err);
    let csv = fs::read_to_string(csv).unwrap();
    let lines = csv_rows(&csv);
    assert_eq!(lines.len(), 9);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{csv}");
    let field = |line: usize, name: &str| {
        lines[line][lines[0].iter().position(|title| title == name).unwrap()].as_str()
    };
    assert_eq!((field(1, "kind"), field(1, "pattern")), ("window", "window 8, 1 global"));
    assert!(
        field(1, "share_of_limit").starts_with("n/a: ") && field(1, "bound").starts_with("n/a: "),
        "{csv}"
    );
    let svg = fs::read_to_string(svg).unwrap();
    for name in ["window forward", "window backward", "dense forward", "dense backward"] {
        assert!(svg.contains(&format!(">{name}</text>")), "{name}");
    }
    assert_eq!(svg.matches(" GFLOP/s, ").count(), 8, "a marker for every row says its rate");
    assert!(svg.starts_with("<svg ") && svg.contains("prefers-color-scheme:dark") && !svg.contains("NaN"));
}

#[test]
fn products_are_measured_and_compared_with_limits() {
    let dir = tempfile::tempdir().unwrap();
    let limits = dir.path().join("limits.json");
    // A processor of 1 GFLOP/s and 1 GB/s.
    let told = r#"{"device": "somewhere else", "origin": "measured", "memory": null, "bandwidth": 1e9, "fma": 1e9,
        "fp32": 1e9, "tf32": null, "bf16": null, "exponentials": 1e9, "launch_s": 1e-9, "power_limit_w": null}"#;
    fs::write(&limits, told).unwrap();
    let with = |line: &str| {
        let mut told = command();
        told.args(line.split_whitespace()).arg("--limits").arg(&limits);
        ran(&mut told)
    };
    let ran = with(&format!("bench gemm {QUICK} --sizes 64x96x128,1x96x128 --json"));
    assert!(ran.err.contains("the limits are of 'somewhere else'"), "{}", ran.err);
    let report = ran.json();
    let [wide, thin] = &rows(&report)[..] else { panic!("{report:?}") };
    for (row, [m, n, k], bound) in [(wide, [64, 96, 128], "fma"), (thin, [1, 96, 128], "memory")] {
        let (flops, bytes) = (2 * m * n * k, 4 * (m * k + n * k + m * n));
        assert_eq!((row["flops"].as_u64(), row["bytes"].as_u64()), (Some(flops), Some(bytes)));
        let least = flops.max(bytes) as f64 / 1e9;
        let share = least / row["median_s"].as_f64().unwrap();
        assert!((row["share_of_limit"].as_f64().unwrap() / share - 1.0).abs() < 1e-9, "{row}");
        assert_eq!(row["bound"], bound);
    }
    // Each format once, in the order asked for.
    let formats = "--precisions bf16,fp32,bf16";
    let report = with(&format!("bench gemm {QUICK} --sizes 8x8x8 {formats} --json")).json();
    let formats: Vec<&Value> = rows(&report).iter().map(|row| &row["precision"]).collect();
    assert_eq!(formats, ["bf16", "fp32"]);
    let report =
        with(&format!("bench attention {QUICK} --kind dense --lengths 64 --heads 1 --pass forward --json"))
            .json();
    let share = row(&report, "dense", "forward", 64)["share_of_limit"].as_f64().unwrap();
    assert!(share > 0.0 && share.is_finite());
}

#[test]
fn what_limits_finds_is_what_other_commands_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("limits.json");
    let mut measuring = command();
    measuring
        .args("bench limits --device cpu --threads 1 --seconds 0.01 --json --save".split_whitespace())
        .arg(&file);
    let report = ran(&mut measuring).json();
    assert_eq!(report["origin"], "measured");
    for rate in ["bandwidth", "fma", "fp32", "bf16", "exponentials", "launch_s"] {
        assert!(report[rate].as_f64().unwrap() > 0.0, "{rate} in {report:?}");
    }
    let mut names: Vec<&str> =
        report["rates"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    // Of a processor with instructions for bf16 that are faster than multiply-adds, and with one for bytes.
    let of_bytes = names.contains(&"products of bytes");
    assert_eq!(report["int8"].as_f64().is_some_and(|rate| rate > 0.0), of_bytes, "{report:?}");
    names.retain(|name| !["pairs of bf16", "tiles of bf16", "products of bytes"].contains(name));
    assert_eq!(names, ["copy", "read", "products fp32", "products bf16", "FMA", "exponentials", "launch"]);
    let mut reading = command();
    let line = format!("bench gemm {QUICK} --sizes 512x512x512 --json --limits");
    reading.args(line.split_whitespace()).arg(&file);
    let gemm = ran(&mut reading);
    assert!(!gemm.err.contains("the limits are of"), "the same device and threads: {}", gemm.err);
    assert_eq!(gemm.json()["limits_origin"], "measured");
    let mut bytes = command();
    bytes.args(line.split_whitespace()).arg(&file).args(["--weights", "int8"]);
    let report = ran(&mut bytes).json();
    let row = &rows(&report)[0];
    let share = row["share_of_limit"].as_f64().unwrap();
    assert!(share > 0.0 && (!of_bytes || row["bound"] != "launch"), "{row}");
    wattention("bench limits --device sim --seconds 0").fails(2, &["simulator", "cpu or cuda"]);
}

/// `bench gemm` of one size with its baselines in `dir`.
fn with_baselines(dir: &Path, size: &str, flags: &str) -> Ran {
    let mut told = command();
    let line = format!("bench gemm {QUICK} --sizes {size} --tolerance 5 {flags} --baseline-dir");
    told.args(line.split_whitespace()).arg(dir);
    ran(&mut told)
}

#[test]
fn a_baseline_gives_a_verdict_and_a_regression_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    with_baselines(dir.path(), SIZE, "--save-baseline main").succeeds();
    let path = dir.path().join("main/gemm.json");
    let kept: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(kept["rows"][0]["name"], "32x32x32 fp32");
    // Planted: what took a thousand times as long then is faster now, and the other way round.
    let plant = |factor: f64| {
        let mut planted = kept.clone();
        for key in ["min_s", "p20_s", "median_s", "p80_s", "max_s"] {
            let value = planted["rows"][0][key].as_f64().unwrap();
            planted["rows"][0][key] = Value::from(value * factor);
        }
        fs::write(&path, planted.to_string()).unwrap();
    };
    plant(1000.0);
    let faster = with_baselines(dir.path(), SIZE, "--baseline main --json").json();
    assert_eq!(faster["comparison"]["rows"][0]["verdict"], "faster");
    plant(0.001);
    let slower = with_baselines(dir.path(), SIZE, "--baseline main");
    assert_eq!(slower.code, Some(1), "{}", slower.err);
    assert!(
        slower.out.contains("slower")
            && slower.err.contains("slower than the baseline 'main': 32x32x32 fp32")
    );
}

#[test]
fn what_does_not_compare_is_said() {
    let dir = tempfile::tempdir().unwrap();
    with_baselines(dir.path(), SIZE, "--save-baseline main").succeeds();
    let path = dir.path().join("main/gemm.json");
    let text = fs::read_to_string(&path).unwrap();
    with_baselines(dir.path(), "8x8x8", "--baseline main")
        .fails(2, &["none of these sizes", "32x32x32 fp32"]);
    fs::write(&path, text.replace(", 1 thread\"", ", 64 threads\"")).unwrap();
    with_baselines(dir.path(), SIZE, "--baseline main")
        .fails(2, &["64 threads", "do not compare", "--save-baseline"]);
    with_baselines(dir.path(), SIZE, "--baseline other").fails(66, &["no such baseline", "--save-baseline"]);
    with_baselines(dir.path(), SIZE, "--save-baseline ../x").fails(2, &["'../x'", "letters"]);
}

#[test]
fn wrong_sizes_are_refused_in_words() {
    let refused = |flags: &str, code: i32, parts: &[&str]| {
        wattention(&format!("bench attention --device cpu --seconds 0 {flags}")).fails(code, parts);
    };
    refused("--kind block-sparse --lengths 1000", 2, &["1000", "multiple of 64"]);
    refused("--kind window --lengths 64 --head-size 256", 2, &["256", "128"]);
    refused("--kind window --lengths 8 --globals 9", 2, &["9 global tokens", "8"]);
    refused("--kind global --lengths 64 --globals 0", 2, &["--globals 1"]);
    refused("--kind decode --pass backward", 2, &["decode has no backward", "--pass"]);
    refused("--kind dense --lengths 99999999999", 75, &["99999999999", "fewer"]);
    wattention("bench gemm --device cpu --sizes 99999999x99999999x8").fails(75, &["99999999x", "fewer"]);
    refused("--limits nowhere.json", 66, &["nowhere.json"]);
    refused("--svg nowhere/plot.svg", 74, &["nowhere/plot.svg", "make it first"]);
    for line in [
        "bench attention --kind sliding",
        "bench attention --pass up",
        "bench attention --lengths 0",
        "bench attention --lengths 1,,2",
        "bench attention --seconds -1",
        "bench attention --seconds nan",
        "bench gemm --sizes 1x2",
        "bench gemm --tolerance nan",
    ] {
        assert_eq!(wattention(line).code, Some(2), "{line}");
    }
}

#[test]
fn a_step_and_a_generation_say_what_they_cost() {
    let config = super::model("led_plain").join("config.json");
    let told = |what: &str, flags: &str| {
        let mut told = command();
        told.args(["bench", what, "--config"]).arg(&config).args(flags.split_whitespace());
        told.args(
            "--device cpu --threads 1 --warmup 0 --repeat 2 --max-source-length 40 --json".split_whitespace(),
        );
        ran(&mut told).json()
    };
    let step = told("step", "--max-target-length 7 --batch-size 2");
    let rate = |report: &Map<String, Value>, key: &str| report[key].as_f64().unwrap();
    assert!((rate(&step, "tokens_per_second") * median(&step["seconds"]) / 80.0 - 1.0).abs() < 1e-9);
    assert!(step["mfu"].is_null() && step["limits"].as_str().unwrap().starts_with("n/a"));
    let generation = told("generate", "--max-new-tokens 4");
    assert!(
        (rate(&generation, "tokens_per_second") * median(&generation["seconds"]) / 4.0 - 1.0).abs() < 1e-9
    );
    // Three steps follow the first token.
    let pairs = generation["seconds"]
        .as_array()
        .unwrap()
        .iter()
        .zip(generation["first_token_seconds"].as_array().unwrap());
    let steps: Vec<f64> = pairs.map(|(a, b)| (a.as_f64().unwrap() - b.as_f64().unwrap()) / 3.0).collect();
    assert!((rate(&generation, "step_median_s") / median(&steps.into()) - 1.0).abs() < 1e-9);
    for report in [step, generation] {
        // Two runs of a tiny model are shorter than any counter's window.
        assert!(
            report["joules_per_sample"].is_null() && !report["energy"]["note"].as_str().unwrap().is_empty()
        );
    }
}
