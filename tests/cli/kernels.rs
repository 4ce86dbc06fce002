//! `bench kernels`.

use super::wattention;
use serde_json::Value;

#[test]
fn the_cases_of_one_op_are_timed_kernel_by_kernel() {
    let line = "bench kernels --op layer_norm --case Both --warmup-ms 0 --time-ms 0 --device cpu --json";
    let report: Value = serde_json::from_str(&wattention(line).succeeds().out).unwrap();
    let kernels = report["kernels"].as_array().unwrap();
    for kernel in ["layer_norm_fwd", "layer_norm_bwd"] {
        let own: Vec<&Value> = kernels.iter().filter(|row| row["kernel"] == kernel).collect();
        assert!(own.len() > 1, "{kernel} in {report}");
        assert!(own.iter().all(|row| row["median_s"].as_f64().unwrap() > 0.0 && row["runs"] == 1));
    }
    assert!(kernels.iter().all(|row| row["op"] == "layer_norm"), "{report}");
}

#[test]
fn a_name_that_is_not_there_is_answered_with_those_that_are() {
    wattention("bench kernels --op layernorm").fails(2, &["'layernorm'", "layer_norm"]);
    wattention("bench kernels --case nowhere").fails(2, &["--case"]);
}
