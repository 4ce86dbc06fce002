//! `ops::ALL` against the cases on which its ops are tried, and its kernels against those that the cases launch.

use crate::ops::device::listing;
use std::collections::BTreeSet;
use wattention::cases::{self, trial::Trial};
use wattention::device::Precision;
use wattention::ops::{self, Gradient};

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
    let known: BTreeSet<&str> = ops::kernels().iter().map(|kernel| kernel.name).collect();
    let unknown: Vec<_> = launched.difference(&known).collect();
    assert!(unknown.is_empty(), "launched, but in no registry: {unknown:?}");
}

#[test]
fn kernels_are_named_after_their_op() {
    for op in ops::ALL {
        for kernel in op.kernels.iter().filter(|kernel| kernel.name != "matmul") {
            let fits = kernel.name.strip_prefix(op.name).is_some_and(|rest| rest.starts_with('_'));
            assert!(fits, "{} of {}", kernel.name, op.name);
        }
    }
    let names: BTreeSet<&str> = ops::ALL.iter().map(|op| op.name).collect();
    assert_eq!(names.len(), ops::ALL.len(), "two ops have one name");
}

#[test]
fn an_op_without_a_gradient_says_why() {
    for op in ops::ALL {
        if let Gradient::None(reason) = op.gradient {
            assert!(reason.len() > 10, "{}: `{reason}` explains nothing", op.name);
        }
    }
}
