//! Training on the `cuda` executor with stand-ins for the GPU, against the simulator.

use super::synthetic::{Mode, Stepper, synthetic_batch};
use crate::device::cuda::stand_in;
use crate::device::{Device, GraphCounts, Precision};
use crate::models::{self, ModelOptions};
use std::path::Path;
use std::rc::Rc;

/// The first goes launch by launch, the second is recorded, the third replayed.
const STEPS: usize = 3;

/// The configuration of a golden, with dropout: its masks differ from step to step.
fn config(name: &str) -> tempfile::NamedTempFile {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name).join("config.json");
    let text = std::fs::read_to_string(golden).unwrap();
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(&file, text.replace("\"dropout\": 0.0", "\"dropout\": 0.1")).unwrap();
    file
}

/// Losses of steps on one batch.
fn losses(device: &Device, config: &Path) -> Vec<f32> {
    let options = ModelOptions::default();
    let loaded = models::random(config, device, options, 1).unwrap();
    let limits = loaded.model.limits();
    let (source, target) = synthetic_batch(&limits, 2, 40, 7, 1).unwrap();
    let mut stepper = Stepper::new(loaded, options, Mode::Train).unwrap();
    (0..STEPS).map(|_| stepper.run(&source, &target).unwrap()).collect()
}

fn bits(losses: &[f32]) -> Vec<u32> {
    losses.iter().map(|loss| loss.to_bits()).collect()
}

#[test]
fn training_through_the_driver_is_training() {
    if let Some(why) = stand_in::missing().unwrap() {
        return println!("skipped: {why}");
    }
    for (name, precision, bound) in
        [("led_plain", Precision::Fp32, 1e-5), ("bigbird_bias_relu", Precision::Bf16, 1e-2)]
    {
        let [launched, replayed] =
            [false, true].map(|graphs| Rc::new(stand_in::open(precision, graphs).unwrap()));
        let file = config(name);
        let config = file.path();
        let by_launch = losses(&Device::new(launched.clone()), config);
        let by_graph = losses(&Device::new(replayed.clone()), config);
        assert_eq!(bits(&by_launch), bits(&by_graph), "{name} {precision}");

        let steps = STEPS as u64;
        // A step of the optimizer, and one of forward and backward.
        assert_eq!(launched.graph_counts(), GraphCounts { direct: 2 * steps, ..GraphCounts::default() });
        let counts = replayed.graph_counts();
        let want =
            GraphCounts { direct: 2, recorded: 2, replayed: 2 * (steps - 2), ..GraphCounts::default() };
        assert_eq!(counts, want, "{name} {precision}");

        let simulated = losses(&Device::open("sim", precision).unwrap(), config);
        for (got, want) in by_graph.iter().zip(&simulated) {
            assert!(
                (got - want).abs() <= bound * want,
                "{name} {precision}: {by_graph:?}, not {simulated:?}"
            );
        }
    }
}
