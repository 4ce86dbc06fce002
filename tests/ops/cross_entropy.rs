use crate::ops::case::check;
use crate::ops::device::poisoned;
use crate::ops::truth;
use crate::support::compare::widened;
use wattention::cases::products::CrossEntropy;
use wattention::error::Error;
use wattention::ops::cross_entropy::{Head, cross_entropy};
use wattention::shape::DType;
use wattention::tape::Tape;
use wattention::tensor::Tensor;

#[test]
fn gradients() {
    for sizes in CrossEntropy::all() {
        let (bias, labels) = (widened(&sizes.bias()), sizes.labels());
        check(&sizes.case(), &|x| {
            let logits = truth::linear(&x[0], &x[1], Some(&bias), sizes.c);
            let loss = truth::cross_entropy(&logits, &labels, sizes.v, sizes.smoothing as f64);
            vec![vec![loss / sizes.normaliser as f64]]
        });
    }
}

/// exp(logit) alone would overflow f32.
#[test]
fn large_logits_do_not_overflow() {
    let device = poisoned();
    let upload = |shape: [usize; 2], values: &[f32]| Tensor::upload(&device, shape, values).unwrap();
    let (h, table) = (upload([1, 1], &[300.0]), upload([2, 1], &[1.0, -1.0]));
    let bias = &upload([1, 2], &[0.0, 0.0]);
    let labels = &Tensor::upload(&device, [1], &[1i32]).unwrap();
    let normaliser = &Tensor::upload(&device, [1], &[1.0f32]).unwrap();
    let head = Head { table: &table, bias, labels, normaliser, smoothing: 0.0 };
    let loss = cross_entropy(&Tape::off(), &h, head).unwrap();
    assert_eq!(loss.read::<f32>().unwrap(), [600.0]);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let new = |shape: [usize; 2]| Tensor::persistent(&device, shape, DType::F32).unwrap();
    let run = |h: [usize; 2], labels: usize, bias: usize, normalisers: usize| {
        let labels = &Tensor::persistent(&device, [labels], DType::I32).unwrap();
        let (table, bias, normaliser) = (&new([5, 3]), &new([1, bias]), &new([1, normalisers]));
        let head = Head { table, bias, labels, normaliser, smoothing: 0.0 };
        cross_entropy(&Tape::off(), &new(h), head)
    };
    assert!(run([2, 3], 2, 5, 1).is_ok());
    // No rows, another width, other numbers of labels, biases and normalisers.
    for got in [
        run([0, 3], 0, 5, 1),
        run([2, 4], 2, 5, 1),
        run([2, 3], 3, 5, 1),
        run([2, 3], 2, 4, 1),
        run([2, 3], 2, 5, 2),
    ] {
        assert!(matches!(got, Err(Error::Shape { op: "cross_entropy", .. })));
    }
}
