use crate::ops::case::check;
use crate::ops::device::{poisoned, watched};
use crate::ops::truth;
use crate::support::compare::widened;
use std::cell::Cell;
use std::rc::Rc;
use wattention::cases::products::CrossEntropy;
use wattention::cases::trial::Trial;
use wattention::device::Precision;
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

/// cuBLASLt has no fast algorithm for a matrix whose rows start elsewhere, and the vocabularies of LED (50265) and of
/// Pegasus (96103) are odd.
#[test]
fn rows_of_every_product_start_on_16_bytes_whatever_the_vocabulary() {
    for (precision, v) in
        [Precision::Fp32, Precision::Bf16].into_iter().flat_map(|p| [(p, 50265), (p, 96103)])
    {
        let products = Rc::new(Cell::new(0));
        let seen = products.clone();
        let device = watched(precision, move |kernel, call| {
            if kernel.name != "matmul" {
                return;
            }
            let [n, k, form, a_row, c_row] = call.sizes(["n", "k", "form", "a_row", "c_row"]);
            let b_row = if form == 1 { k } else { n };
            let (a, b, c) = (call.input("a"), call.input("b"), call.output("c"));
            for (row, arg) in [(a_row, a), (b_row, b), (c_row, c)] {
                let bytes = row * arg.dtype.size();
                assert!(bytes.is_multiple_of(16), "{precision}: a row of {bytes} bytes, V = {v}");
            }
            seen.set(seen.get() + 1);
        });
        let case = CrossEntropy { m: 2, v, c: 16, smoothing: 0.0, normaliser: 2.0 }.case();
        let trial = Trial::new(&case, &device, precision).unwrap();
        let (tape, outputs) = trial.forward().unwrap();
        let upstream = trial.upstream(&outputs).unwrap();
        trial.backward(tape, outputs, upstream, &mut trial.gradients().unwrap()).unwrap();
        assert_eq!(products.get(), 3, "the logits, and the gradients of both factors");
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
    let head = Head { table: &table, int8: None, bias, labels, normaliser, smoothing: 0.0 };
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
        let head = Head { table, int8: None, bias, labels, normaliser, smoothing: 0.0 };
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
