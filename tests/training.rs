//! Training and decoding against transformers, and the plan against what the CPU really allocates.

use crate::support::batch::{Golden, open as golden_batch, short_cases};
use crate::support::executor;
use crate::support::golden::{self, Array, relative_l2};
use half::bf16;
use wattention::device::Precision;
use wattention::evaluate::{Work, work};
use wattention::generate::{GenerateOptions, Settings, generate};
use wattention::models::batch::{Source, Target};
use wattention::models::session::Session;
use wattention::models::{self, LossRule, ModelOptions};
use wattention::tape::Randomness;
use wattention::train::{self, Schedule, micro_step, optimizer_step};

struct Case {
    /// The model's directory.
    dir: std::path::PathBuf,
    session: Session<Work>,
    source: Source,
    target: Target,
    expected: std::collections::BTreeMap<String, Array>,
}

fn open(name: &str) -> Case {
    open_in(Precision::Fp32, name)
}

fn open_in(precision: Precision, name: &str) -> Case {
    let dir = golden::root().join(name);
    let loaded = models::load(&dir, &executor::named(precision), ModelOptions::default()).unwrap();
    let Golden { source, target, expected, .. } = golden_batch(name, &*loaded.model);
    let session = Session::new(loaded, ModelOptions::default(), work).unwrap();
    Case { dir, session, source, target, expected }
}

/// The optimizer of the goldens: torch's AdamW, decay on everything that has two dimensions or more.
fn golden_options() -> train::Options {
    train::Options {
        learning_rate: 1e-3,
        lr_scheduler_type: Schedule::Constant,
        weight_decay: 0.01,
        max_grad_norm: 0.0,
        ..train::Options::default()
    }
}

impl Case {
    fn decoding(&self) -> GenerateOptions {
        let limits = self.session.real().loaded.model.limits();
        let own = Settings::of_model(&self.dir, &[]).unwrap().options(&limits, 0).unwrap();
        GenerateOptions { max_new_tokens: 12, ..own }
    }

    fn rule(&self) -> LossRule {
        LossRule { normaliser: self.target.labels.len() as f32, smoothing: 0.0 }
    }

    fn train_step(&mut self, options: &train::Options, step: u64) -> f32 {
        let (rule, randomness) = (self.rule(), Randomness { seed: 1, step });
        let loss = micro_step(&mut self.session, &self.source, &self.target, rule, randomness).unwrap();
        optimizer_step(&mut self.session, options, step, 10).unwrap();
        loss
    }
}

/// On the simulator four: a step that runs, one that is recorded, and two that replay it.
#[test]
fn ten_losses_equal_transformers() {
    let steps = if executor::simulated() { 4 } else { 10 };
    for name in golden::cases() {
        let mut case = open(&name);
        let options = golden_options();
        let losses: Vec<f32> = (0..steps).map(|step| case.train_step(&options, step as u64)).collect();
        let error = relative_l2(&losses, &case.expected["train_losses"].values[..steps]);
        assert!(error <= 1e-4, "{name}: losses are off by {error}: {losses:?}");
    }
}

#[test]
fn greedy_tokens_equal_transformers() {
    for name in golden::cases() {
        let mut case = open(&name);
        let want = &case.expected["greedy_tokens"];
        let options = case.decoding();
        // Twice: caches are reused, and nothing of the first run may show in the second.
        for _ in 0..2 {
            let rows = generate(&mut case.session, &case.source, &options).unwrap();
            let got: Vec<i64> = rows.concat().iter().map(|&id| id as i64).collect();
            assert_eq!(got, want.integers(), "{name}");
        }
    }
}

#[test]
fn the_plan_is_exact_and_a_second_step_allocates_nothing() {
    let names = if executor::simulated() { short_cases() } else { golden::cases() };
    for name in names {
        let mut case = open(&name);
        let options = golden_options();
        case.train_step(&options, 0);
        let first = case.session.real().device().used();
        assert_eq!(first, case.session.planned(), "{name}: plan and reality differ");
        assert!(first.arena > 0, "{name}: nothing was in the arena");
        case.train_step(&options, 1);
        assert_eq!(case.session.real().device().used(), first, "{name}: the second step allocated");
        let decoding = GenerateOptions { num_beams: 2, ..case.decoding() };
        generate(&mut case.session, &case.source, &decoding).unwrap();
        assert_eq!(case.session.real().device().used(), case.session.planned(), "{name}: decoding differs");
    }
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let losses = || -> Vec<u32> {
        let mut case = open("led_plain");
        let options = golden_options();
        (0..3).map(|step| case.train_step(&options, step).to_bits()).collect()
    };
    assert_eq!(losses(), losses());
}

#[test]
fn bf16_trains_f32_weights_and_computes_with_them_rounded() {
    for name in ["led_plain", "bigbird_block_sparse"] {
        let mut case = open_in(Precision::Bf16, name);
        let options = golden_options();
        let losses: Vec<f32> = (0..4).map(|step| case.train_step(&options, step)).collect();
        assert!(losses[3] < losses[0], "{name}: {losses:?}");
        let parameters = &case.session.real().loaded.parameters;
        let exact = parameters.slab.read::<f32>().unwrap();
        let rounded = parameters.working.as_ref().unwrap().read::<bf16>().unwrap();
        let differing = exact.iter().zip(&rounded).filter(|(e, r)| bf16::from_f32(**e) != **r).count();
        assert_eq!(differing, 0, "{name}: the model computes with other weights than it trains");
        let kept = exact.iter().filter(|e| bf16::from_f32(**e).to_f32() != **e).count();
        assert!(kept > exact.len() / 2, "{name}: the trained weights were rounded");
    }
}
