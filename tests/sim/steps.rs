//! Steps of models as graphs: what changes from step to step is in memory, and no launch is another one.

use crate::support::compare::{assert_near, widened};
use crate::support::dropout::with_dropout;
use std::rc::Rc;
use wattention::device::sim::Sim;
use wattention::device::{Device, GraphCounts, Precision};
use wattention::evaluate::work;
use wattention::generate::{GenerateOptions, generate};
use wattention::models::session::Session;
use wattention::models::{self, LossRule, ModelOptions};
use wattention::tape::Randomness;
use wattention::train::synthetic::synthetic_batch;
use wattention::train::{self, micro_step, optimizer_step};

/// Micro-batches that add to gradients launch otherwise than the first of a step, which assigns them.
#[test]
fn training_replays_the_launches_that_it_recorded() {
    const UPDATES: u64 = 4;
    for name in ["led_plain", "bigbird_bias_relu"] {
        let (sim, file) = (Rc::new(Sim::new(Precision::Fp32).unwrap()), with_dropout(name));
        let run = |device: &Device| {
            let loaded = models::random(file.path(), device, ModelOptions::default(), 1).unwrap();
            let limits = loaded.model.limits();
            let (source, target) = synthetic_batch(&limits, 1, 24, 7, 1).unwrap();
            let mut session = Session::new(loaded, ModelOptions::default(), work).unwrap();
            let mut losses = Vec::new();
            for update in 0..UPDATES {
                for micro in 0..3 {
                    let rule = LossRule { normaliser: (20 + update) as f32, smoothing: 0.1 };
                    let randomness = Randomness { seed: 1, step: 3 * update + micro };
                    losses.push(micro_step(&mut session, &source, &target, rule, randomness).unwrap());
                }
                optimizer_step(&mut session, &train::Options::default(), update, UPDATES).unwrap();
            }
            losses
        };
        let (got, want) = (run(&Device::new(sim.clone())), run(&Device::cpu()));
        assert_near(name, &got, &widened(&want), 1e-5);
        assert_ne!(got[0], got[1], "{name}: two micro-batches drop the same");
        // The first of a step, the two that add to it, and the update.
        let replayed = (UPDATES - 2) + (2 * UPDATES - 2) + (UPDATES - 2);
        let counts = GraphCounts { direct: 3, recorded: 3, replayed, changed: 0, diverged: 0 };
        assert_eq!(sim.graph_counts(), counts, "{name}");
    }
}

#[test]
fn decoding_replays_one_step_at_every_position() {
    for name in ["led_plain", "bigbird_bias_relu"] {
        let (sim, file) = (Rc::new(Sim::new(Precision::Fp32).unwrap()), with_dropout(name));
        let run = |device: &Device| {
            let loaded = models::random(file.path(), device, ModelOptions::default(), 5).unwrap();
            let limits = loaded.model.limits();
            let (source, _) = synthetic_batch(&limits, 2, 24, 1, 1).unwrap();
            let mut session = Session::new(loaded, ModelOptions::default(), work).unwrap();
            let eos = Vec::new();
            let options =
                GenerateOptions { max_new_tokens: 7, eos_token_id: eos, ..GenerateOptions::new(&limits) };
            generate(&mut session, &source, &options).unwrap()
        };
        assert_eq!(run(&Device::new(sim.clone())), run(&Device::cpu()), "{name}");
        // The encoder once, the first step, the second, and the other five.
        let counts = GraphCounts { direct: 2, recorded: 1, replayed: 5, changed: 0, diverged: 0 };
        assert_eq!(sim.graph_counts(), counts, "{name}");
    }
}
