use crate::ops::attention_precision;
use crate::ops::case::check_f32;
use crate::ops::device::poisoned;
use crate::ops::truth;
use crate::support::attention::{Pair, Sizes, attention};
use wattention::cases::{Case, attention as cases};
use wattention::error::Error;
use wattention::ops::attention::dense_attention::{Dense, dense_attention};
use wattention::shape::DType;
use wattention::tape::{Dropout, Tape};
use wattention::tensor::Tensor;

/// Gives `check` a case with its sizes, how often each pair counts, and the factors of dropout.
pub fn with_truth(
    case: &cases::Dense,
    check: impl FnOnce(&Case, Sizes, &(dyn Fn(Pair) -> f64 + Sync), &(dyn Fn(Pair) -> f64 + Sync)),
) {
    let cases::Dense { b, t, s, rows, h, d, causal, dropout, .. } = *case;
    let (sizes, state) = (Sizes { b, t, s, rows, h, d }, case.key_state());
    let visible = |b: usize, j: usize| state.as_ref().is_none_or(|m| m[b * rows + j] != 0);
    let before = |i: usize, j: usize| causal.is_none_or(|offset| j <= i + offset);
    let times = |at: Pair| (visible(at.b, at.j) && before(at.i, at.j)) as u8 as f64;
    let factor = |at| match dropout.is_off() {
        true => 1.0,
        false => truth::dropout(dropout, sizes.element(at)),
    };
    check(&case.case(), sizes, &times, &factor);
}

#[test]
fn gradients() {
    for case in cases::Dense::all() {
        with_truth(&case, |case, sizes, times, factor| {
            check_f32(case, &|x| vec![attention([&x[0], &x[1], &x[2]], sizes, times, factor).0]);
            attention_precision::check(case, sizes, times, factor);
        });
    }
}

/// exp(score) alone would overflow f32.
#[test]
fn large_scores_do_not_overflow() {
    let device = poisoned();
    let upload = |values: &[f32]| Tensor::upload(&device, [1, 2, 1], values).unwrap();
    let (q, k, v) = (upload(&[200.0, -200.0]), upload(&[1.0, 2.0]), upload(&[3.0, 5.0]));
    let pattern = Dense { heads: 1, key_len: 2, causal: None, key_state: None, dropout: Dropout::OFF };
    let o = dense_attention(&Tape::off(), &q, &k, &v, pattern).unwrap();
    assert_eq!(o.read::<f32>().unwrap(), [5.0, 3.0]);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let new = |shape: [usize; 3]| Tensor::persistent(&device, shape, DType::F32).unwrap();
    let state = Tensor::persistent(&device, [1, 2], DType::I32).unwrap();
    let run = |k: [usize; 3], heads, key_len, key_state| {
        let pattern = Dense { heads, key_len, causal: None, key_state, dropout: Dropout::OFF };
        dense_attention(&Tape::off(), &new([1, 4, 6]), &new(k), &new(k), pattern)
    };
    assert!(run([1, 3, 6], 2, 3, None).is_ok());
    // Another width, another batch, heads that do not divide C, no heads, too few keys, a short mask.
    for got in [
        run([1, 3, 4], 2, 3, None),
        run([2, 3, 6], 2, 3, None),
        run([1, 3, 6], 4, 3, None),
        run([1, 3, 6], 0, 3, None),
        run([1, 3, 6], 2, 4, None),
        run([1, 3, 6], 2, 3, Some(&state)),
    ] {
        assert!(matches!(got, Err(Error::Shape { op: "dense_attention", .. })));
    }
}
