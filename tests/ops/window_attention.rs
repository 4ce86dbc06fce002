use crate::ops::attention_precision;
use crate::ops::case::check_f32;
use crate::ops::device::poisoned;
use crate::ops::truth;
use crate::support::attention::{Pair, Sizes, attention};
use wattention::cases::Case;
use wattention::cases::attention as cases;
use wattention::error::Error;
use wattention::ops::attention::window_attention::{Window, window_attention};
use wattention::shape::DType;
use wattention::tape::{Dropout, Tape};
use wattention::tensor::Tensor;

/// Gives `check` a case with its sizes, how often each key enters a query's softmax, and the factors of dropout.
pub fn with_truth(
    case: &cases::Window,
    check: impl FnOnce(&Case, Sizes, &(dyn Fn(Pair) -> f64 + Sync), &(dyn Fn(Pair) -> f64 + Sync)),
) {
    let &cases::Window { s, h, d, w, dropout, .. } = case;
    let (state, _, _) = case.tokens();
    let sizes = Sizes::square(case.samples.len(), s, h, d);
    let state = |b: usize, j: usize| state[b * s + j];
    let times = |at: Pair| match (state(at.b, at.i), state(at.b, at.j)) {
        (1, 2) => 1.0,
        (1, 1) => (at.i.abs_diff(at.j) <= w) as u8 as f64,
        _ => 0.0,
    };
    let factor = |at| match dropout.is_off() {
        true => 1.0,
        false => truth::dropout(dropout, sizes.element(at)),
    };
    check(&case.case(), sizes, &times, &factor);
}

#[test]
fn gradients() {
    for case in cases::Window::all() {
        with_truth(&case, |case, sizes, times, factor| {
            check_f32(case, &|x| vec![attention([&x[0], &x[1], &x[2]], sizes, times, factor).0]);
            attention_precision::check(case, sizes, times, factor);
        });
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let run = |k_rows: usize, states: usize, heads: usize| {
        let new = |shape: [usize; 3]| Tensor::persistent(&device, shape, DType::F32).unwrap();
        let (q, k) = (new([1, 4, 6]), new([1, k_rows, 6]));
        let key_state = &Tensor::persistent(&device, [1, states], DType::I32).unwrap();
        let global_index = &Tensor::upload(&device, [1, 1], &[-1i32]).unwrap();
        let dropout = Dropout::OFF;
        let pattern = Window { heads, window: 1, key_state, global_index, dropout };
        window_attention(&Tape::off(), &q, &k, &k, pattern)
    };
    assert!(run(4, 4, 2).is_ok());
    for got in [run(3, 4, 2), run(4, 3, 2), run(4, 4, 4)] {
        assert!(matches!(got, Err(Error::Shape { op: "window_attention", .. })));
    }
}
