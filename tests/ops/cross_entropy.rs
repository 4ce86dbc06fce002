use crate::case::{Case, inputs};
use crate::compare::{mixed, random, widened};
use crate::device::poisoned;
use crate::truth;
use wattention::error::Error;
use wattention::ops::cross_entropy::{Head, SLICE, cross_entropy};
use wattention::shape::DType;
use wattention::tape::Tape;
use wattention::tensor::Tensor;

#[test]
pub fn gradients() {
    // Up to SLICE rows the logits are kept; beyond, each slice is computed again.
    for [m, v, c] in [[1, 1, 1], [1, 9, 3], [5, 7, 3], [SLICE, 13, 4], [2 * SLICE + 9, 13, 4]] {
        for (smoothing, normaliser) in [(0.0, m as f32), (0.1, 3.75)] {
            check([m, v, c], smoothing, normaliser);
        }
    }
}

fn check([m, v, c]: [usize; 3], smoothing: f32, normaliser: f32) {
    let labels: Vec<i32> = (0..m).map(|i| (mixed(i as u64) % v as u64) as i32).collect();
    let bias = random(9, v);
    Case {
        name: format!("cross_entropy {m} {v} {c}, smoothing {smoothing}"),
        inputs: inputs(&[[m, c].into(), [v, c].into()]),
        forward: &|tape, x| {
            let device = x[0].device();
            let bias = &Tensor::upload(device, [v], &bias)?;
            let labels = &Tensor::upload(device, [m], &labels)?;
            let head = Head { table: &x[1], bias, labels, normaliser, smoothing };
            Ok(vec![cross_entropy(tape, &x[0], head)?])
        },
        truth: &|x| {
            let logits = truth::linear(&x[0], &x[1], Some(&widened(&bias)), c);
            let loss = truth::cross_entropy(&logits, &labels, v, smoothing as f64);
            vec![vec![loss / normaliser as f64]]
        },
        terms: m + v + c,
        cancelling: 0.0,
    }
    .check();
}

/// A row that is more than one block of gradients, and that starts anywhere in a vector.
#[test]
fn a_large_vocabulary() {
    check([3, 8201, 2], 0.1, 3.0);
}

/// exp(logit) alone would overflow f32.
#[test]
fn large_logits_do_not_overflow() {
    let device = poisoned();
    let upload = |shape: [usize; 2], values: &[f32]| Tensor::upload(&device, shape, values).unwrap();
    let (h, table) = (upload([1, 1], &[300.0]), upload([2, 1], &[1.0, -1.0]));
    let bias = &upload([1, 2], &[0.0, 0.0]);
    let labels = &Tensor::upload(&device, [1], &[1i32]).unwrap();
    let head = Head { table: &table, bias, labels, normaliser: 1.0, smoothing: 0.0 };
    let loss = cross_entropy(&Tape::off(), &h, head).unwrap();
    assert_eq!(loss.read::<f32>().unwrap(), [600.0]);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let new = |shape: [usize; 2]| Tensor::persistent(&device, shape, DType::F32).unwrap();
    let run = |h: [usize; 2], labels: usize, bias: usize| {
        let labels = &Tensor::persistent(&device, [labels], DType::I32).unwrap();
        let (table, bias) = (&new([5, 3]), &new([1, bias]));
        let head = Head { table, bias, labels, normaliser: 1.0, smoothing: 0.0 };
        cross_entropy(&Tape::off(), &new(h), head)
    };
    assert!(run([2, 3], 2, 5).is_ok());
    // No rows, another width, other numbers of labels and biases.
    for got in [run([0, 3], 0, 5), run([2, 4], 2, 5), run([2, 3], 3, 5), run([2, 3], 2, 4)] {
        assert!(matches!(got, Err(Error::Shape { op: "cross_entropy", .. })));
    }
}
