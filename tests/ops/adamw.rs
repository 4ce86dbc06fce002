use crate::ops::case::on_threads;
use crate::ops::device::poisoned;
use crate::support::compare::{assert_close, bits, random, widened};
use wattention::error::Error;
use wattention::ops::adamw::{AdamW, State, adamw, table};
use wattention::ops::gradient_norm::gradient_norm;
use wattention::shape::DType;
use wattention::tensor::Tensor;

/// More than one task in the first segment; the last 5 elements belong to none.
const N: usize = 40_000;
const SEGMENTS: [[i32; 3]; 3] = [[0, 33_333, 1], [33_333, 6_661, 0], [39_994, 1, 1]];

const RULE: AdamW =
    AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, max_grad_norm: 0.0, hf: false };
const RATE: f32 = 0.01;

/// p, m, v.
type Slabs<T> = [Vec<T>; 3];

fn start() -> (Slabs<f32>, Vec<f32>) {
    let v = random(3, N).iter().map(|v| v * v).collect();
    ([random(1, N), random(2, N), v], random(4, N))
}

/// The slabs are views `skip` elements into their blocks.
fn update(rule: AdamW, step: u64, skip: usize) -> Slabs<f32> {
    let (slabs, g) = start();
    let device = poisoned();
    let up = |values: &[f32], skip: usize| {
        let block = [vec![f32::NAN; skip], values.to_vec()].concat();
        Tensor::upload(&device, [block.len()], &block).unwrap().slice(skip, [values.len()]).unwrap()
    };
    let [p, m, v] = slabs.each_ref().map(|slab| up(slab, skip));
    let segments = table(SEGMENTS.as_flattened(), N);
    let segments = Tensor::upload(&device, [segments.len()], &segments).unwrap();
    let g = up(&g, 0);
    let norm = gradient_norm(&g).unwrap();
    let (segments, norm, rates) = (&segments, &norm, &rule.rates(&device, RATE, step).unwrap());
    adamw(State { p: &p, m: &m, v: &v, copy: None, g: &g, segments, norm, rates }, rule).unwrap();
    [p, m, v].map(|slab| slab.read().unwrap())
}

/// torch.optim.AdamW, or HF's own as version 4.11 has it, after torch.nn.utils.clip_grad_norm_.
fn truth(rule: AdamW, step: u64) -> Slabs<f64> {
    let (slabs, g) = start();
    let ([mut p, mut m, mut v], g) = (slabs.map(|slab| widened(&slab)), widened(&g));
    let [lr, b1, b2, eps, decay, most] =
        [RATE, rule.beta1, rule.beta2, rule.eps, rule.weight_decay, rule.max_grad_norm]
            .map(|constant| constant as f64);
    let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
    let clip = if most > 0.0 { (most / (norm + 1e-6)).min(1.0) } else { 1.0 };
    for [first, len, decays] in SEGMENTS {
        for i in first as usize..(first + len) as usize {
            let g = g[i] * clip;
            let keep = 1.0 - lr * decay * decays as f64;
            m[i] = b1 * m[i] + (1.0 - b1) * g;
            v[i] = b2 * v[i] + (1.0 - b2) * g * g;
            let (c1, c2) = (1.0 - b1.powf(step as f64), 1.0 - b2.powf(step as f64));
            if rule.hf {
                p[i] -= lr * c2.sqrt() / c1 * m[i] / (v[i].sqrt() + eps);
                p[i] *= keep;
            } else {
                p[i] *= keep;
                p[i] -= lr * (m[i] / c1) / ((v[i] / c2).sqrt() + eps);
            }
        }
    }
    [p, m, v]
}

#[test]
fn values() {
    // The norm of g is near 115: above 10, below 500.
    for (max_grad_norm, step, weight_decay, hf) in [
        (0.0, 1, 0.1, false),
        (10.0, 1, 0.0, false),
        (10.0, 7, 0.1, false),
        (500.0, 100_000, 0.1, false),
        (10.0, 1, 0.1, true),
        (0.0, 7, 0.1, true),
    ] {
        // Large enough to tell where it is added.
        let eps = if hf { 1e-3 } else { RULE.eps };
        let rule = AdamW { max_grad_norm, weight_decay, hf, eps, ..RULE };
        let (got, want) = (update(rule, step, 0), truth(rule, step));
        for ((got, want), name) in got.iter().zip(&want).zip(["p", "m", "v"]) {
            assert_close(&format!("adamw {name}, step {step}, {rule:?}"), got, want, 4);
        }
        let (before, _) = start();
        for (got, before) in got.iter().zip(&before) {
            assert_eq!(bits(&got[N - 5..]), bits(&before[N - 5..]), "beyond the segments");
        }
        let [one, two] = [1, 2].map(|threads| on_threads(threads, || update(rule, step, 0)));
        let (one, two) = (one.map(|s| bits(&s)), two.map(|s| bits(&s)));
        assert_eq!(one, two, "threads change the bits");
        assert_eq!(one, update(rule, step, 1).map(|s| bits(&s)), "where the slabs start changes the bits");
    }
}

#[test]
fn slabs_of_other_lengths_are_errors() {
    let device = poisoned();
    let new = |n: usize| Tensor::persistent(&device, [n], DType::F32).unwrap();
    let segments = &Tensor::upload(&device, [4], &[0i32, 4, 1, 0]).unwrap();
    let run = |[p, m, v, g]: [usize; 4]| {
        let (p, m, v, g, norm) = (&new(p), &new(m), &new(v), &new(g), &new(1));
        let rates = &RULE.rates(&device, RATE, 1).unwrap();
        adamw(State { p, m, v, copy: None, g, segments, norm, rates }, RULE)
    };
    assert!(run([4, 4, 4, 4]).is_ok());
    for lengths in [[4, 3, 4, 4], [4, 4, 3, 4], [4, 4, 4, 3]] {
        assert!(matches!(run(lengths), Err(Error::Shape { op: "adamw", .. })));
    }
}
