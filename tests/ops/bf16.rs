//! The ops but attention in bf16, against the same f64 truth: activations and their gradients are rounded,
//! gradients of parameters are f32.

use crate::case::{Forward, Truth, copied, inputs};
use crate::compare::{assert_within, largest, mixed, random, widened};
use crate::device::poisoned_in;
use crate::truth;
use half::bf16;
use wattention::device::{Device, Precision};
use wattention::ops::activation::{Activation, activation};
use wattention::ops::cross_entropy::{Head, cross_entropy};
use wattention::ops::dropout::dropout;
use wattention::ops::embedding::{Lookup, embedding};
use wattention::ops::global_attention::{Projections, global_attention};
use wattention::ops::layer_norm::{Affine, residual_layer_norm};
use wattention::ops::linear::linear;
use wattention::ops::rows;
use wattention::shape::{DType, Shape};
use wattention::tape::{Dropout, Gradients, Tape};
use wattention::tensor::{Node, Tensor};

/// Roundings to 8 bits on the way from the inputs to a result, each of half a unit, may add up to this many units.
const UNITS: f64 = 4.0;
const UNIT: f64 = 1.0 / 256.0;
const STEP: f64 = 1e-5;
/// Elements of a gradient that are compared with differences.
const FEW: u64 = 24;

struct Case<'a> {
    name: &'a str,
    shapes: &'a [Shape],
    /// Which inputs are parameters.
    parameters: &'a [usize],
    forward: Forward<'a>,
    truth: Truth<'a>,
}

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect()
}

fn upload(device: &Device, shape: Shape, values: &[f32]) -> Tensor {
    let values: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
    Tensor::upload(device, shape, &values).unwrap()
}

impl Case<'_> {
    fn check(&self) {
        let device = poisoned_in(Precision::Bf16);
        let values: Vec<Vec<f32>> = inputs(self.shapes).iter().map(|(_, values)| rounded(values)).collect();
        let mut gradients = Gradients::new();
        let leaves: Vec<Tensor> = (0..values.len())
            .map(|i| {
                let leaf = upload(&device, self.shapes[i], &values[i]).with_node(Some(Node::fresh()));
                if self.parameters.contains(&i) {
                    let buffer = Tensor::persistent(&device, self.shapes[i], DType::F32).unwrap();
                    gradients.register(&leaf, buffer).unwrap();
                }
                leaf
            })
            .collect();
        let tape = Tape::gradients();
        let outputs = (self.forward)(&tape, &leaves).unwrap();
        let wide: Vec<Vec<f64>> = values.iter().map(|values| widened(values)).collect();
        let want = (self.truth)(&wide);
        assert_eq!(outputs.len(), want.len());
        let mut upstream = Vec::new();
        for (i, (got, want)) in outputs.iter().zip(&want).enumerate() {
            let what = format!("{}: output {i}", self.name);
            assert_within(&what, &got.read_floats().unwrap(), want, UNITS * UNIT * largest(want));
            upstream.push(rounded(&random(50 + i as u64, got.len())));
        }

        let given: Vec<(Tensor, Tensor)> = outputs
            .iter()
            .zip(&upstream)
            .map(|(y, values)| match y.dtype() {
                DType::BF16 => (y.clone(), upload(&device, y.shape(), values)),
                _ => (y.clone(), Tensor::upload(&device, y.shape(), values).unwrap()),
            })
            .collect();
        let loss = Tensor::upload(&device, [1], &[0.0f32]).unwrap();
        let every: Vec<&Tensor> = outputs.iter().collect();
        let loss = tape.record(&every, loss, move |_, gradients| {
            given.into_iter().try_for_each(|(y, dy)| gradients.add(&y, dy))
        });
        drop(outputs);
        tape.backward(&loss, 1.0, &mut gradients).unwrap();
        for (i, leaf) in leaves.iter().enumerate() {
            let got = gradients.of(leaf).unwrap();
            let parameter = self.parameters.contains(&i);
            assert_eq!(got.dtype() == DType::F32, parameter, "{}: gradient {i}", self.name);
            let got = got.read_floats().unwrap();
            assert!(got.iter().all(|g| g.is_finite()), "{}: gradient {i} has {got:?}", self.name);
            let chosen: Vec<usize> = (0..FEW).map(|e| mixed(e + 1) as usize % got.len()).collect();
            let want: Vec<f64> = chosen.iter().map(|&e| self.derivative(&wide, i, e, &upstream)).collect();
            let picked: Vec<f32> = chosen.iter().map(|&e| got[e]).collect();
            let what = format!("{}: gradient of input {i}", self.name);
            assert_within(&what, &picked, &want, UNITS * UNIT * largest(&want) + 1e-7);
        }
    }

    /// The derivative of the outputs, weighted by `upstream`, in one element of input `i`.
    fn derivative(&self, wide: &[Vec<f64>], i: usize, element: usize, upstream: &[Vec<f32>]) -> f64 {
        let at = |step: f64| {
            let mut moved = wide.to_vec();
            moved[i][element] += step;
            let outputs = (self.truth)(&moved);
            let weighted = outputs.iter().flatten().zip(upstream.iter().flatten());
            weighted.map(|(y, &weight)| y * weight as f64).sum::<f64>()
        };
        (at(STEP) - at(-STEP)) / (2.0 * STEP)
    }
}

const DROPOUT: Dropout = Dropout { p: 0.3, seed: 11, stream: 5 };

#[test]
fn elementwise() {
    for n in [7, 1500] {
        for (kind, function) in [
            (Activation::Gelu, truth::gelu as fn(f64) -> f64),
            (Activation::GeluNew, truth::gelu_tanh),
            (Activation::Relu, truth::relu),
        ] {
            Case {
                name: &format!("{kind:?} {n}"),
                shapes: &[[n].into()],
                parameters: &[],
                forward: &|tape, x| Ok(vec![activation(tape, &x[0], kind)?]),
                truth: &|x| vec![x[0].iter().map(|&x| function(x)).collect()],
            }
            .check();
        }
        Case {
            name: &format!("dropout {n}"),
            shapes: &[[n].into()],
            parameters: &[],
            forward: &|tape, x| Ok(vec![dropout(tape, &x[0], DROPOUT)?]),
            truth: &|x| {
                let kept = |(e, x): (usize, &f64)| x * truth::dropout(DROPOUT, e as u64);
                vec![x[0].iter().enumerate().map(kept).collect()]
            },
        }
        .check();
    }
}

#[test]
fn layer_norm() {
    for [n, c] in [[3, 33], [19, 132]] {
        Case {
            name: &format!("layer_norm {n} {c}"),
            shapes: &[[n, c].into(), [n, c].into(), [c].into(), [c].into()],
            parameters: &[2, 3],
            forward: &|tape, x| {
                let affine = Affine { w: x[2].clone(), b: x[3].clone(), eps: 1e-5 };
                let (s, y) = residual_layer_norm(tape, &x[0], &x[1], DROPOUT, &affine)?;
                Ok(vec![s, y])
            },
            truth: &|x| {
                let add = |e: usize| x[0][e] + x[1][e] * truth::dropout(DROPOUT, e as u64);
                let s: Vec<f64> = (0..n * c).map(add).collect();
                let y = truth::layer_norm(&s, &x[2], &x[3], 1e-5);
                vec![s, y]
            },
        }
        .check();
    }
}

#[test]
fn tables_and_rows() {
    for (v, c) in [(9, 5), (300, 132)] {
        let (b, t) = (2, 21);
        let ids: Vec<i32> = (0..b * t).map(|i| (mixed(i as u64 / 3) as usize % v) as i32).collect();
        Case {
            name: &format!("embedding {v} {c}"),
            shapes: &[[v, c].into(), [t, c].into()],
            parameters: &[0, 1],
            forward: &|tape, x| {
                let ids = Tensor::upload(x[0].device(), [b, t], &ids)?;
                let (table, positions) = (&x[0], &x[1]);
                let lookup = Lookup { table, positions, scale: 2.0, pad: v, past: 0, placed: t };
                Ok(vec![embedding(tape, &ids, lookup)?])
            },
            truth: &|x| {
                let y = |e: usize| {
                    let (token, channel) = (e / c, e % c);
                    2.0 * x[0][ids[token] as usize * c + channel] + x[1][token % t * c + channel]
                };
                vec![(0..b * t * c).map(y).collect()]
            },
        }
        .check();
        let index: Vec<i32> = (0..b * t).map(|i| mixed(i as u64) as i32 % 13).map(|i| i.max(-1)).collect();
        let rows_of = |x: &Tensor| Tensor::upload(x.device(), [index.len()], &index);
        Case {
            name: &format!("rows {c}"),
            shapes: &[[13, c].into(), [13, c].into()],
            parameters: &[],
            forward: &|tape, x| {
                let taken = rows::gather(tape, &x[0], &rows_of(&x[0])?)?;
                Ok(vec![rows::scatter_add(tape, copied(tape, &x[1]), &taken, &rows_of(&x[0])?)?])
            },
            truth: &|x| {
                let mut y = x[1].clone();
                for &i in index.iter().filter(|&&i| i >= 0) {
                    (0..c).for_each(|channel| y[i as usize * c + channel] += x[0][i as usize * c + channel]);
                }
                vec![y]
            },
        }
        .check();
    }
}

#[test]
fn linear_and_its_loss() {
    Case {
        name: "linear",
        shapes: &[[150, 20].into(), [33, 20].into(), [33].into()],
        parameters: &[1, 2],
        forward: &|tape, x| Ok(vec![linear(tape, &x[0], &x[1], Some(&x[2]))?]),
        truth: &|x| vec![truth::linear(&x[0], &x[1], Some(&x[2]), 20)],
    }
    .check();
    let (m, c) = (5, 6);
    for v in [13, 1031] {
        let labels: Vec<i32> = (0..m).map(|i| (mixed(i as u64) % v as u64) as i32).collect();
        Case {
            name: &format!("cross_entropy {v}"),
            shapes: &[[m, c].into(), [v, c].into()],
            parameters: &[1],
            forward: &|tape, x| {
                let bias = &upload(x[0].device(), [v].into(), &vec![0.0; v]);
                let labels = &Tensor::upload(x[0].device(), [m], &labels)?;
                let head = Head { table: &x[1], bias, labels, normaliser: 2.0, smoothing: 0.1 };
                Ok(vec![cross_entropy(tape, &x[0], head)?])
            },
            truth: &|x| {
                let logits = truth::linear(&x[0], &x[1], None, c);
                vec![vec![truth::cross_entropy(&logits, &labels, v, 0.1) / 2.0]]
            },
        }
        .check();
    }
}

#[test]
fn few_globals() {
    use crate::truth_attention::{Pair, Sizes, all_kept, attention};
    let (b, g, s, h, d) = (2, 2, 70, 3, 12);
    let (c, real) = (h * d, [70, 41]);
    let state: Vec<i32> = (0..b * s).map(|e| (e % s < real[e / s]) as i32).collect();
    let square = [c, c].into();
    Case {
        name: "global_attention",
        shapes: &[[b, g, c].into(), [b, s, c].into(), square, square, [c].into()],
        parameters: &[2, 3, 4],
        forward: &|tape, x| {
            let key_state = Tensor::upload(x[0].device(), [b, s], &state)?;
            let (key, value, value_bias) = (x[2].clone(), x[3].clone(), x[4].clone());
            let w = Projections { key, value, value_bias };
            Ok(vec![global_attention(tape, &x[0], &x[1], &w, &key_state, h)?])
        },
        truth: &|x| {
            let k = truth::linear(&x[1], &x[2], None, c);
            let v = truth::linear(&x[1], &x[3], Some(&x[4]), c);
            let sizes = Sizes { t: g, ..Sizes::square(b, s, h, d) };
            let times = |at: Pair| (at.j < real[at.b]) as u8 as f64;
            vec![attention([&x[0], &k, &v], sizes, &times, &all_kept)]
        },
    }
    .check();
}
