//! `--weights int8`: what is said with the result, the same bits by every way, and what is refused.

use super::{Ran, command, model, ran, wattention};
use serde_json::Value;
use std::fs;

const DOCUMENT: &str =
    "Who is the lamp for?\n\nThe door is green. The lamp is for the old baker. It rains.\n";

fn generate(flags: &str) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.txt");
    fs::write(&input, DOCUMENT).unwrap();
    let mut told = command();
    told.args(["generate", "--model", "small-led", "--max-new-tokens", "6", "--input"]).arg(&input);
    ran(told.args(flags.split_whitespace()))
}

#[test]
fn a_result_says_how_far_logits_moved() {
    let report = generate("--device cpu --weights int8 --json").json();
    assert_eq!(report["weights"], "int8");
    let error = &report["logit_error"];
    let number = |key: &str| error[key].as_f64().unwrap();
    assert_eq!((number("inputs"), number("tokens")), (1.0, 8.0));
    assert!(number("largest") > 0.0 && number("relative") > 0.0 && number("relative") < 0.1, "{error}");
    assert!((0.5..=1.0).contains(&number("same_next")), "{error}");
    let stored = generate("--device cpu --json").json();
    assert!(stored["weights"] == "stored" && !stored.contains_key("logit_error"), "{stored:?}");
    let said = generate("--device cpu --weights int8");
    assert!(said.succeeds().err.contains("int8 weights: logits within "), "{}", said.err);
}

#[test]
fn every_way_and_every_number_of_threads_answers_the_same() {
    let of = |flags: &str| {
        let report = generate(&format!("--device cpu --weights int8 --json {flags}")).json();
        (report["predictions"].clone(), report["logit_error"]["inputs"].clone())
    };
    let want = of("");
    for flags in ["--threads 1", "--threads 3", "--cpu-features -avx512-vnni", "--cpu-features +amx-twin"] {
        assert_eq!(of(flags), want, "{flags}");
    }
}

#[test]
fn scores_stay_near_those_of_the_stored_weights() {
    let of = |weights: &str| {
        let line = format!(
            "evaluate --device cpu --model small-led --dataset needle-qa --max-samples 8 --max-source-length 1024 \
             --max-new-tokens 8 --json --weights {weights}"
        );
        wattention(&line).json()
    };
    let (stored, int8) = (of("stored"), of("int8"));
    let number = |report: &serde_json::Map<String, Value>, key: &str| report[key].as_f64().unwrap();
    // One of eight answers, at most.
    assert!((number(&int8, "f1") - number(&stored, "f1")).abs() <= 12.5, "{int8:?} {stored:?}");
    let logits = int8["logit_error"]["largest"].as_f64().unwrap();
    assert!(logits > 0.0 && int8["weights"] == "int8" && !stored.contains_key("logit_error"), "{int8:?}");
}

#[test]
fn a_benchmark_has_a_row_for_each() {
    let config = model("led_plain").join("config.json");
    let sizes =
        "--device cpu --threads 1 --max-source-length 40 --max-new-tokens 3 --warmup 0 --repeat 2 --json";
    let mut told = command();
    told.args(["bench", "generate", "--weights", "stored,int8", "--config"]).arg(config);
    let report = ran(told.args(sizes.split_whitespace())).json();
    let [stored, int8] = &report["rows"].as_array().unwrap()[..] else { panic!("{report:?}") };
    assert_eq!((&stored["weights"], &int8["weights"]), (&"stored".into(), &"int8".into()));
    assert_eq!(
        int8["name"],
        format!("{}, int8 weights, fp32", stored["name"].as_str().unwrap().trim_end_matches(", fp32"))
    );
    assert_ne!(stored["products"], int8["products"]);
    let read = |row: &Value| row["step_bytes"]["weights"].as_u64().unwrap_or_else(|| panic!("{row}"));
    assert!(read(int8) < read(stored) / 2, "{} of {}", read(int8), read(stored));
    let gemm = "bench gemm --device cpu --threads 1 --sizes 3x64x96 --seconds 0.01 --warmup-seconds 0 --weights stored,int8 --json";
    let rows = wattention(gemm).json()["rows"].clone();
    let bytes: Vec<u64> = rows.as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).collect();
    assert_eq!(bytes, [4 * (3 * 96 + 64 * 96 + 3 * 64), 4 * (3 * 96 + 3 * 64) + 64 * 96 + 64 * 4]);
}

#[test]
fn training_and_other_devices_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("run");
    let why = ["--weights int8", "are not trained", "--precision fp32 or bf16", "generate or evaluate"];
    for line in ["finetune --model tiny-led --dataset needle-qa", "study"] {
        let mut told = command();
        told.args(line.split_whitespace()).args(["--weights", "int8", "--output-dir"]).arg(&output);
        ran(&mut told).fails(2, &why);
        assert!(!output.exists(), "{line} wrote something");
    }
    wattention("generate --model tiny-led --input x.txt --weights int4")
        .fails(2, &["int4", "stored", "int8"]);
    let predicted = "profile generate --model tiny-led --plan-only --gpu h200 --weights int8";
    wattention(predicted).fails(2, &["h200 has no kernels for int8 weights", "--device cpu"]);
    if cfg!(wattention_sim) {
        generate("--device sim --weights int8").fails(2, &["sim has no kernels for int8 weights"]);
        let gemm = "bench gemm --device sim --sizes 3x64x96 --weights int8";
        wattention(gemm).fails(2, &["sim has no kernels for int8 weights"]);
    }
}
