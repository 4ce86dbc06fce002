use crate::ops::attention_precision;
use crate::ops::case::check_f32;
use crate::ops::device::poisoned;
use crate::support::attention::{Pair, Sizes, all_kept, attention};
use wattention::cases::attention::{self as cases, Counts};
use wattention::error::Error;
use wattention::ops::attention::block_sparse_attention::{BlockSparse, block_sparse_attention};
use wattention::shape::DType;
use wattention::tape::Tape;
use wattention::tensor::Tensor;

#[test]
fn gradients() {
    for case in cases::BlockSparse::all() {
        let cases::BlockSparse { n, k, h, d, .. } = case;
        let (counts, state, s) = (case.counts(), case.key_state(), n * k);
        let sizes = Sizes::square(case.real.len(), s, h, d);
        let times = |at: Pair| {
            let visible = state[at.b * s + at.i] != 0 && state[at.b * s + at.j] != 0;
            visible as u8 as f64 * counts.at(at.h, at.i / k, at.j / k) as f64
        };
        check_f32(&case.case(), &|x| vec![attention([&x[0], &x[1], &x[2]], sizes, &times, &all_kept).0]);
        attention_precision::check(&case.case(), sizes, &times, &all_kept);
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let blocks = &Counts::random(2, 2).upload(&device).unwrap();
    let run = |s: usize, block_size: usize, heads: usize, states: usize| {
        let x = Tensor::persistent(&device, [1, s, 4], DType::F32).unwrap();
        let key_state = &Tensor::persistent(&device, [1, states], DType::I32).unwrap();
        let pattern = BlockSparse { heads, block_size, blocks, key_state };
        block_sparse_attention(&Tape::off(), &x, &x, &x, pattern)
    };
    assert!(run(6, 3, 2, 6).is_ok());
    // S not in blocks, more blocks than the table has, other heads, a short mask, no block size.
    for got in [run(7, 3, 2, 7), run(9, 3, 2, 9), run(6, 3, 1, 6), run(6, 3, 2, 5), run(6, 0, 2, 6)] {
        assert!(matches!(got, Err(Error::Shape { op: "block_sparse_attention", .. })));
    }
}
