//! `ops::ALL` against the tests of this suite, and its kernels against those that the cases launch.

use crate::ops::device::listing;
use crate::ops::{
    activation, adamw, argmax, block_sparse_attention, cross_entropy, decode_attention, dense_attention,
    dropout, embedding, global_attention, gradient_norm, layer_norm, linear, rows, window_attention,
};
use std::collections::BTreeSet;
use wattention::cases::{self, trial::Trial};
use wattention::device::Precision;
use wattention::ops::{self, Gradient};

/// The test that compares an op's gradients with differences of its f64 truth.
const WITH_GRADIENT: [(&str, fn()); 11] = [
    ("activation", activation::gradients),
    ("block_sparse_attention", block_sparse_attention::gradients),
    ("cross_entropy", cross_entropy::gradients),
    ("dense_attention", dense_attention::gradients),
    ("dropout", dropout::gradients),
    ("embedding", embedding::gradients),
    ("global_attention", global_attention::gradients),
    ("layer_norm", layer_norm::gradients),
    ("linear", linear::gradients),
    ("rows", rows::gradients),
    ("window_attention", window_attention::gradients),
];

/// The test of the values of an op that has no gradient.
const WITHOUT_GRADIENT: [(&str, fn()); 4] = [
    ("adamw", adamw::values),
    ("argmax", argmax::values),
    ("decode_attention", decode_attention::values),
    ("gradient_norm", gradient_norm::values),
];

#[test]
fn every_op_has_a_gradient_test_or_says_why_not() {
    for op in ops::ALL {
        let listed = |list: &[(&str, fn())]| list.iter().any(|(name, _)| *name == op.name);
        match op.gradient {
            Gradient::Recorded => {
                assert!(listed(&WITH_GRADIENT), "{}: no gradient test is listed", op.name);
            }
            Gradient::None(reason) => {
                assert!(listed(&WITHOUT_GRADIENT), "{}: no test is listed", op.name);
                assert!(reason.len() > 10, "{}: `{reason}` explains nothing", op.name);
            }
        }
    }
    let names: BTreeSet<&str> = ops::ALL.iter().map(|op| op.name).collect();
    let tests = WITH_GRADIENT.iter().chain(&WITHOUT_GRADIENT);
    let tested: BTreeSet<&str> = tests.map(|(name, _)| *name).collect();
    assert_eq!(names, tested);
    assert_eq!(names.len(), ops::ALL.len(), "two ops have one name");
}

#[test]
fn the_cases_launch_every_kernel_and_every_kernel_they_launch_is_registered() {
    let (device, launched) = listing();
    for case in cases::all() {
        let trial = Trial::new(&case, &device, Precision::Fp32).unwrap();
        let (tape, outputs) = trial.forward().unwrap();
        let upstream = trial.upstream(&outputs).unwrap();
        trial.backward(tape, outputs, upstream, &mut trial.gradients().unwrap()).unwrap();
    }
    let launched = launched.take();
    let registered: BTreeSet<&str> =
        ops::ALL.iter().flat_map(|op| op.kernels.iter().map(|kernel| kernel.name)).collect();
    let idle: Vec<_> = registered.difference(&launched).collect();
    assert!(idle.is_empty(), "launched by no case: {idle:?}");
    // The bookkeeping of gradients launches these by itself.
    let tape = BTreeSet::from(["fill", "accumulate"]);
    let unknown: Vec<_> =
        launched.iter().filter(|k| !registered.contains(*k) && !tape.contains(*k)).collect();
    assert!(unknown.is_empty(), "launched, but not registered in ops::ALL: {unknown:?}");
}

#[test]
fn kernels_are_named_after_their_op() {
    for op in ops::ALL {
        for kernel in op.kernels.iter().filter(|kernel| kernel.name != "matmul") {
            let fits = kernel.name.strip_prefix(op.name).is_some_and(|rest| rest.starts_with('_'));
            assert!(fits, "{} of {}", kernel.name, op.name);
        }
    }
}
