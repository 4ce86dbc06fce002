use crate::ops::case::{Case, Forward, check};
use crate::ops::device::poisoned;
use crate::ops::truth;
use crate::support::attention::{Sizes, all_kept, attention};
use crate::support::compare::{assert_close, assert_within, bound, largest, widened};
use wattention::cases::Input;
use wattention::cases::attention::Global;
use wattention::error::{Error, Result};
use wattention::ops::attention::dense_attention::{Dense, dense_attention};
use wattention::ops::global_attention::{Projections, global_attention};
use wattention::ops::linear::linear;
use wattention::ops::rows;
use wattention::shape::DType;
use wattention::tape::{Dropout, Tape};
use wattention::tensor::Tensor;

/// Inputs q, x, Wk, Wv, bv; keys and values projected, then attended to.
fn truth_of(setting: Global, x: &[Vec<f64>]) -> Vec<f64> {
    let Global { real, g, s, h, d } = setting;
    let (k, v) = (truth::linear(&x[1], &x[2], None, h * d), truth::linear(&x[1], &x[3], Some(&x[4]), h * d));
    let sizes = Sizes { t: g, ..Sizes::square(real.len(), s, h, d) };
    let times = |at: crate::support::attention::Pair| (at.j < real[at.b]) as u8 as f64;
    attention([&x[0], &k, &v], sizes, &times, &all_kept).0
}

/// The plain way, for many global tokens: keys and values of every token, and dense attention.
fn dense(setting: Global, tape: &Tape, x: &[Tensor]) -> Result<Vec<Tensor>> {
    let Global { real, s, h, .. } = setting;
    let key_state = &Tensor::upload(x[0].device(), [real.len(), s], &setting.key_state())?;
    let k = linear(tape, &x[1], &x[2], None)?;
    let v = linear(tape, &x[1], &x[3], Some(&x[4]))?;
    let dropout = Dropout::OFF;
    let pattern = Dense { heads: h, key_len: s, causal: None, key_state: Some(key_state), dropout };
    Ok(vec![dense_attention(tape, &x[0], &k, &v, pattern)?])
}

#[test]
fn gradients() {
    for setting in Global::all() {
        let case = setting.case();
        let truth = |x: &[Vec<f64>]| vec![truth_of(setting, x)];
        check(&case, &truth);
        let inputs: Vec<_> =
            case.inputs.iter().enumerate().map(|(i, input)| (input.shape, input.values(i))).collect();
        let outcome = |forward: Forward| {
            let name = "global_attention".to_string();
            let (inputs, truth) = (inputs.clone(), &truth);
            Case { name, inputs, forward, truth, terms: case.terms, cancelling: 0.0 }.outcome()
        };
        let (few, dense) = (outcome(&case.forward), outcome(&|tape, x| dense(setting, tape, x)));
        let pairs = few.outputs.iter().zip(&dense.outputs);
        for (few, dense) in pairs.chain(few.gradients.iter().zip(&dense.gradients)) {
            let want = widened(dense);
            // With one visible key the gradients of q and Wk vanish but for rounding.
            let tolerance = bound(case.terms) * (2.0 * largest(&want) + 0.01);
            assert_within("few globals against dense", few, &want, tolerance);
        }
    }
}

/// A sample without a visible key has no global token either: nobody reads its rows.
#[test]
fn a_fully_masked_sample_disturbs_no_other() {
    let setting = Global { real: &[0, 6], g: 1, s: 8, h: 2, d: 3 };
    let case = setting.case();
    let values = |(i, input): (usize, &Input)| (input.shape, input.values(i));
    Case {
        name: "global_attention, a fully masked sample".into(),
        inputs: case.inputs.iter().enumerate().map(values).collect(),
        forward: &|tape, x| {
            let o = (case.forward)(tape, x)?;
            let index = Tensor::upload(x[0].device(), [2], &[-1i32, 1])?;
            Ok(vec![rows::gather(tape, &o[0], &index)?])
        },
        truth: &|x| vec![truth_of(setting, x)],
        terms: case.terms,
        cancelling: 0.0,
    }
    .check();
}

/// Which is why the op has no key bias: it shifts all scores of a row equally.
#[test]
fn a_key_bias_cancels() {
    let setting = Global { real: &[9, 6], g: 2, s: 9, h: 2, d: 3 };
    let (case, device) = (setting.case(), poisoned());
    let values: Vec<Vec<f32>> = case.inputs.iter().enumerate().map(|(i, input)| input.values(i)).collect();
    let x: Vec<Tensor> = case
        .inputs
        .iter()
        .zip(&values)
        .map(|(input, values)| Tensor::upload(&device, input.shape, values).unwrap())
        .collect();
    let got: Vec<f32> = (case.forward)(&Tape::off(), &x).unwrap()[0].read().unwrap();
    let wide: Vec<Vec<f64>> = values.iter().map(|values| widened(values)).collect();
    let bias: Vec<f64> = (0..6).map(|i| i as f64 - 2.0).collect();
    let k = truth::linear(&wide[1], &wide[2], Some(&bias), 6);
    let v = truth::linear(&wide[1], &wide[3], Some(&wide[4]), 6);
    let sizes = Sizes { t: 2, ..Sizes::square(2, 9, 2, 3) };
    let times = |at: crate::support::attention::Pair| (at.j < setting.real[at.b]) as u8 as f64;
    let (want, _) = attention([&wide[0], &k, &v], sizes, &times, &all_kept);
    assert_close("with a key bias", &got, &want, case.terms);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let new = |shape: [usize; 3]| Tensor::persistent(&device, shape, DType::F32).unwrap();
    let run = |q: [usize; 3], w: usize, heads: usize, states: usize| {
        let square = new([1, w, w]).reshape([w, w]).unwrap();
        let bias = new([1, 1, w]).reshape([w]).unwrap();
        let w = Projections { key: square.clone(), value: square, value_bias: bias };
        let state = Tensor::persistent(&device, [1, states], DType::I32).unwrap();
        global_attention(&Tape::off(), &new(q), &new([1, 3, 4]), &w, &state, heads)
    };
    assert!(run([1, 2, 4], 4, 2, 3).is_ok());
    // Other widths, another batch, heads that do not divide C, a short mask, other projections.
    for got in [
        run([1, 2, 6], 4, 2, 3),
        run([2, 2, 4], 4, 2, 3),
        run([1, 2, 4], 4, 3, 3),
        run([1, 2, 4], 4, 2, 2),
        run([1, 2, 4], 5, 2, 3),
    ] {
        assert!(matches!(got, Err(Error::Shape { op: "global_attention", .. })));
    }
}
