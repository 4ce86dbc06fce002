//! `profile generate|evaluate --plan-only`: the work of a real run, and its least time on GPUs that are not here.

use super::{Ran, command, model, ran};
use serde_json::{Map, Value};
use std::path::Path;

fn generation(flags: &str) -> Ran {
    let config = model("led_plain").join("config.json");
    let sizes = "--batch-size 2 --max-source-length 40 --max-new-tokens 5 --num-beams 2";
    let mut told = command();
    told.args(["profile", "generate", "--config"]).arg(config);
    ran(told.args(sizes.split_whitespace()).args(flags.split_whitespace()))
}

fn evaluation(flags: &str) -> Ran {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led");
    let mut told = command();
    told.args(["profile", "evaluate", "--dataset", "qmsum-slice", "--max-samples", "3", "--batch-size", "2"]);
    told.args(["--max-source-length", "64", "--max-new-tokens", "4", "--model"]).arg(weights);
    ran(told.args(flags.split_whitespace()))
}

/// Calls, FLOPs, bytes and exponentials by phase and kernel, the host's rows left out.
fn work(profile: &Map<String, Value>) -> Vec<Vec<Value>> {
    const OF: [&str; 7] = ["phase", "pass", "kernel", "calls", "flops", "bytes", "exponentials"];
    let rows = profile["rows"].as_array().unwrap().iter().filter(|row| row["phase"] != "host");
    rows.map(|row| OF.map(|key| row[key].clone()).to_vec()).collect()
}

fn seconds(profile: &Map<String, Value>) -> f64 {
    profile["rows"].as_array().unwrap().iter().map(|row| row["seconds"][0].as_f64().unwrap()).sum()
}

#[test]
fn a_prediction_has_the_work_of_the_real_run() {
    let measured = generation("--device cpu --seconds 0 --energy none --json").json();
    let planned = generation("--plan-only --gpu h200 --json").json();
    assert_eq!(planned["origin"], "predicted");
    assert_eq!(work(&planned), work(&measured));
    // Teacher-forced, no answer ends early: batches of 2 and of 1.
    let measured = evaluation("--protocol paper --device cpu --seconds 0 --energy none --json").json();
    let planned = evaluation("--protocol paper --plan-only --gpu h200 --json");
    assert_eq!(work(&planned.json()), work(&measured));
    assert!(!planned.err.contains("is taken to have"), "{}", planned.err);
}

#[test]
fn four_gpus_are_predicted_for_generation_and_evaluation() {
    for predicted in [&generation as &dyn Fn(&str) -> Ran, &evaluation] {
        let of = |gpu: &str| predicted(&format!("--plan-only --precision bf16 --json --gpu {gpu}")).json();
        let times = ["h200", "h100", "a100", "a6000"].map(|gpu| seconds(&of(gpu)));
        assert!(times[0] > 0.0 && times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
        let text = predicted("--plan-only --gpu a6000");
        assert!(text.succeeds().out.contains("least time at the limits of a6000"), "{}", text.out);
        assert!(text.out.contains("at the power limit of 300 W"), "{}", text.out);
        predicted("--plan-only").fails(2, &["--gpu"]);
        predicted("--gpu h200").fails(2, &["--plan-only"]);
        predicted("--plan-only --gpu b300").fails(2, &["'b300'", "h200, h100, a100, a6000"]);
        predicted("--plan-only --gpu h200 --save nowhere/x.json").fails(74, &["nowhere"]);
    }
    let told = evaluation("--plan-only --gpu h200");
    assert!(told.err.contains("every answer is taken to have 4 tokens"), "{}", told.err);
}
