use crate::case::{Case, inputs};
use crate::device::poisoned;
use crate::truth;
use wattention::error::Error;
use wattention::ops::layer_norm::{Affine, layer_norm, residual_layer_norm};
use wattention::shape::DType;
use wattention::tape::{Dropout, Tape};
use wattention::tensor::Tensor;

const EPS: f32 = 1e-5;
const DROPOUT: Dropout = Dropout { p: 0.3, seed: 0x0123_4567_89ab_cdef, stream: 0xfedc_ba98_7654_3210 };
/// (N, C): a single element, a short row, several tasks of rows.
const SIZES: [[usize; 2]; 4] = [[1, 1], [1, 5], [3, 16], [70, 33]];
/// Rows of several steps of a warp, in whole vectors or not, and so long that a block holds fewer of them.
const LONG: [[usize; 2]; 3] = [[6, 260], [9, 1030], [3, 6400]];

fn affine(w: &Tensor, b: &Tensor) -> Affine {
    let (w, b) = (w.clone(), b.clone());
    Affine { w, b, eps: EPS }
}

/// A row of one element is constant: dx is dy w / sqrt(eps) minus itself.
fn cancelling(c: usize) -> f64 {
    match c {
        1 => 1.0 / (EPS as f64).sqrt(),
        _ => 0.0,
    }
}

#[test]
pub fn gradients() {
    for [n, c] in SIZES {
        Case {
            name: format!("layer_norm {n} {c}"),
            inputs: inputs(&[[n, c].into(), [c].into(), [c].into()]),
            forward: &|tape, x| Ok(vec![layer_norm(tape, &x[0], &affine(&x[1], &x[2]))?]),
            truth: &|x| vec![truth::layer_norm(&x[0], &x[1], &x[2], EPS as f64)],
            terms: 4 * n.max(c),
            cancelling: cancelling(c),
        }
        .check();
        residual(n, c, Dropout::OFF);
        residual(n, c, DROPOUT);
    }
}

#[test]
fn long_rows() {
    for [n, c] in LONG {
        residual(n, c, DROPOUT);
    }
}

/// Pre-norm use, both outputs, and post-norm use, y only.
fn residual(n: usize, c: usize, dropout: Dropout) {
    let add = |x: &[f64], a: &[f64]| -> Vec<f64> {
        let kept = |e: usize| match dropout.is_off() {
            true => 1.0,
            false => truth::dropout(dropout, e as u64),
        };
        (0..x.len()).map(|e| x[e] + a[e] * kept(e)).collect()
    };
    let shapes = [[n, c].into(), [n, c].into(), [c].into(), [c].into()];
    Case {
        name: format!("residual_layer_norm {n} {c}, both, p {}", dropout.p),
        inputs: inputs(&shapes),
        forward: &|tape, x| {
            let (s, y) = residual_layer_norm(tape, &x[0], &x[1], dropout, &affine(&x[2], &x[3]))?;
            Ok(vec![s, y])
        },
        truth: &|x| {
            let s = add(&x[0], &x[1]);
            let y = truth::layer_norm(&s, &x[2], &x[3], EPS as f64);
            vec![s, y]
        },
        terms: 4 * n.max(c),
        cancelling: cancelling(c),
    }
    .check();
    Case {
        name: format!("residual_layer_norm {n} {c}, y only, p {}", dropout.p),
        inputs: inputs(&shapes),
        forward: &|tape, x| {
            let affine = affine(&x[2], &x[3]);
            Ok(vec![residual_layer_norm(tape, &x[0], &x[1], dropout, &affine)?.1])
        },
        truth: &|x| vec![truth::layer_norm(&add(&x[0], &x[1]), &x[2], &x[3], EPS as f64)],
        terms: 4 * n.max(c),
        cancelling: cancelling(c),
    }
    .check();
}

#[test]
fn a_constant_row_gives_the_bias() {
    let device = poisoned();
    let x = Tensor::upload(&device, [2, 3], &[7.0f32; 6]).unwrap();
    let w = Tensor::upload(&device, [3], &[2.0f32; 3]).unwrap();
    let b = Tensor::upload(&device, [3], &[1.0f32, -2.0, 0.5]).unwrap();
    let y = layer_norm(&Tape::off(), &x, &affine(&w, &b)).unwrap();
    assert_eq!(y.read::<f32>().unwrap(), [1.0, -2.0, 0.5, 1.0, -2.0, 0.5]);
}

/// The one-pass variance E[x²] - E[x]² would lose every digit here.
#[test]
fn a_large_mean_does_not_cost_the_variance() {
    let device = poisoned();
    let values: Vec<f32> = (0..64).map(|i| 4096.0 + (i % 7) as f32 / 8.0).collect();
    let x = Tensor::upload(&device, [1, 64], &values).unwrap();
    let (w, b) = (vec![1.0f32; 64], vec![0.0f32; 64]);
    let [w, b] = [w, b].map(|v| Tensor::upload(&device, [64], &v).unwrap());
    let y = layer_norm(&Tape::off(), &x, &affine(&w, &b)).unwrap();
    let wide = crate::compare::widened(&values);
    let want = truth::layer_norm(&wide, &[1.0; 64], &[0.0; 64], EPS as f64);
    // The mean is rounded at 2^-12 u of the values' size: 4096 u against a spread of 1/4.
    let tolerance = 4096.0 * f32::EPSILON as f64 / 0.25;
    crate::compare::assert_within("large mean", &y.read().unwrap(), &want, tolerance);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let new = |shape: [usize; 2]| Tensor::persistent(&device, shape, DType::F32).unwrap();
    let tape = Tape::off();
    let narrow = layer_norm(&tape, &new([2, 3]), &affine(&new([1, 4]), &new([1, 4])));
    assert!(matches!(narrow, Err(Error::Shape { op: "layer_norm", .. })));
    let affine = affine(&new([1, 3]), &new([1, 3]));
    let (x, a) = (new([2, 3]), new([3, 3]));
    let other = residual_layer_norm(&tape, &x, &a, Dropout::OFF, &affine);
    assert!(matches!(other, Err(Error::Shape { op: "layer_norm", .. })));
}
