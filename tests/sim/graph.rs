//! Steps as graphs: run directly, recorded, replayed; what a graph cannot hold is refused.

use crate::support::compare::{assert_near, widened};
use std::rc::Rc;
use wattention::device::plan::Plan;
use wattention::device::sim::Sim;
use wattention::device::{Device, GraphCounts, Layout, Precision};
use wattention::error::Result;
use wattention::ops::activation::{Activation, activation};
use wattention::ops::dropout::dropout;
use wattention::shape::DType;
use wattention::tape::{Randomness, Tape};
use wattention::tensor::Tensor;

const N: usize = 300;

struct Steps {
    sim: Rc<Sim>,
    device: Device,
    layout: Rc<Layout>,
}

/// What a step does: its input differs from run to run, and so does what it drops.
fn work(device: &Device, kind: Activation, run: u64) -> Result<Tensor> {
    let values: Vec<f32> = (0..N).map(|i| (i as f32 - 150.0 + run as f32) / 50.0).collect();
    let x = Tensor::upload(device, [N], &values)?;
    let tape = Tape::training(device, Randomness { seed: 5, step: run })?;
    let y = dropout(&tape, &activation(&tape, &x, kind)?, tape.dropout(0.5))?;
    activation(&tape, &y, Activation::GeluNew)
}

impl Steps {
    fn new() -> Self {
        let plan = Plan::new(Precision::Fp32);
        plan.record();
        let y = work(&Device::new(plan.clone()), Activation::Gelu, 0).unwrap();
        let layout = plan.finish().unwrap().layout;
        drop(y);
        let sim = Rc::new(Sim::new(Precision::Fp32).unwrap());
        Steps { device: Device::new(sim.clone()), sim, layout }
    }

    fn step(&self, work: impl FnOnce(&Device) -> Result<Tensor>) -> Result<Vec<f32>> {
        self.device.begin_step(&self.layout)?;
        match work(&self.device) {
            Ok(y) => {
                self.device.end_step()?;
                y.read()
            }
            Err(e) => {
                self.device.abandon_step();
                Err(e)
            }
        }
    }

    fn run(&self, kind: Activation, run: u64) -> Vec<f32> {
        self.step(|device| work(device, kind, run)).unwrap()
    }
}

/// The same work on the CPU, without steps.
fn expected(kind: Activation, run: u64) -> Vec<f32> {
    work(&Device::cpu(), kind, run).unwrap().read().unwrap()
}

fn assert_same(got: &[f32], want: &[f32]) {
    assert_near("a step", got, &widened(want), 1e-5);
}

#[test]
fn replays_take_new_inputs_and_new_randomness() {
    let steps = Steps::new();
    for run in 0..5 {
        assert_same(&steps.run(Activation::Gelu, run), &expected(Activation::Gelu, run));
    }
    // The input and the step's randomness are uploaded: no launch is another one.
    let counts = GraphCounts { direct: 1, recorded: 1, replayed: 3, changed: 0, diverged: 0 };
    assert_eq!(steps.sim.graph_counts(), counts);
}

#[test]
fn changed_sizes_are_replayed_with_their_new_values() {
    let steps = Steps::new();
    for (run, kind) in
        [Activation::Gelu, Activation::Gelu, Activation::Relu, Activation::Gelu].iter().enumerate()
    {
        assert_same(&steps.run(*kind, run as u64), &expected(*kind, run as u64));
    }
    let counts = steps.sim.graph_counts();
    assert_eq!((counts.replayed, counts.changed), (2, 2));
}

#[test]
fn a_step_that_leaves_its_recording_is_run_and_recorded_anew() {
    let steps = Steps::new();
    let other = |device: &Device| {
        let values = vec![1.0f32; N];
        let x = Tensor::upload(device, [N], &values)?;
        let tape = Tape::training(device, Randomness { seed: 5, step: 0 })?;
        activation(&tape, &x, Activation::Relu)
    };
    for run in 0..3 {
        steps.run(Activation::Gelu, run);
    }
    assert_eq!(steps.step(other).unwrap(), vec![1.0; N], "it stopped half-way");
    assert_eq!(steps.sim.graph_counts().diverged, 1);
    for run in 3..6 {
        assert_same(&steps.run(Activation::Gelu, run), &expected(Activation::Gelu, run));
    }
}

#[test]
fn reading_back_or_allocating_for_good_inside_a_graph_is_refused() {
    let steps = Steps::new();
    let reads = |device: &Device| {
        let y = work(device, Activation::Gelu, 0)?;
        y.read::<f32>()?;
        Ok(y)
    };
    steps.step(reads).expect("the first run is no graph");
    let message = steps.step(reads).unwrap_err().to_string();
    assert!(message.contains("read back inside a step"), "{message}");
    let allocates = |device: &Device| {
        Tensor::persistent(device, [4], DType::F32)?;
        work(device, Activation::Gelu, 0)
    };
    let steps = Steps::new();
    steps.step(allocates).expect("the first run is no graph");
    let message = steps.step(allocates).unwrap_err().to_string();
    assert!(message.contains("persistent allocation inside a step"), "{message}");
    // A step that failed leaves nothing behind.
    for run in 0..3 {
        assert_same(&steps.run(Activation::Gelu, run), &expected(Activation::Gelu, run));
    }
}
