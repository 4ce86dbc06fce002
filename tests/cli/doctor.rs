use super::{command, ran, wattention};
use serde_json::Value;

/// What the report says is compared with what the machine and the build say themselves.
#[test]
fn it_says_what_is_here_and_what_is_missing() {
    let report: Value =
        serde_json::from_str(&wattention("doctor --threads 1 --json").succeeds().out).unwrap();
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["processor"]["threads"], 1);
    assert_eq!(report["simulator"].is_null(), cfg!(wattention_sim));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let kernels: Vec<String> = super::names_in(&folder)
        .iter()
        .filter_map(|name| name.strip_suffix(".cu").map(str::to_string))
        .collect();
    let files = report["kernels"]["files"].as_array().unwrap();
    match report["kernels"]["nvcc"].as_str() {
        None => assert!(files.is_empty()),
        Some(_) => {
            let mut names: Vec<&str> = files.iter().map(|file| file["name"].as_str().unwrap()).collect();
            names.sort_unstable();
            assert_eq!(names, kernels);
        }
    }
    assert!(!report["libraries"].as_array().unwrap().is_empty());
    assert!(!report["sensors"].as_array().unwrap().is_empty());
    let text = wattention("doctor --threads 1").succeeds().out.clone();
    for said in ["version", "commit", "target"]
        .map(|key| &report[key])
        .into_iter()
        .chain(report["sensors"].as_array().unwrap())
    {
        assert!(text.contains(said.as_str().unwrap()), "no {said} in {text}");
    }
}

#[test]
fn instructions_can_be_taken_away() {
    let processor = |line: &str| wattention(&format!("doctor --json {line}")).json()["processor"].clone();
    let here = processor("");
    let without = processor("--cpu-features -avx2");
    for name in ["fp32", "bf16", "int8"] {
        let product = without["products"][name].as_str().unwrap();
        assert!(!product.contains("AVX") && here["products"][name].is_string(), "{without}");
    }
    for (one, other) in
        std::iter::zip(here["instructions"].as_array().unwrap(), without["instructions"].as_array().unwrap())
    {
        assert!(!other["used"].as_bool().unwrap() && other["problem"].is_string(), "{other}");
        assert_eq!(one["used"].as_bool().unwrap(), one["problem"].is_null(), "{one}");
    }
    let names = ["avx2", "avx512", "avx512-bf16", "avx512-vnni", "amx", "amx-int8", "bf16x6", "amx-twin"];
    if cfg!(target_arch = "x86_64") {
        let twin = processor("--cpu-features -avx2,+amx-twin,+bf16x6");
        for name in ["fp32", "bf16", "int8"] {
            assert!(twin["products"][name].as_str().unwrap().ends_with("(AMX's twin)"), "{twin}");
        }
    }
    // What is asked for in vain is said: here for want of what it needs, which was taken away.
    let in_vain = wattention("doctor --cpu-features=-avx2,+avx512-bf16");
    let warning = "warning: +avx512-bf16 changes nothing: ";
    assert!(in_vain.succeeds().err.contains(warning), "{}", in_vain.err);
    if cfg!(target_arch = "x86_64") {
        let used = wattention("doctor --cpu-features +amx-twin,-amx-int8");
        assert!(!used.succeeds().err.contains("changes nothing"), "{}", used.err);
    }
    wattention("doctor --cpu-features=-sse9").fails(2, &names);
    let mut told = command();
    told.args(["doctor"]).env("WATTENTION_CPU_FEATURES", "avx2");
    ran(&mut told).fails(2, &names);
}

/// Every kernel, in every precision, through the program itself.
#[test]
fn the_self_test_passes_on_the_simulator() {
    if !cfg!(wattention_sim) {
        return println!("skipped: no simulator in this build");
    }
    // In the other precisions scripts/check.sh runs it, with sanitizers.
    let done = wattention("doctor --selftest --device sim --precision tf32x3 --json");
    let report: Value = serde_json::from_str(&done.succeeds().out).unwrap();
    assert_eq!(report["failed"], 0);
    assert_eq!(report["precision"], "tf32x3");
    assert!(report["cases"].as_array().unwrap().len() > 100);
}

#[test]
fn the_self_test_needs_something_to_compare() {
    wattention("doctor --selftest --device cpu")
        .fails(2, &["compares an executor with the CPU", "--device sim"]);
    let tf32 = "doctor --selftest --device cpu --precision tf32";
    wattention(tf32).fails(2, &["tf32 is a format of GPUs"]);
}
