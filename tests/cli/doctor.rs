use super::{command, ran, wattention};
use serde_json::Value;

#[test]
fn it_says_what_is_here_and_what_is_missing() {
    let done = wattention("doctor");
    done.succeeds();
    for line in ["program ", "processor ", "library ", "kernels ", "simulator ", "sensor "] {
        assert!(done.out.lines().any(|l| l.starts_with(line)), "no `{line}` in {}", done.out);
    }
    let report: Value = serde_json::from_str(&wattention("doctor --json").succeeds().out).unwrap();
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
}

/// Every kernel, in every precision, through the program itself.
#[test]
fn the_self_test_passes_on_the_simulator() {
    if !cfg!(wattention_sim) {
        return println!("skipped: no simulator in this build");
    }
    for precision in ["fp32", "tf32", "bf16"] {
        let line = format!("doctor --selftest --device sim --precision {precision} --json");
        let done = ran(command().args(line.split_whitespace()));
        let report: Value = serde_json::from_str(&done.succeeds().out).unwrap();
        assert_eq!(report["failed"], 0, "{precision}");
        assert_eq!(report["precision"], precision);
        assert!(report["cases"].as_array().unwrap().len() > 100, "{precision}");
    }
}

#[test]
fn the_self_test_needs_something_to_compare() {
    wattention("doctor --selftest --device cpu")
        .fails(2, &["compares an executor with the CPU", "--device sim"]);
    let tf32 = "doctor --selftest --device cpu --precision tf32";
    wattention(tf32).fails(2, &["tf32 is a format of GPUs"]);
}
