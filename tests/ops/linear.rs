use crate::case::check;
use crate::device::poisoned;
use crate::truth;
use wattention::cases::products as cases;
use wattention::error::Error;
use wattention::ops::linear::linear;
use wattention::shape::DType;
use wattention::tape::Tape;
use wattention::tensor::Tensor;

#[test]
pub fn gradients() {
    for case in cases::Linear::all() {
        check(&case.case(), &|x| vec![truth::linear(&x[0], &x[1], x.get(2).map(Vec::as_slice), case.i)]);
    }
}

#[test]
fn a_batch_keeps_its_dimensions() {
    let device = poisoned();
    let new = |shape: &[usize; 3]| Tensor::persistent(&device, *shape, DType::F32).unwrap();
    let w = new(&[1, 5, 12]).reshape([5, 12]).unwrap();
    let y = linear(&Tape::off(), &new(&[2, 9, 12]), &w, None).unwrap();
    assert_eq!(y.shape(), [2, 9, 5].into());
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
