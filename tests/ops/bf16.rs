//! The listed cases in bf16, against the same f64 truth: activations and their gradients are rounded, gradients of
//! parameters are f32.

use crate::ops::case::Truth;
use crate::ops::device::poisoned_in;
use crate::support::compare::{assert_within, largest, mixed, random, widened};
use half::bf16;
use wattention::cases::{Case, upload};
use wattention::device::Precision;
use wattention::shape::DType;
use wattention::tape::{Gradients, Tape};
use wattention::tensor::{Node, Tensor};

/// Roundings to 8 bits on the way from the inputs to a result, each of half a unit, may add up to this many units.
const UNITS: f64 = 4.0;
const UNIT: f64 = 1.0 / 256.0;
const STEP: f64 = 1e-5;
/// Elements of a gradient that are compared with differences.
const FEW: u64 = 24;

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect()
}

/// Values and gradients of a case.
pub fn check(case: &Case, truth: Truth) {
    let device = poisoned_in(Precision::Bf16);
    let name = format!("{}, {} in bf16", case.op, case.name);
    let values: Vec<Vec<f32>> =
        case.inputs.iter().enumerate().map(|(i, input)| rounded(&input.values(i))).collect();
    let mut gradients = Gradients::new();
    let mut leaves = Vec::new();
    for (input, values) in case.inputs.iter().zip(&values) {
        let leaf = upload(&device, input.shape, values).unwrap().with_node(Some(Node::fresh()));
        if input.parameter {
            let buffer = Tensor::persistent(&device, input.shape, DType::F32).unwrap();
            gradients.register(&leaf, buffer).unwrap();
        }
        leaves.push(leaf);
    }
    let tape = Tape::gradients();
    let outputs = (case.forward)(&tape, &leaves).unwrap();
    let wide: Vec<Vec<f64>> = values.iter().map(|values| widened(values)).collect();
    let want = truth(&wide);
    assert_eq!(outputs.len(), want.len());
    let mut upstream = Vec::new();
    for (i, (got, want)) in outputs.iter().zip(&want).enumerate() {
        let what = format!("{name}: output {i}");
        assert_within(&what, &got.read_floats().unwrap(), want, UNITS * UNIT * largest(want));
        upstream.push(rounded(&random(50 + i as u64, got.len())));
    }

    let given: Vec<(Tensor, Tensor)> = outputs
        .iter()
        .zip(&upstream)
        .map(|(y, values)| match y.dtype() {
            DType::BF16 => (y.clone(), upload(&device, y.shape(), values).unwrap()),
            _ => (y.clone(), Tensor::upload(&device, y.shape(), values).unwrap()),
        })
        .collect();
    let loss = Tensor::upload(&device, [1], &[0.0f32]).unwrap();
    let every: Vec<&Tensor> = outputs.iter().collect();
    let loss = tape.record(&every, loss, move |_, gradients| {
        given.into_iter().try_for_each(|(y, dy)| gradients.add(&y, dy))
    });
    drop(outputs);
    tape.backward(&loss, 1.0, &mut gradients).unwrap();
    for (i, (leaf, input)) in leaves.iter().zip(&case.inputs).enumerate() {
        let got = gradients.of(leaf).unwrap();
        assert_eq!(got.dtype() == DType::F32, input.parameter, "{name}: gradient {i}");
        let got = got.read_floats().unwrap();
        assert!(got.iter().all(|g| g.is_finite()), "{name}: gradient {i} has {got:?}");
        let chosen: Vec<usize> = (0..FEW).map(|e| mixed(e + 1) as usize % got.len()).collect();
        let want: Vec<f64> = chosen.iter().map(|&e| derivative(truth, &wide, [i, e], &upstream)).collect();
        let picked: Vec<f32> = chosen.iter().map(|&e| got[e]).collect();
        let size = largest(&want).max(case.cancelling);
        assert_within(&format!("{name}: gradient of input {i}"), &picked, &want, UNITS * UNIT * size + 1e-7);
    }
}

/// The derivative of the outputs, weighted by `upstream`, in element e of input i.
fn derivative(truth: Truth, wide: &[Vec<f64>], [i, e]: [usize; 2], upstream: &[Vec<f32>]) -> f64 {
    let at = |step: f64| {
        let mut moved = wide.to_vec();
        moved[i][e] += step;
        let outputs = truth(&moved);
        let weighted = outputs.iter().flatten().zip(upstream.iter().flatten());
        weighted.map(|(y, &weight)| y * weight as f64).sum::<f64>()
    };
    (at(STEP) - at(-STEP)) / (2.0 * STEP)
}
