//! What has no gradient: the optimizer, the gradient norm, argmax and cache rows.

use super::{Case, Input, random, upload};
use crate::error::Result;
use crate::ops::adamw::{AdamW, State, adamw, table};
use crate::ops::argmax::argmax;
use crate::ops::gradient_norm::gradient_norm;
use crate::ops::rows;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// One parameter of each: decays, does not, and leaves a gap before the last.
const SEGMENTS: [i32; 9] = [0, 4099, 1, 4099, 30, 0, 4200, 3, 1];
const SLAB: usize = 4210;

fn update(hf: bool, x: &[Tensor]) -> Result<Vec<Tensor>> {
    let device = x[0].device();
    let slab = |seed| Tensor::upload(device, [SLAB], &random(seed, SLAB));
    let (p, m, g) = (slab(2)?, slab(3)?, slab(4)?);
    let v: Vec<f32> = random(5, SLAB).iter().map(|v| v * v).collect();
    let v = Tensor::upload(device, [SLAB], &v)?;
    let segments = table(&SEGMENTS, SLAB);
    let segments = Tensor::upload(device, [segments.len()], &segments)?;
    let norm = Tensor::upload(device, [1], &[3.0f32])?;
    let rule = AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, max_grad_norm: 1.0, hf };
    let (segments, norm, rates) = (&segments, &norm, &rule.rates(device, 1e-2, 3)?);
    adamw(State { p: &p, m: &m, v: &v, copy: None, g: &g, segments, norm, rates }, rule)?;
    Ok(vec![p, m, v])
}

fn norm_of(n: usize) -> Case {
    Case {
        op: "gradient_norm",
        name: format!("{n}"),
        inputs: vec![Input::activation([1])],
        forward: Box::new(move |_, x| {
            let g = Tensor::upload(x[0].device(), [n], &random(6, n))?;
            Ok(vec![gradient_norm(&g)?])
        }),
        terms: 1,
        cancelling: 0.0,
    }
}

/// Rows of a cache overwritten by index, one of them twice, and a cache overwritten as a whole.
fn store(tape: &Tape, x: &[Tensor]) -> Result<Vec<Tensor>> {
    let device = x[0].device();
    let (cache, whole) =
        (upload(device, [40, 66], &random(2, 2640))?, upload(device, [40, 66], &random(3, 2640))?);
    let new = upload(device, [3, 66], &random(4, 198))?;
    let index = Tensor::upload(device, [3], &[39i32, 0, 39])?;
    rows::store(tape, &cache, &new, Some(&index))?;
    rows::store(tape, &whole, &cache, None)?;
    Ok(vec![cache, whole])
}

pub(super) fn all() -> Vec<Case> {
    let few = || vec![Input::activation([1])];
    let mut all = vec![Case {
        op: "rows",
        name: "store".into(),
        inputs: few(),
        forward: Box::new(store),
        terms: 1,
        cancelling: 0.0,
    }];
    all.extend([(false, "torch"), (true, "hf")].map(|(hf, form)| Case {
        op: "adamw",
        name: format!("{SLAB} in 3 parts, {form}"),
        inputs: few(),
        forward: Box::new(move |_, x| update(hf, x)),
        terms: 1,
        cancelling: 0.0,
    }));
    all.extend([1, 7, 100_003].map(norm_of));
    all.extend([[1, 1], [3, 7], [5, 4099]].map(|shape| Case {
        op: "argmax",
        name: format!("{} x {}", shape[0], shape[1]),
        inputs: vec![Input::activation(shape)],
        forward: Box::new(|tape, x| Ok(vec![argmax(tape, &x[0])?])),
        terms: 1,
        cancelling: 0.0,
    }));
    all
}
