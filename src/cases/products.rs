//! Matrix products: linear layers and the language-model head with its loss.

use super::{Case, Input, mixed, random, upload};
use crate::device::Precision;
use crate::ops::cross_entropy::{Head, cross_entropy, slice};
use crate::ops::linear::linear;
use crate::tensor::Tensor;

#[derive(Debug, Clone, Copy)]
pub struct Linear {
    pub n: usize,
    pub i: usize,
    pub o: usize,
    pub bias: bool,
}

impl Linear {
    pub fn all() -> Vec<Self> {
        // One row takes the skinny product; 150 rows are several tiles and several bias tasks.
        let sizes = [[1, 1, 1], [1, 37, 20], [3, 5, 7], [150, 70, 33], [67, 300, 129]];
        let mut all: Vec<Self> = sizes.map(|[n, i, o]| Linear { n, i, o, bias: true }).into();
        all.push(Linear { n: 18, i: 12, o: 5, bias: false });
        all
    }

    pub fn case(self) -> Case {
        let Linear { n, i, o, bias } = self;
        let mut inputs = vec![Input::activation([n, i]), Input::weight([o, i])];
        inputs.extend(bias.then(|| Input::weight([o])));
        Case {
            op: "linear",
            name: format!("{n} x {i} to {o}{}", if bias { "" } else { ", no bias" }),
            inputs,
            forward: Box::new(|tape, x| Ok(vec![linear(tape, &x[0], &x[1], x.get(2))?])),
            terms: n.max(i).max(o),
            cancelling: 0.0,
        }
    }
}

/// M rows of C channels against V words.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy {
    pub m: usize,
    pub v: usize,
    pub c: usize,
    pub smoothing: f32,
    pub normaliser: f32,
}

impl CrossEntropy {
    pub fn all() -> Vec<Self> {
        // Up to a slice of rows the logits are kept; beyond, each slice is computed again. The last is a row of more
        // than one block of gradients, that starts anywhere in a vector.
        let [few, many] = [Precision::Fp32, Precision::Bf16].map(slice);
        let sizes = [
            [1, 1, 1],
            [1, 9, 3],
            [5, 7, 3],
            [few, 13, 4],
            [2 * few + 9, 13, 4],
            [2 * many + 3, 3, 1],
            [3, 8201, 2],
        ];
        let of = |[m, v, c]: [usize; 3]| {
            [(0.0, m as f32), (0.1, 3.75)].map(|(smoothing, normaliser)| CrossEntropy {
                m,
                v,
                c,
                smoothing,
                normaliser,
            })
        };
        sizes.into_iter().flat_map(of).collect()
    }

    pub fn labels(&self) -> Vec<i32> {
        (0..self.m).map(|i| (mixed(i as u64) % self.v as u64) as i32).collect()
    }

    pub fn bias(&self) -> Vec<f32> {
        random(9, self.v)
    }

    pub fn case(self) -> Case {
        let CrossEntropy { m, v, c, smoothing, normaliser } = self;
        Case {
            op: "cross_entropy",
            name: format!("{m} x {c} to {v}, smoothing {smoothing}"),
            inputs: vec![Input::activation([m, c]), Input::weight([v, c])],
            forward: Box::new(move |tape, x| {
                let device = x[0].device();
                let bias = &upload(device, [v], &self.bias())?;
                let labels = &Tensor::upload(device, [m], &self.labels())?;
                let normaliser = &Tensor::upload(device, [1], &[normaliser])?;
                let head = Head { table: &x[1], int8: None, bias, labels, normaliser, smoothing };
                Ok(vec![cross_entropy(tape, &x[0], head)?])
            }),
            terms: m + v + c,
            // Of one token the probability is 1, and so is the sum of its target's parts.
            cancelling: if v == 1 { 1.0 / f64::from(normaliser) } else { 0.0 },
        }
    }
}

pub(super) fn all() -> Vec<Case> {
    let linears = Linear::all().into_iter().map(Linear::case);
    linears.chain(CrossEntropy::all().into_iter().map(CrossEntropy::case)).collect()
}
