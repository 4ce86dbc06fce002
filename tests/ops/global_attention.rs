use crate::case::{Case, Outcome, inputs};
use crate::compare::{assert_close, assert_within, bound, largest, widened};
use crate::device::poisoned;
use crate::truth;
use crate::truth_attention::{Sizes, all_kept, attention};
use wattention::error::Error;
use wattention::ops::attention::dense_attention::{Dense, dense_attention};
use wattention::ops::global_attention::{Projections, global_attention};
use wattention::ops::linear::linear;
use wattention::ops::rows;
use wattention::shape::DType;
use wattention::tape::{Dropout, Tape};
use wattention::tensor::Tensor;

/// What the samples hold: tokens that are not padding.
struct Setting<'a> {
    real: &'a [usize],
    g: usize,
    s: usize,
    h: usize,
    d: usize,
}

impl Setting<'_> {
    fn state(&self) -> Vec<i32> {
        let visible = |e: usize| (e % self.s < self.real[e / self.s]) as i32;
        (0..self.real.len() * self.s).map(visible).collect()
    }

    /// Inputs q, x, Wk, Wv, bv; keys and values projected, then attended to.
    fn truth(&self, x: &[Vec<f64>]) -> Vec<f64> {
        let c = self.h * self.d;
        let (k, v) = (truth::linear(&x[1], &x[2], None, c), truth::linear(&x[1], &x[3], Some(&x[4]), c));
        let sizes = Sizes { t: self.g, ..Sizes::square(self.real.len(), self.s, self.h, self.d) };
        let times = |at: crate::truth_attention::Pair| (at.j < self.real[at.b]) as u8 as f64;
        attention([&x[0], &k, &v], sizes, &times, &all_kept)
    }

    /// Projects the queries' scores instead of the keys (the op), or the keys and values (dense).
    fn outcome(&self, how: &str) -> Outcome {
        let (b, c, state) = (self.real.len(), self.h * self.d, self.state());
        let square = [c, c].into();
        let shapes = [[b, self.g, c].into(), [b, self.s, c].into(), square, square, [c].into()];
        let few = |tape: &Tape, x: &[Tensor]| {
            let key_state = Tensor::upload(x[0].device(), [b, self.s], &state)?;
            let (key, value, value_bias) = (x[2].clone(), x[3].clone(), x[4].clone());
            let w = Projections { key, value, value_bias };
            Ok(vec![global_attention(tape, &x[0], &x[1], &w, &key_state, self.h)?])
        };
        let dense = |tape: &Tape, x: &[Tensor]| {
            let key_state = &Tensor::upload(x[0].device(), [b, self.s], &state)?;
            let k = linear(tape, &x[1], &x[2], None)?;
            let v = linear(tape, &x[1], &x[3], Some(&x[4]))?;
            let pattern = Dense {
                heads: self.h,
                key_len: self.s,
                causal: None,
                key_state: Some(key_state),
                dropout: Dropout::OFF,
            };
            Ok(vec![dense_attention(tape, &x[0], &k, &v, pattern)?])
        };
        let case = Case {
            name: format!("global_attention as {how}, S {}", self.s),
            inputs: inputs(&shapes),
            forward: if how == "dense" { &dense } else { &few },
            truth: &|x| vec![self.truth(x)],
            terms: self.terms(),
            cancelling: 0.0,
        };
        case.check();
        case.outcome()
    }

    fn terms(&self) -> usize {
        2 * self.s + 2 * self.h * self.d + self.g
    }
}

#[test]
pub fn gradients() {
    let settings = [
        Setting { real: &[1], g: 1, s: 1, h: 1, d: 1 },
        Setting { real: &[37, 20], g: 3, s: 37, h: 2, d: 4 },
        Setting { real: &[150], g: 1, s: 150, h: 2, d: 8 },
        Setting { real: &[70, 1], g: 5, s: 70, h: 3, d: 5 },
        // More rows than a tile, channels of two blocks.
        Setting { real: &[70, 33], g: 6, s: 70, h: 3, d: 45 },
    ];
    for setting in settings {
        let (few, dense) = (setting.outcome("few globals"), setting.outcome("dense"));
        let pairs = few.outputs.iter().zip(&dense.outputs);
        for (few, dense) in pairs.chain(few.gradients.iter().zip(&dense.gradients)) {
            let want = widened(dense);
            // With one visible key the gradients of q and Wk vanish but for rounding.
            let tolerance = bound(setting.terms()) * (2.0 * largest(&want) + 0.01);
            assert_within("few globals against dense", few, &want, tolerance);
        }
    }
}

/// A sample without a visible key has no global token either: nobody reads its rows.
#[test]
fn a_fully_masked_sample_disturbs_no_other() {
    let setting = Setting { real: &[0, 6], g: 1, s: 8, h: 2, d: 3 };
    let (c, state) = (setting.h * setting.d, setting.state());
    let shapes = [[2, 1, c].into(), [2, 8, c].into(), [c, c].into(), [c, c].into(), [c].into()];
    Case {
        name: "global_attention, a fully masked sample".into(),
        inputs: inputs(&shapes),
        forward: &|tape, x| {
            let key_state = Tensor::upload(x[0].device(), [2, 8], &state)?;
            let (key, value, value_bias) = (x[2].clone(), x[3].clone(), x[4].clone());
            let w = Projections { key, value, value_bias };
            let o = global_attention(tape, &x[0], &x[1], &w, &key_state, setting.h)?;
            let index = Tensor::upload(x[0].device(), [2], &[-1i32, 1])?;
            Ok(vec![rows::gather(tape, &o, &index)?])
        },
        truth: &|x| vec![setting.truth(x)],
        terms: setting.terms(),
        cancelling: 0.0,
    }
    .check();
}

/// Which is why the op has no key bias: it shifts all scores of a row equally.
#[test]
fn a_key_bias_cancels() {
    let setting = Setting { real: &[9, 6], g: 2, s: 9, h: 2, d: 3 };
    let c = setting.h * setting.d;
    let shapes = [[2, 2, c].into(), [2, 9, c].into(), [c, c].into(), [c, c].into(), [c].into()];
    let wide: Vec<Vec<f64>> = inputs(&shapes).iter().map(|(_, v)| widened(v)).collect();
    let got = setting.outcome("few globals").outputs.remove(0);
    let bias: Vec<f64> = (0..c).map(|i| i as f64 - 2.0).collect();
    let k = truth::linear(&wide[1], &wide[2], Some(&bias), c);
    let v = truth::linear(&wide[1], &wide[3], Some(&wide[4]), c);
    let sizes = Sizes { t: 2, ..Sizes::square(2, 9, 2, 3) };
    let times = |at: crate::truth_attention::Pair| (at.j < setting.real[at.b]) as u8 as f64;
    let want = attention([&wide[0], &k, &v], sizes, &times, &all_kept);
    assert_close("with a key bias", &got, &want, setting.terms());
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
