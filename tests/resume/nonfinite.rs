//! Losses and gradients that are no numbers: named, counted, and never filtered silently.

use crate::resume::tiny::{Record, Run, bits, model, options};
use crate::support::scalar::assert_near;
use wattention::device::{Device, Precision};
use wattention::models::Loaded;
use wattention::train::checkpoint::{newest, open};
use wattention::train::{Control, Options};

/// Overwrites one element of a weight.
fn plant(loaded: &Loaded, name: &str, value: f32) {
    let parameters = &loaded.parameters;
    let entry = parameters.entries.iter().find(|entry| entry.name == name).unwrap();
    let mut values = parameters.read(&parameters.slab, entry).unwrap();
    values[0] = value;
    parameters.part(&parameters.slab, entry).unwrap().write(&values).unwrap();
    parameters.refresh().unwrap();
}

/// The encoder's feed-forward layer leaves f32 for every token that its first element does not switch off.
fn overflowing(loaded: &Loaded) {
    plant(loaded, "led.encoder.layers.0.fc1.weight", 1e30);
    plant(loaded, "led.encoder.layers.0.fc2.weight", 1e30);
}

fn run(dir: &std::path::Path, max_bad_steps: u64) -> Run {
    let control = Control { save_steps: 1, max_bad_steps, ..Control::default() };
    Run::new(dir, Options { eval_steps: 0, ..options(6) }, control)
}

#[test]
fn the_first_bad_step_ends_the_run_and_names_the_tensor() {
    let mut tried = 0;
    for (device, precision) in [("cpu", Precision::Fp32), ("cpu", Precision::Bf16), ("sim", Precision::Fp32)]
    {
        let dir = tempfile::tempdir().unwrap();
        let Ok(device) = Device::open(device, precision) else {
            continue;
        };
        tried += 1;
        let run = Run { device, ..run(dir.path(), 1) };
        let mut record = Record::default();
        let (outcome, _) = run.go_with(None, &mut record, overflowing);
        let error = outcome.unwrap_err();
        assert_eq!(error.exit_code(), 65);
        let text = error.to_string();
        for part in ["step 1:", "example-", "inf in c of matmul, encoder.ffn forward", "--max-bad-steps"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(record.lines.is_empty(), "{:?}", record.lines);
    }
    assert!(tried >= 2, "only {tried} executors");
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let name = "led.decoder.layers.0.encoder_attn.k_proj.weight";
    let planted = |loaded: &Loaded| plant(loaded, name, f32::NAN);
    let error = run(dir.path(), 1).go_with(None, &mut Record::default(), planted).0.unwrap_err();
    assert!(error.to_string().contains(&format!("NaN in the weight {name}")), "{error}");
}

#[test]
fn skipped_steps_change_nothing_and_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let before: Vec<f32> = {
        let loaded = model(&Device::cpu(), 0.1);
        overflowing(&loaded);
        loaded.parameters.slab.read().unwrap()
    };
    let mut record = Record::default();
    let (outcome, weights) = run(dir.path(), 4).go_with(None, &mut record, overflowing);
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("step 4:") && text.contains("after 3 such steps"), "{text}");
    assert_eq!(record.lines.len(), 3);
    assert!(record.lines.iter().all(|(_, line)| line.starts_with("Skipped") && line.contains("example-")));
    assert!(bits(&weights) == bits(&before));
    // The state before the step that ended it is saved, and patience can be had later.
    let from = newest(dir.path()).unwrap().checkpoint.unwrap();
    assert_eq!((from.state.global_step, from.state.bad_steps, from.state.updates), (3, 3, 0));
    run(dir.path(), 4).settings().check(&run(dir.path(), 9).settings(), "x").unwrap();
    let mut record = Record::default();
    let summary = run(dir.path(), 9).go(Some(&from), &mut record).0.unwrap();
    assert_eq!((summary.steps, summary.skipped), (6, 6));
    // And the evaluation at the end.
    assert_eq!(record.lines.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [4, 5, 6, 6]);
}

#[test]
fn an_update_that_nothing_survives_is_found_at_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let huge = Options { learning_rate: 1e30, eval_steps: 0, ..options(6) };
    let run = Run { options: huge, ..run(dir.path(), 1) };
    let mut record = Record::default();
    let error = run.go(None, &mut record).0.unwrap_err();
    assert_eq!(error.exit_code(), 65);
    assert_eq!(record.lines.len(), 1);
    let text = error.to_string();
    assert!(text.contains("step 2:") && text.contains("the first value that is not finite is"), "{text}");
    assert_eq!(open(&run.checkpoint(1)).unwrap().state.updates, 1);
}

#[test]
fn micro_batches_of_unequal_targets_are_one_big_batch() {
    // AdamW's first moment after one step is a tenth of the gradient.
    let gradient = |size: usize, accumulation: usize| {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            per_device_train_batch_size: size,
            gradient_accumulation_steps: accumulation,
            max_grad_norm: 0.0,
            ..options(1)
        };
        let control = Control { save_steps: 1, ..Control::default() };
        let run = Run { dropout: 0.0, examples: 6, ..Run::new(dir.path(), options, control) };
        let mut record = Record::default();
        let loss = run.go(None, &mut record).0.unwrap().train_loss;
        let file = wattention::weights::read_file(&run.checkpoint(1).join("optimizer.safetensors")).unwrap();
        let mut names = file.names();
        names.retain(|name| name.starts_with("exp_avg."));
        names.sort();
        let moments: Vec<f32> = names.iter().flat_map(|name| file.f32(name).unwrap()).collect();
        (loss, moments)
    };
    let (loss, whole) = gradient(6, 1);
    let norm = |values: &[f32]| values.iter().map(|&v| (v as f64).powi(2)).sum::<f64>().sqrt();
    assert!(norm(&whole) > 1e-3);
    for (size, accumulation) in [(1, 6), (2, 3), (4, 2)] {
        let (parts_loss, parts) = gradient(size, accumulation);
        assert_near(parts_loss, loss, 1e-6);
        let difference: Vec<f32> = parts.iter().zip(&whole).map(|(a, b)| a - b).collect();
        let error = norm(&difference) / norm(&whole);
        assert!(error <= 1e-6, "{accumulation} of {size}: {error}");
    }
}
