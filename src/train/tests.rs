//! Training on the `cuda` executor with stand-ins for the GPU, against the simulator.

use super::overlap::last_micro_step;
use super::ranks::{shared_norm, sum_gradients};
use super::synthetic::{Mode, Stepper, synthetic_batch};
use super::{
    Control, Corpus, Encoded, GlobalAttention, GlobalTokens, Options, RankLayout, Shard, Sharing, Trainer,
    forget_gradients, ranked_train_state, train_state,
};
use crate::collective::tests::threads::ranks_over;
use crate::collective::{Backend, CommunicationType, Group};
use crate::device::cuda::{JointCounts, stand_in};
use crate::device::{Device, GraphCounts, Precision};
use crate::models::session::Session;
use crate::models::{self, ModelOptions};
use crate::tape::Randomness;
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

/// Examples of 9 to 12 tokens and 3 to 5 labels.
fn corpus(limits: models::ModelLimits) -> Corpus {
    let tokens = |from: usize, len: usize| {
        (0..len).map(|at| 3 + ((from * 7 + at * 5) % 37) as u32).collect::<Vec<u32>>()
    };
    Corpus {
        examples: (0..6).map(|i| Encoded::new(tokens(i, 9 + i % 4), tokens(i + 3, 3 + i % 3))).collect(),
        ids: (0..6).map(|i| format!("example-{i}")).collect(),
        limits,
        global_attention: GlobalAttention::First,
        global_tokens: GlobalTokens::First,
    }
}

/// Loss and weights after steps of two batches, of which the last has a single one. Only the first rank begins with the
/// weights of the model.
fn fine_tuned(
    config: &Path,
    group: &Rc<Group>,
    is_sharded: bool,
    communication_data_type: CommunicationType,
) -> (u32, Vec<u32>) {
    let device = Device::new(Rc::new(stand_in::open(Precision::Fp32, true).unwrap()));
    let options = ModelOptions::default();
    let loaded = models::random(config, &device, options, 1 + group.rank() as u64).unwrap();
    let train = corpus(loaded.model.limits());
    let shard = if is_sharded { Shard { rank: group.rank(), size: group.size() } } else { Shard::ALL };
    let layout = RankLayout::of(shard, communication_data_type, device.backend(group), group.size());
    let mut session = Session::new(loaded, options, |loaded| ranked_train_state(loaded, layout)).unwrap();
    let settings = Options {
        max_steps: 2,
        learning_rate: 1e-3,
        per_device_train_batch_size: 2,
        gradient_accumulation_steps: 2,
        communication_data_type,
        ..Options::default()
    };
    let control = Control::default();
    let trainer = Trainer::new(&mut session, &train, &settings, &control).unwrap();
    let summary =
        trainer.share_among(group.clone()).follow_first().and_then(|trainer| trainer.run(&mut ())).unwrap();
    let weights: Vec<f32> = session.real().loaded.parameters.slab.read().unwrap();
    (summary.last_loss.to_bits(), bits(&weights))
}

/// The first pass of a kind is counted; from the second on, all buckets are on their way when it ends.
#[test]
fn sums_begin_within_the_backward_pass() {
    if let Some(why) = stand_in::missing().unwrap() {
        return println!("skipped: {why}");
    }
    let file = config("led_plain");
    let config = file.path();
    let ranks = ranks_over(2, Some(Backend::Nccl), |group| {
        let device = Device::new(Rc::new(stand_in::open(Precision::Fp32, true).unwrap()));
        let options = ModelOptions::default();
        let loaded = models::random(config, &device, options, 1).unwrap();
        let seed = 1 + group.rank() as u64;
        let (source, target) = synthetic_batch(&loaded.model.limits(), 2, 40, 7, seed).unwrap();
        let mut session = Session::new(loaded, options, train_state).unwrap();
        device.meet(group).unwrap();
        let mut steps = Vec::new();
        for step in 0..STEPS as u64 {
            let rule = models::LossRule { normaliser: 28.0, smoothing: 0.0 };
            let randomness = Randomness { seed, step };
            // The second rank has no batch in the last step.
            if step + 1 < STEPS as u64 || group.is_first() {
                last_micro_step(&mut session, &source, &target, rule, randomness, group).unwrap();
            }
            let sums = session.real().state.sums();
            steps.push((sums.begun(), sums.buckets().len()));
            sum_gradients(&mut session, group, CommunicationType::Fp32).unwrap();
            forget_gradients(&session);
        }
        let gradients: Vec<f32> = session.real().state.gradients().read().unwrap();
        (steps, bits(&gradients))
    });
    let all = ranks[0].0[0].1;
    assert!(all > 4, "{all} buckets");
    assert_eq!(ranks[0].0, [(0, all), (all, all), (all, all)]);
    assert_eq!(ranks[1].0, [(0, all), (all, all), (0, all)]);
    assert!(ranks[0].1 == ranks[1].1, "gradients differ");
}

/// From the fourth step of one shape on all ranks the exchanges are part of one graph, but in steps of which a rank has no
/// batch or one of another shape; and what it computes is what launches and exchanges one by one do.
#[test]
fn a_step_with_its_exchanges_becomes_one_graph_of_all_ranks() {
    if let Some(why) = stand_in::missing().unwrap() {
        return println!("skipped: {why}");
    }
    let file = config("led_plain");
    let config = file.path();
    let (without_batch, of_another_shape) = (5, 7);
    let run = |graphs: bool, communication: CommunicationType, all: u64| {
        ranks_over(2, Some(Backend::Nccl), |group| {
            let cuda = Rc::new(stand_in::open(Precision::Fp32, graphs).unwrap());
            let device = Device::new(cuda.clone());
            let options = ModelOptions::default();
            let loaded = models::random(config, &device, options, 1).unwrap();
            let limits = loaded.model.limits();
            let layout = RankLayout::of(Shard::ALL, communication, device.backend(group), group.size());
            let mut session =
                Session::new(loaded, options, |loaded| ranked_train_state(loaded, layout)).unwrap();
            device.meet(group).unwrap();
            let mut gradients = Vec::new();
            for step in 0..all {
                let seed = 10 * step + group.rank() as u64;
                let tokens = if step == of_another_shape && !group.is_first() { 24 } else { 40 };
                let (source, target) = synthetic_batch(&limits, 2, tokens, 7, seed).unwrap();
                let rule = models::LossRule { normaliser: 28.0, smoothing: 0.0 };
                let randomness = Randomness { seed, step };
                if step != without_batch || group.is_first() {
                    last_micro_step(&mut session, &source, &target, rule, randomness, group).unwrap();
                }
                sum_gradients(&mut session, group, communication).unwrap();
                gradients.push(bits(&session.real().state.gradients().read::<f32>().unwrap()));
                forget_gradients(&session);
            }
            (cuda.joint_counts(), gradients)
        })
    };
    // Replayed are steps 3, 4, 6 and 8.
    for (communication, all, replayed) in [(CommunicationType::Fp32, 9, 4), (CommunicationType::Bf16, 5, 2)] {
        let (apart, together) = (run(false, communication, all), run(true, communication, all));
        for ((none, apart), (counts, together)) in apart.iter().zip(&together) {
            assert_eq!(*none, JointCounts::default());
            assert_eq!(*counts, JointCounts { recorded: 1, replayed }, "{communication}");
            for (step, (apart, together)) in apart.iter().zip(together).enumerate() {
                assert!(apart == together, "{communication}: step {step} differs");
            }
        }
        assert!(together[0].1 == together[1].1, "ranks differ");
    }
}

/// Sums of the stand-in for NCCL are in the order of the ranks, as those over the host are; of two ranks there is one
/// addition, which is rounded once either way. Where each has a part of the optimizer's state, the norm is of rounded ones.
#[test]
fn ranks_on_gpus_train_by_nccl_as_over_the_host() {
    if let Some(why) = stand_in::missing().unwrap() {
        return println!("skipped: {why}");
    }
    let file = config("led_plain");
    let config = file.path();
    let by = |backend: Backend, is_sharded: bool, communication: CommunicationType| {
        let run = |group: &Rc<Group>| fine_tuned(config, group, is_sharded, communication);
        let mut ranks = ranks_over(2, Some(backend), run);
        let (first, other) = (ranks.remove(0), ranks.remove(0));
        assert!(first == other, "ranks differ over {backend} in {communication}");
        first
    };
    let [in_fp32, in_bf16] = [CommunicationType::Fp32, CommunicationType::Bf16].map(|communication| {
        let over_host = by(Backend::Host, false, communication);
        assert!(by(Backend::Nccl, false, communication) == over_host, "{communication}");
        let (_, sharded) = by(Backend::Nccl, true, communication);
        for (got, want) in sharded.iter().zip(&over_host.1) {
            let (got, want) = (f32::from_bits(*got), f32::from_bits(*want));
            assert!((got - want).abs() <= 1e-6, "{communication}: a weight of {got}, not {want}");
        }
        over_host
    });
    assert!(in_fp32.1 != in_bf16.1, "nothing was rounded");
}

/// Where each rank updates a part of the weights, it gets the sums of that part, and all know the norm of the whole.
#[test]
fn a_rank_gets_the_sums_that_it_updates_with_and_the_norm_of_all() {
    if let Some(why) = stand_in::missing().unwrap() {
        return println!("skipped: {why}");
    }
    let file = config("led_plain");
    let config = file.path();
    let run = |size: usize, zero_stage: u8, communication_data_type: CommunicationType| {
        ranks_over(size, Some(Backend::Nccl), |group| {
            let device = Device::new(Rc::new(stand_in::open(Precision::Fp32, true).unwrap()));
            let options = ModelOptions::default();
            let loaded = models::random(config, &device, options, 1).unwrap();
            let limits = loaded.model.limits();
            let layout = Sharing { zero_stage, communication_data_type }.layout(&device, group);
            let mut session =
                Session::new(loaded, options, |loaded| ranked_train_state(loaded, layout)).unwrap();
            device.meet(group).unwrap();
            let mut found = Vec::new();
            for step in 0..STEPS as u64 {
                let seed = 10 * step + group.rank() as u64;
                let (source, target) = synthetic_batch(&limits, 2, 40, 7, seed).unwrap();
                let rule = models::LossRule { normaliser: 28.0, smoothing: 0.0 };
                let randomness = Randomness { seed, step };
                last_micro_step(&mut session, &source, &target, rule, randomness, group).unwrap();
                sum_gradients(&mut session, group, communication_data_type).unwrap();
                let norm = shared_norm(&mut session, group).unwrap();
                let state = &session.real().state;
                found.push((state.part(), state.gradients().read::<f32>().unwrap(), norm));
                forget_gradients(&session);
            }
            found
        })
    };
    for (size, communication) in [(3, CommunicationType::Fp32), (2, CommunicationType::Bf16)] {
        let (all, parts) = (run(size, 0, communication), run(size, 1, communication));
        for step in 0..STEPS {
            let (whole, summed, none) = &all[0][step];
            assert!(whole.len() == summed.len() && none.is_none());
            let norm = summed.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let mut covered = 0;
            for rank in &parts {
                let (part, ours, shared) = &rank[step];
                assert!(
                    bits(&ours[part.clone()]) == bits(&summed[part.clone()]),
                    "{size} ranks: step {step}"
                );
                assert!(bits(ours) != bits(summed), "a rank has sums that are another's");
                let shared = f64::from(shared.unwrap());
                assert!((shared / norm - 1.0).abs() < 1e-6, "{size} ranks: a norm of {shared}, not {norm}");
                covered += part.len();
            }
            assert_eq!(covered, summed.len());
        }
    }
}

/// On GPUs, within the backward pass, against the gradients that each rank has by itself: as near as 8 bits of what each
/// gives and of the sum allow.
#[test]
fn gradients_in_bf16_are_as_near_as_their_bits_allow() {
    if let Some(why) = stand_in::missing().unwrap() {
        return println!("skipped: {why}");
    }
    let file = config("led_plain");
    let config = file.path();
    let gradients = |group: &Rc<Group>, seed: u64, communication: CommunicationType| {
        let device = Device::new(Rc::new(stand_in::open(Precision::Fp32, true).unwrap()));
        let options = ModelOptions::default();
        let loaded = models::random(config, &device, options, 1).unwrap();
        let (source, target) = synthetic_batch(&loaded.model.limits(), 2, 40, 7, seed).unwrap();
        let layout = RankLayout::of(Shard::ALL, communication, device.backend(group), group.size());
        let mut session = Session::new(loaded, options, |loaded| ranked_train_state(loaded, layout)).unwrap();
        device.meet(group).unwrap();
        let mut all = Vec::new();
        for step in 0..STEPS as u64 {
            let rule = models::LossRule { normaliser: 28.0, smoothing: 0.0 };
            let randomness = Randomness { seed, step };
            last_micro_step(&mut session, &source, &target, rule, randomness, group).unwrap();
            sum_gradients(&mut session, group, communication).unwrap();
            all.push(session.real().state.gradients().read::<f32>().unwrap());
            forget_gradients(&session);
        }
        all
    };
    let alone: Vec<_> =
        [1, 2].map(|seed| gradients(&Rc::new(Group::alone()), seed, CommunicationType::Bf16)).into();
    let both = ranks_over(2, Some(Backend::Nccl), |group| {
        gradients(group, 1 + group.rank() as u64, CommunicationType::Bf16)
    });
    assert!(both[0] == both[1], "ranks differ");
    let unit = f64::from(2f32.powi(-8));
    for step in 0..STEPS {
        let mut rounded = 0;
        for (i, got) in both[0][step].iter().enumerate() {
            let [a, b] = [0, 1].map(|rank| f64::from(alone[rank][step][i]));
            let (exact, parts) = (a + b, a.abs() + b.abs());
            let bound = unit * (parts + exact.abs() + unit * parts) + 1e-30;
            let apart = (f64::from(*got) - exact).abs();
            assert!(apart <= bound, "step {step}, {i}: {got} for {exact}");
            rounded += usize::from(apart > 1e-6 * parts);
        }
        assert!(rounded > both[0][step].len() / 4, "only {rounded} are rounded");
    }
}
