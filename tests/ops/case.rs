//! One op on one set of inputs, checked in every way that a tape can use it.

use crate::ops::device::{in_order, poisoned, simulated};
use crate::support::compare::{assert_close, assert_within, bits, bound, largest, mixed, random, widened};
use wattention::device::sim::Order;
use wattention::error::Result;
use wattention::ops::linear::linear;
use wattention::ops::rows;
use wattention::shape::{DType, Shape};
use wattention::tape::{Gradients, Tape};
use wattention::tensor::{Node, Tensor};

/// What the op computes on the device, and what it should be.
pub type Forward<'a> = &'a (dyn Fn(&Tape, &[Tensor]) -> Result<Vec<Tensor>> + Sync);
pub type Truth<'a> = &'a (dyn Fn(&[Vec<f64>]) -> Vec<Vec<f64>> + Sync);

pub struct Case<'a> {
    pub name: String,
    /// Differentiable inputs; integers and masks are captured by `forward`.
    pub inputs: Vec<(Shape, Vec<f32>)>,
    pub forward: Forward<'a>,
    pub truth: Truth<'a>,
    /// The longest sum in the forward or the backward pass.
    pub terms: usize,
    /// Size of the terms of a gradient that cancel exactly, 0 where none do.
    pub cancelling: f64,
}

pub struct Outcome {
    pub outputs: Vec<Vec<f32>>,
    /// Empty for an input that needed none.
    pub gradients: Vec<Vec<f32>>,
}

/// How the gradients reach the inputs.
#[derive(Clone, Copy, Debug)]
enum Route {
    /// Inputs are parameters; this many backward passes add to registered buffers.
    Parameters { passes: usize },
    /// The same in one pass, with inputs and buffers whose first element is the second of a block.
    Unaligned,
    /// Inputs are activations and the op is used twice, so that its kernels assign, then add.
    UsedTwice,
    /// The same, but both uses share this input only: one gradient adds while the others assign.
    Shared(usize),
}

/// Inputs with at most this many elements have every partial derivative checked.
const FEW: usize = 32;
const STEP: f64 = 1e-5;
/// Rounding and truncation of a central difference in f64 with [`STEP`].
const NUMERIC: f64 = 1e-8;

/// Elements of a case that the simulator would take long over in every way.
const LARGE: usize = 12_000;

/// Checks a listed case against its truth in every way, and in bf16.
pub fn check(case: &wattention::cases::Case, truth: Truth) {
    check_f32(case, truth);
    crate::ops::bf16::check(case, truth);
}

/// Checks a listed case against its truth in every way.
pub fn check_f32(case: &wattention::cases::Case, truth: Truth) {
    let values = |(i, input): (usize, &wattention::cases::Input)| (input.shape, input.values(i));
    let elements: usize = case.inputs.iter().map(|input| input.shape.len()).sum();
    let case = Case {
        name: format!("{}, {}", case.op, case.name),
        inputs: case.inputs.iter().enumerate().map(values).collect(),
        forward: &case.forward,
        truth,
        terms: case.terms,
        cancelling: case.cancelling,
    };
    match simulated() && elements > LARGE {
        true => case.check_once(),
        false => case.check(),
    }
}

impl Case<'_> {
    /// Everything: values, gradients, accumulation, absent gradients, threads.
    pub fn check(&self) {
        let all = vec![true; self.inputs.len()];
        let once = self.run_threads(Route::Parameters { passes: 1 }, &all);
        self.check_outputs(&once);
        let numeric = self.check_gradients(&once);

        let twice = self.run_threads(Route::Parameters { passes: 2 }, &all);
        self.check_multiple("two passes", &twice, &once, 2.0);
        let fan_out = self.run_threads(Route::UsedTwice, &all);
        self.check_multiple("used twice", &fan_out, &once, 2.0);
        for only in (0..self.inputs.len()).filter(|_| self.inputs.len() > 1) {
            let wanted: Vec<bool> = (0..self.inputs.len()).map(|i| i == only).collect();
            let shared = self.run(Route::Shared(only), &all);
            self.check_multiple(&format!("input {only} shared"), &shared, &once, 2.0);
            let alone = self.run(Route::Parameters { passes: 1 }, &wanted);
            let what = format!("{}: gradient {only} alone", self.name);
            let want = widened(&once.gradients[only]);
            let size = largest(&want).max(self.cancelling);
            let tolerance = bound(self.terms) * size + NUMERIC * numeric;
            assert_within(&what, &alone.gradients[only], &want, tolerance);
        }
        let unaligned = self.run(Route::Unaligned, &all);
        self.check_outputs(&unaligned);
        self.check_multiple("unaligned", &unaligned, &once, 1.0);
        let untracked = self.run(Route::Parameters { passes: 1 }, &vec![false; self.inputs.len()]);
        for (a, b) in untracked.outputs.iter().zip(&once.outputs) {
            assert_eq!(bits(a), bits(b), "{}: values depend on the tape", self.name);
        }
    }

    /// Values and gradients alone.
    pub fn check_once(&self) {
        let once = self.outcome();
        self.check_outputs(&once);
        self.check_gradients(&once);
    }

    /// Values and gradients of one pass over registered parameters.
    pub fn outcome(&self) -> Outcome {
        self.run(Route::Parameters { passes: 1 }, &vec![true; self.inputs.len()])
    }

    fn check_outputs(&self, got: &Outcome) {
        let want = (self.truth)(&self.widened());
        assert_eq!(got.outputs.len(), want.len());
        for (i, (got, want)) in got.outputs.iter().zip(&want).enumerate() {
            assert_close(&format!("{}: output {i}", self.name), got, want, self.terms);
        }
    }

    /// Compares with central differences of the truth; returns the largest derivative.
    fn check_gradients(&self, got: &Outcome) -> f64 {
        let mut largest_of_all = 0.0f64;
        for (i, got) in got.gradients.iter().enumerate() {
            let what = format!("{}: gradient of input {i}", self.name);
            let n = got.len();
            let chosen: Vec<usize> = match n <= FEW {
                true => (0..n).collect(),
                false => (0..FEW as u64).map(|e| mixed(e + 1) as usize % n).collect(),
            };
            let want: Vec<f64> = chosen.iter().map(|&e| self.derivative(i, &[(e, 1.0)])).collect();
            let scale = largest(&want);
            largest_of_all = largest_of_all.max(scale);
            let tolerance = bound(self.terms) * scale.max(self.cancelling) + NUMERIC * scale.max(1.0);
            let picked: Vec<f32> = chosen.iter().map(|&e| got[e]).collect();
            assert_within(&what, &picked, &want, tolerance);
            // All elements at once, along a direction.
            let direction: Vec<(usize, f64)> = widened(&random(77, n)).into_iter().enumerate().collect();
            let want = self.derivative(i, &direction);
            let along: f64 = direction.iter().map(|&(e, d)| got[e] as f64 * d).sum();
            let error = (along - want).abs();
            let spread: f64 = direction.iter().map(|&(e, d)| (got[e] as f64 * d).abs()).sum();
            let spread = spread.max(scale).max(self.cancelling);
            let tolerance = bound(self.terms) * spread + NUMERIC * (1.0 + spread);
            assert!(error <= tolerance, "{what}: {along} along a direction, not {want}");
        }
        largest_of_all
    }

    fn check_multiple(&self, how: &str, got: &Outcome, once: &Outcome, factor: f64) {
        for (i, (got, once)) in got.gradients.iter().zip(&once.gradients).enumerate() {
            let want: Vec<f64> = once.iter().map(|&g| factor * g as f64).collect();
            let what = format!("{}, {how}: gradient of input {i}", self.name);
            let size = largest(&want).max(self.cancelling);
            assert_within(&what, got, &want, bound(self.terms) * size + NUMERIC);
        }
    }

    /// The derivative of the weighted sum of outputs along `direction` in input `i`.
    fn derivative(&self, i: usize, direction: &[(usize, f64)]) -> f64 {
        let at = |step: f64| {
            let mut inputs = self.widened();
            direction.iter().for_each(|&(e, d)| inputs[i][e] += step * d);
            let outputs = (self.truth)(&inputs);
            let weighted = |(o, output): (usize, &Vec<f64>)| -> f64 {
                let weights = upstream(o, output.len());
                output.iter().zip(weights).map(|(y, r)| y * r as f64).sum()
            };
            outputs.iter().enumerate().map(weighted).sum::<f64>()
        };
        (at(STEP) - at(-STEP)) / (2.0 * STEP)
    }

    fn widened(&self) -> Vec<Vec<f64>> {
        self.inputs.iter().map(|(_, values)| widened(values)).collect()
    }

    /// [`Case::run`] in several ways that must give the same bits: on one thread and on more, or
    /// with simulated threads in several orders.
    fn run_threads(&self, route: Route, wanted: &[bool]) -> Outcome {
        let run = || self.run(route, wanted);
        let (one, others) = match simulated() {
            true => {
                let orders = [Order::Reverse, Order::Shuffled(1)];
                (run(), orders.map(|order| (format!("{order:?}"), in_order(order, run))))
            }
            false => {
                let more = [2, 3].map(|n| (format!("{n} threads"), on_threads(n, run)));
                (on_threads(1, run), more)
            }
        };
        for (how, other) in others {
            let pairs = one.outputs.iter().zip(&other.outputs);
            for (a, b) in pairs.chain(one.gradients.iter().zip(&other.gradients)) {
                assert!(bits(a) == bits(b), "{}, {route:?}: other bits with {how}", self.name);
            }
        }
        one
    }

    fn run(&self, route: Route, wanted: &[bool]) -> Outcome {
        let device = poisoned();
        let mut gradients = Gradients::new();
        let leaves: Vec<Tensor> = self
            .inputs
            .iter()
            .zip(wanted)
            .map(|((shape, values), &wanted)| {
                let node = wanted.then(Node::fresh);
                let skip = matches!(route, Route::Unaligned) as usize;
                let block = [vec![f32::NAN; skip], values.clone()].concat();
                let block = Tensor::upload(&device, [block.len()], &block).unwrap();
                let leaf = block.slice(skip, *shape).unwrap().with_node(node);
                if wanted {
                    // The first write must assign all of it.
                    let buffer = Tensor::persistent(&device, [block.len()], DType::F32).unwrap();
                    buffer.write(&vec![f32::NAN; block.len()]).unwrap();
                    gradients.register(&leaf, buffer.slice(skip, *shape).unwrap()).unwrap();
                }
                leaf
            })
            .collect();
        let mut outputs = Vec::new();
        let passes = match route {
            Route::Parameters { passes } => passes,
            Route::Unaligned | Route::UsedTwice | Route::Shared(_) => 1,
        };
        for _ in 0..passes {
            let tape = match wanted.contains(&true) {
                true => Tape::gradients(),
                false => Tape::off(),
            };
            let (values, loss) = match route {
                Route::Parameters { .. } | Route::Unaligned => {
                    let values = (self.forward)(&tape, &leaves).unwrap();
                    let loss = weighted_sum(&tape, &values);
                    (values, loss)
                }
                Route::UsedTwice | Route::Shared(_) => {
                    let copy = || leaves.iter().map(|x| copied(&tape, x)).collect();
                    let mut inputs: Vec<Tensor> = copy();
                    let first = (self.forward)(&tape, &inputs).unwrap();
                    if let Route::Shared(shared) = route {
                        let others: Vec<Tensor> = copy();
                        let kept = std::mem::replace(&mut inputs, others).swap_remove(shared);
                        inputs[shared] = kept;
                    }
                    let second = (self.forward)(&tape, &inputs).unwrap();
                    let losses = [weighted_sum(&tape, &first), weighted_sum(&tape, &second)];
                    (second, sum(&tape, losses.into()))
                }
            };
            outputs = values.iter().map(|y| y.read().unwrap()).collect();
            drop(values);
            if wanted.contains(&true) {
                tape.backward(&loss, 1.0, &mut gradients).unwrap();
            }
        }
        let read = |leaf: &Tensor| gradients.of(leaf).map_or(Vec::new(), |g| g.read().unwrap());
        Outcome { outputs, gradients: leaves.iter().map(read).collect() }
    }
}

/// Runs `work` in a pool of its own.
pub fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(work)
}

/// d(loss)/d(output): never ones.
fn upstream(output: usize, n: usize) -> Vec<f32> {
    random(1000 + output as u64, n)
}

/// An activation with the value of `x`.
pub fn copied(tape: &Tape, x: &Tensor) -> Tensor {
    let index: Vec<i32> = (0..x.shape().rows() as i32).collect();
    let index = Tensor::upload(x.device(), [index.len()], &index).unwrap();
    rows::gather(tape, x, &index).unwrap().reshape(x.shape()).unwrap()
}

/// The loss `[1, 1]`: the sum of outputs weighted by their upstream gradients.
pub fn weighted_sum(tape: &Tape, outputs: &[Tensor]) -> Tensor {
    let terms = outputs.iter().enumerate().map(|(i, y)| {
        let n = y.len();
        let weights = Tensor::upload(y.device(), [1, n], &upstream(i, n)).unwrap();
        linear(tape, &y.reshape([1, n]).unwrap(), &weights, None).unwrap()
    });
    sum(tape, terms.collect())
}

fn sum(tape: &Tape, terms: Vec<Tensor>) -> Tensor {
    let first = Tensor::upload(terms[0].device(), [1], &[0i32]).unwrap();
    let add = |a: Tensor, b: Tensor| rows::scatter_add(tape, a, &b, &first).unwrap();
    terms.into_iter().reduce(add).unwrap()
}

/// Inputs of these shapes with pseudo-random values.
pub fn inputs(shapes: &[Shape]) -> Vec<(Shape, Vec<f32>)> {
    let input = |(i, shape): (usize, &Shape)| (*shape, random(i as u64 + 1, shape.len()));
    shapes.iter().enumerate().map(input).collect()
}
