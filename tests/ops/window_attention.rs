use crate::case::{Case, inputs};
use crate::device::poisoned;
use crate::truth;
use crate::truth_attention::{Sizes, attention};
use wattention::error::Error;
use wattention::ops::attention::window_attention::{Window, window_attention};
use wattention::shape::DType;
use wattention::tape::{Dropout, Tape};
use wattention::tensor::Tensor;

/// One sample: how many tokens are not padding, and which are global.
pub type Sample<'a> = (usize, &'a [usize]);

/// key_state `[B, S]` and global_index `[B, G]`.
pub fn tokens(samples: &[Sample], s: usize) -> (Vec<i32>, Vec<i32>, usize) {
    let g = samples.iter().map(|(_, globals)| globals.len()).max().unwrap();
    let (mut state, mut index) = (Vec::new(), Vec::new());
    for (real, globals) in samples {
        state.extend((0..s).map(|j| match j < *real {
            true => 1 + globals.contains(&j) as i32,
            false => 0,
        }));
        index.extend((0..g).map(|n| globals.get(n).map_or(-1, |&j| j as i32)));
    }
    (state, index, g)
}

fn check(name: &str, samples: &[Sample], [s, h, d, window]: [usize; 4], dropout: Dropout) {
    let (b, c) = (samples.len(), h * d);
    let (state, index, g) = tokens(samples, s);
    let sizes = Sizes::square(b, s, h, d);
    Case {
        name: format!("window_attention, {name}"),
        inputs: inputs(&[[b, s, c].into(); 3]),
        forward: &|tape, x| {
            let device = x[0].device();
            let key_state = &Tensor::upload(device, [b, s], &state)?;
            let global_index = &Tensor::upload(device, [b, g], &index)?;
            let pattern = Window { heads: h, window, key_state, global_index, dropout };
            Ok(vec![window_attention(tape, &x[0], &x[1], &x[2], pattern)?])
        },
        truth: &|x| {
            let state = |b: usize, j: usize| state[b * s + j];
            let qkv = [&x[0][..], &x[1], &x[2]];
            vec![attention(
                qkv,
                sizes,
                &|at| match (state(at.b, at.i), state(at.b, at.j)) {
                    (1, 2) => 1.0,
                    (1, 1) => (at.i.abs_diff(at.j) <= window) as u8 as f64,
                    _ => 0.0,
                },
                &|at| match dropout.is_off() {
                    true => 1.0,
                    false => truth::dropout(dropout, sizes.element(at)),
                },
            )]
        },
        terms: 2 * s + d,
        cancelling: 0.0,
    }
    .check();
}

#[test]
pub fn gradients() {
    let off = Dropout::OFF;
    check("one", &[(1, &[])], [1, 1, 1, 1], off);
    // Several tiles, globals inside and outside of windows, a padded sample with fewer globals.
    check("globals and padding", &[(150, &[0, 77]), (83, &[3])], [150, 2, 8, 20], off);
    check("no globals", &[(70, &[])], [70, 2, 5, 9], off);
    check("only itself", &[(10, &[4])], [10, 1, 3, 0], off);
    check("a window wider than S", &[(9, &[0]), (6, &[])], [9, 2, 4, 40], off);
    check("a fully masked sample", &[(0, &[]), (40, &[1, 39])], [40, 1, 4, 6], off);
    check("all global", &[(5, &[0, 1, 2, 3, 4])], [5, 1, 2, 2], off);
}

#[test]
fn dropout_of_probabilities() {
    let dropout = Dropout { p: 0.2, seed: 5, stream: 1 << 40 | 3 };
    check("dropout", &[(90, &[0, 50]), (70, &[2])], [90, 2, 4, 16], dropout);
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
