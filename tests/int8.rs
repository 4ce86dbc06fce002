//! Weights in 8 bits in whole models: how far logits move, beside random noise of the same size; bytes; refusals.

use crate::support::batch::{Golden, open as golden_batch};
use crate::support::golden::{self, relative_l2};
use std::path::Path;
use wattention::device::plan::Plan;
use wattention::device::{Device, Precision};
use wattention::generate::{self, GenerateOptions, generate};
use wattention::models::batch::{DeviceBatch, Source, Target};
use wattention::models::session::Session;
use wattention::models::{self, Loaded, LossRule, ModelOptions};
use wattention::nn::Weights;
use wattention::noise::random;
use wattention::tape::Tape;
use wattention::tensor::Tensor;
use wattention::train::synthetic::synthetic_batch;

const INT8: ModelOptions = ModelOptions {
    random_blocks: models::RandomBlocks::EvalZero,
    recompute: wattention::tape::Recompute::None,
    weights: Weights::Int8,
};

const MODELS: [&str; 4] = ["tiny-led", "small-led", "tiny-bigbird-pegasus", "tiny-bart"];

fn load(name: &str, options: ModelOptions) -> Loaded {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights").join(name);
    models::load(&dir, &Device::cpu(), options).unwrap()
}

fn batch(loaded: &Loaded) -> (Source, Target) {
    synthetic_batch(&loaded.model.limits(), 2, 200, 12, 7).unwrap()
}

fn logits(loaded: &Loaded) -> Vec<f32> {
    let (device, (source, target)) = (loaded.parameters.device(), batch(loaded));
    let (source, ids) = (source.upload(device).unwrap(), target.upload_ids(device).unwrap());
    loaded.model.logits(&Tape::off(), &source, &ids).unwrap().read_floats().unwrap()
}

fn error(ours: &[f32], theirs: &[f32]) -> f64 {
    relative_l2(ours, &theirs.iter().map(|&x| f64::from(x)).collect::<Vec<_>>())
}

/// The stored weights, each moved by up to half a step of 8 bits either way.
fn disturbed(name: &str, seed: u64) -> Loaded {
    let loaded = load(name, ModelOptions::default());
    let parameters = &loaded.parameters;
    for (number, entry) in parameters.entries.iter().enumerate() {
        let is_table = entry.name.ends_with("embed_positions.weight");
        let [_, i] = entry.shape.dims() else { continue };
        if is_table || !entry.trainable {
            continue;
        }
        let mut values = parameters.read(&parameters.slab, entry).unwrap();
        let noise = random(seed * 1000 + number as u64, values.len());
        for (row, noise) in values.chunks_mut(*i).zip(noise.chunks(*i)) {
            let step = row.iter().fold(0.0, |most: f32, x| x.abs().max(most)) / 127.0;
            row.iter_mut().zip(noise).for_each(|(x, noise)| *x += 0.5 * step * noise);
        }
        parameters.write(entry, &values).unwrap();
    }
    loaded
}

/// Rounding a weight moves it by up to half a step, and rounding what it is multiplied with by up to half a step of that:
/// twice the noise of [`disturbed`]. Three times allows for a sample of noise that happens to be small.
#[test]
fn logits_move_no_further_than_by_noise_of_half_a_step() {
    for name in MODELS {
        let stored = logits(&load(name, ModelOptions::default()));
        let noise = (1..=3).map(|seed| error(&logits(&disturbed(name, seed)), &stored)).fold(0.0, f64::max);
        let rounded = error(&logits(&load(name, INT8)), &stored);
        assert!(rounded > 0.0 && rounded <= 3.0 * noise, "{name}: {rounded}, and noise {noise}");
    }
}

/// Every family's golden models, bf16 beside fp32, and the loss by the head in 8 bits.
#[test]
fn losses_and_logits_stay_near_in_every_family_and_format() {
    for name in golden::cases() {
        for precision in [Precision::Fp32, Precision::Bf16] {
            let of = |options: ModelOptions| {
                let device = Device::open("cpu", precision).unwrap();
                let loaded = models::load(&golden::root().join(&name), &device, options).unwrap();
                let Golden { source, target, .. } = golden_batch(&name, &*loaded.model);
                let rule = LossRule { normaliser: target.labels.len() as f32, smoothing: 0.0 };
                let batch = DeviceBatch::upload(&device, &source, &target, rule).unwrap();
                let (model, tape) = (&*loaded.model, Tape::off());
                let loss = model.loss(&tape, &batch).unwrap().read::<f32>().unwrap()[0];
                let logits = model.logits(&tape, &batch.source, &batch.target.ids).unwrap();
                (loss, logits.read_floats().unwrap())
            };
            let ((loss, logits), (want_loss, want)) = (of(INT8), of(ModelOptions::default()));
            let moved = error(&logits, &want);
            assert!(moved > 0.0 && moved < 0.1, "{name} in {precision}: {moved}");
            // A logit that moves by d moves the loss by 2 d at most.
            let most = logits.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!((loss - want_loss).abs() <= 2.0 * most + 1e-4, "{name}: {loss}, {want_loss}, {most}");
        }
    }
}

#[test]
fn steps_of_decoding_give_what_the_decoder_gives_at_once() {
    let loaded = load("small-led", INT8);
    let (source, _) = batch(&loaded);
    let limits = loaded.model.limits();
    let options =
        GenerateOptions { max_new_tokens: 6, eos_token_id: Vec::new(), ..GenerateOptions::new(&limits) };
    let mut session = Session::new(loaded, INT8, generate::state).unwrap();
    let rows = generate(&mut session, &source, &options).unwrap();
    let loaded = session.into_loaded();
    let device = loaded.parameters.device();
    let read: Vec<i32> = rows.iter().flat_map(|row| row[..6].to_vec()).collect();
    let ids = Tensor::upload(device, [rows.len(), 6], &read).unwrap();
    let logits = loaded.model.logits(&Tape::off(), &source.upload(device).unwrap(), &ids).unwrap();
    let logits = logits.read_floats().unwrap();
    let next = logits.chunks(limits.vocab).map(|row| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
        best.unwrap().0 as i32
    });
    let said: Vec<i32> = rows.iter().flat_map(|row| row[1..].to_vec()).collect();
    assert_eq!(next.collect::<Vec<_>>(), said);
}

#[test]
fn bytes_are_those_of_the_plan_and_a_quarter_of_the_linear_layers() {
    let device = Device::cpu();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/small-led");
    let bytes = |options| {
        let plan = Device::new(Plan::new(Precision::Fp32));
        let loaded = models::load(&dir, &device, options).unwrap();
        let twin = loaded.twin(&plan, options).unwrap();
        assert_eq!(device.used().persistent, plan.used().persistent);
        drop(twin);
        let tables = ["shared.weight", "embed_positions.weight"];
        let linear = loaded.parameters.entries.iter().filter(|entry| {
            entry.shape.dims().len() == 2
                && entry.trainable
                && !tables.iter().any(|t| entry.name.ends_with(t))
        });
        let linear: usize = linear.map(|entry| 4 * entry.shape.len()).sum();
        (device.used().persistent, linear, 4 * loaded.model.head().table.len())
    };
    let ((stored, linear, head), (int8, ..)) = (bytes(ModelOptions::default()), bytes(INT8));
    let least = stored - linear * 3 / 4 + head / 4;
    // Scales take a few bytes more.
    assert!((least..least + least / 10).contains(&int8), "{int8} of {stored} with {linear} and {head}");
}

#[test]
fn what_cannot_be_is_refused() {
    let loaded = load("tiny-led", INT8);
    let parameters = &loaded.parameters;
    let refused = parameters.gradients(&parameters.slab).err().unwrap();
    assert!(refused.exit_code() == 2 && refused.to_string().contains("are not trained"), "{refused}");
    assert!(loaded.weights().is_err(), "rounded weights are not written as if they were the model's");
    let (device, (source, target)) = (parameters.device(), batch(&loaded));
    let (source, ids) = (source.upload(device).unwrap(), target.upload_ids(device).unwrap());
    assert!(loaded.model.logits(&Tape::gradients(), &source, &ids).is_err(), "no gradient passes");
}

#[cfg(wattention_sim)]
#[test]
fn other_devices_refuse_by_name() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led");
    let sim = Device::open("sim", Precision::Fp32).unwrap();
    let refused = models::load(&dir, &sim, INT8).err().unwrap();
    assert_eq!(refused.exit_code(), 2);
    assert!(refused.to_string().contains("sim") && refused.to_string().contains("--device cpu"), "{refused}");
}
