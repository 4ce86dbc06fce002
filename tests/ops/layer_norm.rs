use crate::ops::case::check;
use crate::ops::device::poisoned;
use crate::ops::truth;
use wattention::cases::elementwise::{Form, LayerNorm};
use wattention::error::Error;
use wattention::ops::layer_norm::{Affine, layer_norm, residual_layer_norm};
use wattention::shape::DType;
use wattention::tape::{Dropout, Tape};
use wattention::tensor::Tensor;

const EPS: f32 = LayerNorm::EPS;

fn affine(w: &Tensor, b: &Tensor) -> Affine {
    let (w, b) = (w.clone(), b.clone());
    Affine { w, b, eps: EPS }
}

#[test]
fn gradients() {
    for case in LayerNorm::all() {
        check(&case.case(), &|x| {
            let normed = |s: &[f64], w, b| truth::layer_norm(s, w, b, EPS as f64);
            let kept = |e: usize| match case.at.is_off() {
                true => 1.0,
                false => truth::dropout(case.at, e as u64),
            };
            if case.form == Form::Plain {
                return vec![normed(&x[0], &x[1], &x[2])];
            }
            let s: Vec<f64> = (0..x[0].len()).map(|e| x[0][e] + x[1][e] * kept(e)).collect();
            let y = normed(&s, &x[2], &x[3]);
            if case.form == Form::Both { vec![s, y] } else { vec![y] }
        });
    }
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
    let wide = crate::support::compare::widened(&values);
    let want = truth::layer_norm(&wide, &[1.0; 64], &[0.0; 64], EPS as f64);
    // The mean is rounded at 2^-12 u of the values' size: 4096 u against a spread of 1/4.
    let tolerance = 4096.0 * f32::EPSILON as f64 / 0.25;
    crate::support::compare::assert_within("large mean", &y.read().unwrap(), &want, tolerance);
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
