use crate::case::{Case, inputs};
use crate::compare::mixed;
use crate::device::poisoned;
use crate::truth;
use crate::truth_attention::{Sizes, attention};
use wattention::error::Error;
use wattention::ops::attention::dense_attention::{Dense, dense_attention};
use wattention::shape::DType;
use wattention::tape::{Dropout, Tape};
use wattention::tensor::Tensor;

/// A sample with no visible key, the others with a fifth hidden.
fn some_hidden(sizes: Sizes) -> Vec<i32> {
    let hidden = |e: usize| (e / sizes.rows == 0 && sizes.b > 1) || mixed(e as u64).is_multiple_of(5);
    (0..sizes.b * sizes.rows).map(|e| !hidden(e) as i32).collect()
}

fn check(name: &str, sizes: Sizes, causal: Option<usize>, state: Option<Vec<i32>>, dropout: Dropout) {
    let Sizes { b, t, s, rows, h, d } = sizes;
    let c = h * d;
    Case {
        name: format!("dense_attention, {name}"),
        inputs: inputs(&[[b, t, c].into(), [b, rows, c].into(), [b, rows, c].into()]),
        forward: &|tape, x| {
            let state = state.as_ref().map(|state| Tensor::upload(x[0].device(), [b, rows], state));
            let state = state.transpose()?;
            let key_state = state.as_ref();
            let pattern = Dense { heads: h, key_len: s, causal, key_state, dropout };
            Ok(vec![dense_attention(tape, &x[0], &x[1], &x[2], pattern)?])
        },
        truth: &|x| {
            let visible = |b: usize, j: usize| state.as_ref().is_none_or(|m| m[b * rows + j] != 0);
            let before = |i: usize, j: usize| causal.is_none_or(|offset| j <= i + offset);
            let qkv = [&x[0][..], &x[1], &x[2]];
            vec![attention(
                qkv,
                sizes,
                &|at| (visible(at.b, at.j) && before(at.i, at.j)) as u8 as f64,
                &|at| match dropout.is_off() {
                    true => 1.0,
                    false => truth::dropout(dropout, sizes.element(at)),
                },
            )]
        },
        terms: s + t + d,
        cancelling: 0.0,
    }
    .check();
}

#[test]
pub fn gradients() {
    let off = Dropout::OFF;
    check("one", Sizes::square(1, 1, 1, 1), Some(0), None, off);
    check("causal", Sizes::square(2, 70, 2, 5), Some(0), None, off);
    // Tiles of 64 by 64: three of queries, three of keys, the last ones partly filled.
    let long = Sizes { t: 131, ..Sizes::square(1, 150, 2, 16) };
    check("all keys", Sizes { s: 150, rows: 150, ..long }, None, None, off);
    let masked = Sizes { t: 20, ..Sizes::square(2, 70, 2, 8) };
    check("masked keys", masked, None, Some(some_hidden(masked)), off);
    check("causal and masked", masked, Some(50), Some(some_hidden(masked)), off);
}

#[test]
fn a_cache_holds_more_rows_than_count() {
    let off = Dropout::OFF;
    let cache = Sizes { t: 13, s: 67, rows: 90, ..Sizes::square(2, 0, 2, 8) };
    check("key_len < rows", cache, None, None, off);
    check("key_len < rows, causal", cache, Some(54), None, off);
    check("key_len < rows, masked", cache, None, Some(some_hidden(cache)), off);
}

/// Few queries take the path of decoding, which splits long caches into tasks of 256 keys.
#[test]
fn few_queries() {
    let off = Dropout::OFF;
    let step = Sizes { t: 1, s: 600, rows: 610, ..Sizes::square(3, 0, 2, 8) };
    check("one query", step, Some(599), None, off);
    check("one query, masked", step, None, Some(some_hidden(step)), off);
    let few = Sizes { t: 3, s: 8, rows: 8, ..Sizes::square(2, 0, 1, 4) };
    check("three queries, offset", few, Some(5), None, off);
}

#[test]
fn dropout_of_probabilities() {
    let dropout = Dropout { p: 0.2, seed: 11 << 35 | 1, stream: 7 };
    let masked = Sizes { t: 20, ..Sizes::square(2, 70, 2, 8) };
    check("dropout", masked, None, Some(some_hidden(masked)), dropout);
    check("dropout, one query", Sizes { t: 1, ..masked }, Some(69), None, dropout);
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
