use crate::case::{Case, inputs};
use crate::device::poisoned;
use crate::truth;
use wattention::error::Error;
use wattention::ops::linear::linear;
use wattention::shape::DType;
use wattention::tape::Tape;
use wattention::tensor::Tensor;

#[test]
pub fn gradients() {
    // One row takes the skinny product; 150 rows are several tiles and several bias tasks.
    for [n, i, o] in [[1, 1, 1], [1, 37, 20], [3, 5, 7], [150, 70, 33], [67, 300, 129]] {
        Case {
            name: format!("linear {n} {i} {o}"),
            inputs: inputs(&[[n, i].into(), [o, i].into(), [o].into()]),
            forward: &|tape, x| Ok(vec![linear(tape, &x[0], &x[1], Some(&x[2]))?]),
            truth: &|x| vec![truth::linear(&x[0], &x[1], Some(&x[2]), i)],
            terms: n.max(i).max(o),
            cancelling: 0.0,
        }
        .check();
    }
}

#[test]
fn without_bias_on_a_batch() {
    let (b, t, i, o) = (2, 9, 12, 5);
    Case {
        name: "linear without bias".into(),
        inputs: inputs(&[[b, t, i].into(), [o, i].into()]),
        forward: &|tape, x| {
            let y = linear(tape, &x[0], &x[1], None)?;
            assert_eq!(y.shape(), [b, t, o].into());
            Ok(vec![y])
        },
        truth: &|x| vec![truth::linear(&x[0], &x[1], None, i)],
        terms: b * t,
        cancelling: 0.0,
    }
    .check();
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let new = |shape: [usize; 2]| Tensor::persistent(&device, shape, DType::F32).unwrap();
    let tape = Tape::off();
    for (w, b) in [([5, 4], None), ([5, 3], Some(new([1, 4])))] {
        let got = linear(&tape, &new([2, 3]), &new(w), b.as_ref());
        assert!(matches!(got, Err(Error::Shape { op: "linear", .. })));
    }
}
