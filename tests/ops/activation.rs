use crate::ops::case::check;
use crate::ops::device::poisoned;
use crate::ops::truth;
use crate::support::compare::{assert_close, widened};
use wattention::cases::elementwise as cases;
use wattention::ops::activation::{Activation, activation};
use wattention::tape::Tape;
use wattention::tensor::Tensor;

type Function = fn(f64) -> f64;

const KINDS: [(Activation, Function); 3] = [
    (Activation::Gelu, truth::gelu),
    (Activation::GeluNew, truth::gelu_tanh),
    (Activation::Relu, truth::relu),
];

#[test]
fn gradients() {
    for case in cases::Activation::all() {
        let (_, function) = KINDS.into_iter().find(|(kind, _)| *kind == case.kind).unwrap();
        check(&case.case(), &|x| vec![x[0].iter().map(|&x| function(x)).collect()]);
    }
}

#[test]
fn far_tails_are_zero_or_the_input() {
    let values = [-40.0f32, -9.0, -6.0, 0.0, 6.0, 9.0, 40.0];
    let x = Tensor::upload(&poisoned(), [values.len()], &values).unwrap();
    for (kind, function) in KINDS {
        let y = activation(&Tape::off(), &x, kind).unwrap();
        let want: Vec<f64> = widened(&values).into_iter().map(function).collect();
        assert_close(&format!("{kind:?}"), &y.read().unwrap(), &want, 1);
    }
}
