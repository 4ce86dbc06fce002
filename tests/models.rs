//! Both model families against transformers' answers: logits, encoder states, loss, every gradient.

use crate::support::batch::{Golden, open as golden_batch, short_cases};
use crate::support::dropout::with_dropout;
use crate::support::executor;
use crate::support::golden::{self, Array, relative_l2};
use std::collections::BTreeMap;
use wattention::device::Precision;
use wattention::models::batch::{DeviceBatch, Source, Target};
use wattention::models::{self, Loaded, LossRule, ModelOptions, RandomBlocks};
use wattention::shape::DType;
use wattention::tape::{Randomness, Recompute, Tape};
use wattention::tensor::Tensor;
use wattention::train::synthetic::{Mode, Stepper, synthetic_batch};

/// The numerics contract in fp32.
const STATES: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;

struct Case {
    name: String,
    loaded: Loaded,
    source: Source,
    target: Target,
    expected: BTreeMap<String, Array>,
    mask: Vec<i64>,
}

fn open(name: &str, random_blocks: RandomBlocks) -> Case {
    open_in(Precision::Fp32, name, random_blocks)
}

fn open_in(precision: Precision, name: &str, random_blocks: RandomBlocks) -> Case {
    let dir = golden::root().join(name);
    let options = ModelOptions { random_blocks, ..ModelOptions::default() };
    let loaded =
        models::load(&dir, &executor::named(precision), options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let Golden { source, target, mask, expected } = golden_batch(name, &*loaded.model);
    Case { name: name.to_string(), loaded, source, target, expected, mask }
}

struct Answer {
    states: Vec<f32>,
    logits: Vec<f32>,
    loss: Tensor,
    loss_value: f32,
}

impl Case {
    fn run(&self, tape: &Tape) -> Answer {
        let device = self.loaded.parameters.device();
        let model = &*self.loaded.model;
        let rule = LossRule { normaliser: self.target.labels.len() as f32, smoothing: 0.0 };
        let batch = DeviceBatch::upload(device, &self.source, &self.target, rule).unwrap();
        let states = model.states(tape, &batch.source, &batch.target.ids).unwrap();
        let logits = model.logits_of(&Tape::off(), &states.decoder).unwrap().read_floats().unwrap();
        let loss = model.loss_of(tape, &states.decoder, &batch.target).unwrap();
        Answer {
            states: states.encoder.read_floats().unwrap(),
            logits,
            loss_value: loss.read::<f32>().unwrap()[0],
            loss,
        }
    }

    /// Encoder states of unmasked tokens only, unpadded, ours and theirs.
    fn real_states(&self, ours: &[f32], theirs: &Array) -> (Vec<f32>, Vec<f64>) {
        let c = theirs.shape[2];
        let mut pair = (Vec::new(), Vec::new());
        for (row, &m) in self.mask.iter().enumerate() {
            if m == 1 {
                let (b, s) = (row / self.source.len, row % self.source.len);
                let at = (b * self.source.padded + s) * c;
                pair.0.extend(&ours[at..at + c]);
                pair.1.extend(&theirs.values[row * c..(row + 1) * c]);
            }
        }
        pair
    }

    fn check(&self, answer: &Answer, prefix: &str) {
        let want = |key: &str| &self.expected[&format!("{prefix}{key}")];
        let name = &self.name;
        let error = relative_l2(&answer.logits, &want("logits").values);
        assert!(error <= STATES, "{name}: {prefix}logits are off by {error}");
        let (ours, theirs) = self.real_states(&answer.states, want("encoder_last_hidden_state"));
        let error = relative_l2(&ours, &theirs);
        assert!(error <= STATES, "{name}: {prefix}encoder states are off by {error}");
        let error = relative_l2(&[answer.loss_value], &want("loss").values);
        assert!(error <= STATES, "{name}: {prefix}loss is off by {error}");
    }
}

#[test]
fn evaluation_equals_transformers() {
    for name in golden::cases() {
        let case = open(&name, RandomBlocks::EvalZero);
        case.check(&case.run(&Tape::off()), "");
    }
}

#[test]
fn training_mode_and_the_drawn_option_use_the_drawn_blocks() {
    for name in golden::cases().iter().filter(|n| n.starts_with("bigbird")) {
        let case = open(name, RandomBlocks::EvalZero);
        let randomness = Randomness { seed: 1, step: 0 };
        let tape = Tape::training(case.loaded.parameters.device(), randomness).unwrap();
        case.check(&case.run(&tape), "train_");
        let case = open(name, RandomBlocks::Drawn);
        case.check(&case.run(&Tape::off()), "train_");
    }
}

/// The key bias adds the same to all scores of a query, so its true gradient is zero and a relative
/// error of rounding noise against rounding noise means nothing.
fn vanishes(name: &str) -> bool {
    ["key.bias", "key_global.bias", "k_proj.bias"].iter().any(|end| name.ends_with(end))
}

#[test]
fn every_gradient_equals_transformers() {
    for name in golden::cases() {
        let case = open(&name, RandomBlocks::EvalZero);
        let parameters = &case.loaded.parameters;
        let slab = Tensor::persistent(parameters.device(), parameters.slab.shape(), DType::F32).unwrap();
        let mut gradients = parameters.gradients(&slab).unwrap();
        let tape = Tape::training(parameters.device(), Randomness { seed: 1, step: 0 }).unwrap();
        let answer = case.run(&tape);
        tape.backward(&answer.loss, 1.0, &mut gradients).unwrap();
        gradients.finish().unwrap();
        let norm: f64 = case
            .expected
            .iter()
            .filter(|(key, _)| key.starts_with("grad."))
            .flat_map(|(_, array)| array.values.iter().map(|v| v * v))
            .sum::<f64>()
            .sqrt();
        let mut seen = 0;
        for entry in parameters.entries.iter().filter(|e| e.trainable) {
            let got = parameters.read(&slab, entry).unwrap();
            let Some(want) = case.expected.get(&format!("grad.{}", entry.name)) else {
                panic!("{name}: no golden gradient of {}", entry.name);
            };
            let size = want.values.iter().map(|v| v * v).sum::<f64>().sqrt();
            if vanishes(&entry.name) || size == 0.0 {
                let ours = got.iter().map(|&v| (v as f64).powi(2)).sum::<f64>().sqrt();
                assert!(ours <= 1e-6 * norm, "{name}: {} should vanish, is {ours}", entry.name);
            } else {
                let error = relative_l2(&got, &want.values);
                assert!(error <= GRADIENTS, "{name}: grad.{} is off by {error}", entry.name);
            }
            seen += 1;
        }
        let stored = case.expected.keys().filter(|key| key.starts_with("grad.")).count();
        assert_eq!(seen, stored, "{name}: some golden gradients were not compared");
    }
}

/// ||a - b||² and ||b||² over every trainable parameter together.
fn squares(case: &Case, slab: &Tensor) -> (f64, f64) {
    let parameters = &case.loaded.parameters;
    let (mut off, mut size) = (0.0, 0.0);
    for entry in parameters.entries.iter().filter(|e| e.trainable) {
        let want = &case.expected[&format!("grad.{}", entry.name)].values;
        for (got, want) in parameters.read(slab, entry).unwrap().iter().zip(want) {
            off += (*got as f64 - want).powi(2);
            size += want.powi(2);
        }
    }
    (off, size)
}

/// bfloat16 may cost twice what it costs transformers, in the forward and in the backward pass.
#[test]
fn bf16_is_within_twice_the_error_of_transformers() {
    for name in golden::cases() {
        let case = open_in(Precision::Bf16, &name, RandomBlocks::EvalZero);
        let bound = |key: &str| 2.0 * case.expected[&format!("bf16_error.{key}")].values[0];
        let check = |answer: &Answer, prefix: &str| {
            let key = format!("{prefix}logits");
            let error = relative_l2(&answer.logits, &case.expected[&key].values);
            assert!(error <= bound(&key), "{name}: {key} are off by {error}, allowed {}", bound(&key));
            let key = format!("{prefix}encoder_last_hidden_state");
            let (ours, theirs) = case.real_states(&answer.states, &case.expected[&key]);
            let error = relative_l2(&ours, &theirs);
            assert!(error <= bound(&key), "{name}: {key} is off by {error}, allowed {}", bound(&key));
        };
        check(&case.run(&Tape::off()), "");
        let parameters = &case.loaded.parameters;
        let slab = Tensor::persistent(parameters.device(), parameters.slab.shape(), DType::F32).unwrap();
        let mut gradients = parameters.gradients(&slab).unwrap();
        let tape = Tape::training(parameters.device(), Randomness { seed: 1, step: 0 }).unwrap();
        let answer = case.run(&tape);
        if name.starts_with("bigbird") {
            check(&answer, "train_");
        }
        tape.backward(&answer.loss, 1.0, &mut gradients).unwrap();
        gradients.finish().unwrap();
        let (off, size) = squares(&case, &slab);
        let error = (off / size).sqrt();
        assert!(
            error <= bound("gradients"),
            "{name}: gradients are off by {error}, allowed {}",
            bound("gradients")
        );
    }
}

#[test]
fn recomputed_activations_give_the_same_gradients_bit_for_bit() {
    for name in short_cases() {
        let config = with_dropout(&name);
        let batch = open(&name, RandomBlocks::EvalZero);
        let gradients = |recompute: Recompute| -> (u32, Vec<u32>) {
            let options = ModelOptions { recompute, ..ModelOptions::default() };
            let device = executor::named(Precision::Fp32);
            let loaded = models::random(config.path(), &device, options, 7).unwrap();
            let slab = Tensor::persistent(&device, loaded.parameters.slab.shape(), DType::F32).unwrap();
            let mut gradients = loaded.parameters.gradients(&slab).unwrap();
            let tape = Tape::training(&device, Randomness { seed: 3, step: 5 }).unwrap();
            let rule = LossRule { normaliser: 3.0, smoothing: 0.1 };
            let batch = DeviceBatch::upload(&device, &batch.source, &batch.target, rule).unwrap();
            let loss = loaded.model.loss(&tape, &batch).unwrap();
            tape.backward(&loss, 1.0, &mut gradients).unwrap();
            gradients.finish().unwrap();
            let bits = slab.read::<f32>().unwrap().iter().map(|g| g.to_bits()).collect();
            (loss.read::<f32>().unwrap()[0].to_bits(), bits)
        };
        let kept = gradients(Recompute::None);
        assert!(kept.1.iter().any(|&bits| bits != 0), "{name}: there are no gradients");
        for recompute in [Recompute::AttentionFfn, Recompute::Layer] {
            assert!(gradients(recompute) == kept, "{name}: {recompute:?} changes the bits");
        }
    }
}

#[test]
fn recomputation_saves_the_activations_of_all_layers_but_one() {
    for name in ["led_plain", "bigbird_block_sparse"] {
        let text = std::fs::read_to_string(golden::root().join(name).join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in ["encoder_layers", "decoder_layers"] {
            config[key] = 8.into();
        }
        let window = config["attention_window"].as_array().map(|windows| vec![windows[0].clone(); 8]);
        if let Some(windows) = window {
            config["attention_window"] = windows.into();
        }
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        std::fs::write(&file, config.to_string()).unwrap();
        let arena = |recompute: Recompute| {
            let options = ModelOptions { recompute, ..ModelOptions::default() };
            let mode = Mode::ForwardBackward;
            let mut stepper = Stepper::dry_run(file.path(), Precision::Fp32, options, mode).unwrap();
            let limits = stepper.loaded().model.limits();
            let (source, target) = synthetic_batch(&limits, 2, limits.max_source, 8, 1).unwrap();
            stepper.run(&source, &target).unwrap();
            stepper.planned().arena
        };
        let [all, parts, layers] = [Recompute::None, Recompute::AttentionFfn, Recompute::Layer].map(arena);
        // Of eight layers alike, one is alive at a time beside the inputs of the others.
        assert!(2 * parts < all && 2 * layers < all, "{name}: {all}, {parts}, {layers} bytes");
    }
}
