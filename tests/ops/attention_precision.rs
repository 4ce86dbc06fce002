//! Attention in every format and head size: bf16 and tf32 make at most twice the error of the same
//! formula computed plainly in that format; three products of tf32 stay in the bound of fp32.

use crate::compare::{assert_within, bound, largest, mixed, random, widened};
use crate::device::poisoned_in;
use crate::truth;
use crate::truth_attention::{Pair, Rounding, Sizes, all_kept, backward};
use half::bf16;
use wattention::cases::attention as cases;
use wattention::device::{Device, Precision};
use wattention::error::Result;
use wattention::ops::attention::block_sparse_attention::{BlockSparse, block_sparse_attention};
use wattention::ops::attention::dense_attention::{Dense, dense_attention};
use wattention::ops::attention::window_attention::{Window, window_attention};
use wattention::tape::{Dropout, Gradients, Tape};
use wattention::tensor::{Node, Tensor};

fn to_bf16(x: f64) -> f64 {
    bf16::from_f32(x as f32).to_f64()
}

/// Ten bits of fraction, ties away from zero.
fn to_tf32(x: f64) -> f64 {
    f32::from_bits((x as f32).to_bits().wrapping_add(0x1000) & 0xffff_e000) as f64
}

const EXACT: Rounding = Rounding { operand: |x| x, result: |x| x };
const BF16: Rounding = Rounding { operand: |x| x, result: to_bf16 };
const TF32: Rounding = Rounding { operand: to_tf32, result: |x| x };

/// An op that was given q, k and v.
type Forward<'a> = &'a dyn Fn(&Tape, &[Tensor; 3]) -> Result<Tensor>;

/// o, dq, dk and dv on a device, and the same in f64.
fn check(
    name: &str,
    precision: Precision,
    sizes: Sizes,
    forward: Forward,
    times: &dyn Fn(Pair) -> f64,
    factor: &dyn Fn(Pair) -> f64,
) {
    let Sizes { b, t, rows, h, d, .. } = sizes;
    let device = poisoned_in(precision);
    let shapes = [[b, t, h * d], [b, rows, h * d], [b, rows, h * d], [b, t, h * d]];
    // Inputs are rounded to the storage type before anybody sees them.
    let values: [Vec<f32>; 4] = std::array::from_fn(|i| {
        let values = random(i as u64 + 21, shapes[i].iter().product());
        match precision {
            Precision::Bf16 => values.iter().map(|&x| to_bf16(x as f64) as f32).collect(),
            _ => values,
        }
    });
    // A view that begins in the middle of 16 bytes, as in a slab of parameters.
    let skipped = (d == 32) as usize;
    let upload = |i: usize| upload(&device, precision, shapes[i], &values[i], skipped);
    let leaf = |i: usize| upload(i).with_node(Some(Node::fresh()));
    let inputs = [leaf(0), leaf(1), leaf(2)];
    let d_o = upload(3);
    let tape = Tape::gradients();
    let o = forward(&tape, &inputs).unwrap();
    let (saved, loss) = (o.clone(), Tensor::upload(&device, [1], &[0f32]).unwrap());
    let loss = tape.record(&[&o], loss, move |_, gradients| gradients.add(&saved, d_o));
    let mut gradients = Gradients::new();
    tape.backward(&loss, 1.0, &mut gradients).unwrap();
    let gradient = |x: &Tensor| gradients.of(x).unwrap().read_floats().unwrap();
    let got = [o.read_floats().unwrap(), gradient(&inputs[0]), gradient(&inputs[1]), gradient(&inputs[2])];

    let wide: [Vec<f64>; 4] = std::array::from_fn(|i| widened(&values[i]));
    let [q, k, v, d_o] = wide.each_ref().map(|x| &x[..]);
    let run = |rounding| backward([q, k, v, d_o], sizes, times, factor, rounding);
    let plain = run(match precision {
        Precision::Fp32 | Precision::Tf32x3 => EXACT,
        Precision::Tf32 => TF32,
        Precision::Bf16 => BF16,
    });
    for ((what, got), (want, plain)) in
        ["o", "dq", "dk", "dv"].iter().zip(got).zip(run(EXACT).iter().zip(plain))
    {
        let error = want.iter().zip(&plain).map(|(w, p)| (w - p).abs()).fold(0.0, f64::max);
        let tolerance = match precision {
            Precision::Fp32 | Precision::Tf32x3 => bound(t + sizes.s + d) * largest(want),
            _ => 2.0 * error,
        };
        assert_within(&format!("{name}, {precision}: {what}"), &got, want, tolerance);
    }
}

fn upload(
    device: &Device,
    precision: Precision,
    shape: [usize; 3],
    values: &[f32],
    skipped: usize,
) -> Tensor {
    let len = skipped + values.len();
    let values = vec![f32::NAN; skipped].into_iter().chain(values.iter().copied());
    let slab = match precision {
        Precision::Bf16 => {
            let values: Vec<bf16> = values.map(bf16::from_f32).collect();
            Tensor::upload(device, [len], &values)
        }
        _ => Tensor::upload(device, [len], &values.collect::<Vec<_>>()),
    };
    slab.unwrap().slice(skipped, shape).unwrap()
}

/// 20 leaves rows of bf16 without 16-byte alignment and half of a padded head empty.
const HEADS: [usize; 5] = [16, 20, 32, 64, 128];

#[test]
fn dense() {
    let dropout = Dropout { p: 0.2, seed: 3, stream: 9 };
    for precision in Precision::ALL {
        for d in HEADS {
            let sizes = Sizes { t: 70, s: 150, rows: 160, ..Sizes::square(1, 0, 2, d) };
            let dropout = if d == 32 { dropout } else { Dropout::OFF };
            let causal = (d == 64).then_some(80);
            let forward = |tape: &Tape, [q, k, v]: &[Tensor; 3]| {
                let pattern = Dense { heads: 2, key_len: 150, causal, key_state: None, dropout };
                dense_attention(tape, q, k, v, pattern)
            };
            let times = |at: Pair| causal.is_none_or(|offset| at.j <= at.i + offset) as u8 as f64;
            let factor = |at| if dropout.is_off() { 1.0 } else { truth::dropout(dropout, sizes.element(at)) };
            check(&format!("dense, head size {d}"), precision, sizes, &forward, &times, &factor);
        }
    }
}

/// Tiles of 128 rows, from two to a processor on.
#[test]
fn many_heads() {
    let (b, h, s, window) = (12, 22, 40, 9);
    let (state, index, g) = cases::Window::tokens_of(&vec![(s, &[7][..]); b], s);
    for (precision, d) in [(Precision::Fp32, 16), (Precision::Tf32, 64), (Precision::Bf16, 64)] {
        let sizes = Sizes::square(b, s, h, d);
        let forward = |tape: &Tape, [q, k, v]: &[Tensor; 3]| {
            let pattern =
                Dense { heads: h, key_len: s, causal: Some(0), key_state: None, dropout: Dropout::OFF };
            dense_attention(tape, q, k, v, pattern)
        };
        let times = |at: Pair| (at.j <= at.i) as u8 as f64;
        check("dense, many heads", precision, sizes, &forward, &times, &all_kept);
        let forward = |tape: &Tape, [q, k, v]: &[Tensor; 3]| {
            let key_state = &Tensor::upload(q.device(), [b, s], &state)?;
            let global_index = &Tensor::upload(q.device(), [b, g], &index)?;
            let pattern = Window { heads: h, window, key_state, global_index, dropout: Dropout::OFF };
            window_attention(tape, q, k, v, pattern)
        };
        let times = |at: Pair| match (at.i, at.j) {
            (7, _) => 0.0,
            (_, 7) => 1.0,
            (i, j) => (i.abs_diff(j) <= window) as u8 as f64,
        };
        check("window, many heads", precision, sizes, &forward, &times, &all_kept);
    }
}

/// Few tiles of queries share their keys among blocks; in the last share none is visible.
#[test]
fn many_keys() {
    let (s, dropout) = (1700, Dropout { p: 0.1, seed: 5, stream: 2 });
    let state: Vec<i32> = (0..2 * s).map(|j| (j % s < 1050 || j < s && j % 3 == 0) as i32).collect();
    for (precision, d, t) in [
        (Precision::Fp32, 16, 20),
        (Precision::Bf16, 64, 20),
        (Precision::Fp32, 20, 3),
        (Precision::Bf16, 32, 3),
        (Precision::Fp32, 128, 1),
        (Precision::Bf16, 128, 1),
    ] {
        let sizes = Sizes { t, ..Sizes::square(2, s, 1, d) };
        let dropout = if d == 20 { dropout } else { Dropout::OFF };
        let forward = |tape: &Tape, [q, k, v]: &[Tensor; 3]| {
            let state = Tensor::upload(q.device(), [2, s], &state)?;
            let pattern = Dense { heads: 1, key_len: s, causal: None, key_state: Some(&state), dropout };
            dense_attention(tape, q, k, v, pattern)
        };
        let times = |at: Pair| state[at.b * s + at.j] as f64;
        let factor = |at| if dropout.is_off() { 1.0 } else { truth::dropout(dropout, sizes.element(at)) };
        check(&format!("{t} queries, many keys"), precision, sizes, &forward, &times, &factor);
    }
}

#[test]
fn window() {
    let (s, window) = (150, 20);
    let (state, index, g) = cases::Window::tokens_of(&[(150, &[0, 77]), (83, &[3])], s);
    for precision in Precision::ALL {
        for d in HEADS {
            let dropout = Dropout { p: if d == 64 { 0.1 } else { 0.0 }, seed: 3, stream: 9 };
            let sizes = Sizes::square(2, s, 1, d);
            let forward = |tape: &Tape, [q, k, v]: &[Tensor; 3]| {
                let key_state = &Tensor::upload(q.device(), [2, s], &state)?;
                let global_index = &Tensor::upload(q.device(), [2, g], &index)?;
                let pattern = Window { heads: 1, window, key_state, global_index, dropout };
                window_attention(tape, q, k, v, pattern)
            };
            let times = |at: Pair| match (state[at.b * s + at.i], state[at.b * s + at.j]) {
                (1, 2) => 1.0,
                (1, 1) => (at.i.abs_diff(at.j) <= window) as u8 as f64,
                _ => 0.0,
            };
            let factor = |at| if dropout.is_off() { 1.0 } else { truth::dropout(dropout, sizes.element(at)) };
            check(&format!("window, head size {d}"), precision, sizes, &forward, &times, &factor);
        }
    }
}

#[test]
fn block_sparse() {
    // Blocks of a tile, and lists that are walked in parts.
    for (n, block) in [(3, 64), (24, 8)] {
        let s = n * block;
        let counts = cases::Counts::random(1, n);
        let state: Vec<i32> = (0..s).map(|j| !mixed(j as u64).is_multiple_of(5) as i32).collect();
        let forward = |tape: &Tape, [q, k, v]: &[Tensor; 3]| {
            let blocks = &counts.upload(q.device())?;
            let key_state = &Tensor::upload(q.device(), [1, s], &state)?;
            let pattern = BlockSparse { heads: 1, block_size: block, blocks, key_state };
            block_sparse_attention(tape, q, k, v, pattern)
        };
        let times = |at: Pair| {
            let count = counts.at(0, at.i / block, at.j / block);
            (state[at.i] * state[at.j] * count) as f64
        };
        for precision in Precision::ALL {
            for d in HEADS {
                let name = format!("block-sparse, head size {d}, blocks of {block}");
                check(&name, precision, Sizes::square(1, s, 1, d), &forward, &times, &all_kept);
            }
        }
    }
}
