use crate::case::{Case, inputs};
use crate::compare::{mixed, widened};
use crate::device::poisoned;
use wattention::error::Error;
use wattention::ops::embedding::{Lookup, embedding};
use wattention::shape::DType;
use wattention::tape::Tape;
use wattention::tensor::Tensor;

const PAD: usize = 1;

/// Sizes of one lookup, by the legend; P positions.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    b: usize,
    t: usize,
    v: usize,
    p: usize,
    c: usize,
    past: usize,
    placed: usize,
}

#[test]
pub fn gradients() {
    let whole = Sizes { b: 2, t: 5, v: 11, p: 5, c: 6, past: 0, placed: 5 };
    check(whole, 1.0);
    check(Sizes { p: 9, past: 3, placed: 2, ..whole }, 2.5);
    check(Sizes { past: 4, t: 1, placed: 1, ..whole }, 0.5);
    check(Sizes { b: 1, t: 1, v: 2, p: 1, c: 1, past: 0, placed: 0 }, 1.0);
    // `placed` may be beyond T, and the positions table longer than what is used.
    check(Sizes { b: 3, t: 70, v: 13, p: 90, c: 33, past: 0, placed: 128 }, 1.0);
    // Tokens of several blocks, channels of several blocks.
    check(Sizes { b: 1, t: 40, v: 700, p: 40, c: 516, past: 0, placed: 40 }, 1.0);
}

/// One token at most positions, so that its sum crosses chunks of them; and at all of very many.
#[test]
fn a_frequent_token() {
    let whole = Sizes { b: 2, t: 45, v: 5, p: 45, c: 6, past: 0, placed: 45 };
    check_with(whole, 1.0, |i| if i % 5 == 0 { mixed(i as u64) as usize % 5 } else { 3 });
    check_with(Sizes { b: 1, t: 2200, p: 2200, c: 2, placed: 0, ..whole }, 1.0, |_| 2);
    check_with(Sizes { t: 300, p: 300, ..whole }, 1.0, |i| if i % 3 == 0 { PAD } else { i / 150 });
}

fn check(sizes: Sizes, scale: f32) {
    check_with(sizes, scale, |i| mixed(i as u64) as usize % sizes.v);
}

fn check_with(sizes: Sizes, scale: f32, token: impl Fn(usize) -> usize) {
    let Sizes { b, t, v, p, c, past, placed } = sizes;
    let ids: Vec<i32> = (0..b * t).map(|i| token(i) as i32).collect();
    let inputs = inputs(&[[v, c].into(), [p, c].into()]);
    // A constant pad row: lookups see its value and give it no gradient.
    let pad_row = widened(&inputs[0].1[PAD * c..][..c]);
    Case {
        name: format!("embedding {sizes:?}"),
        inputs,
        forward: &|tape, x| {
            let ids = Tensor::upload(x[0].device(), [b, t], &ids)?;
            let (table, positions) = (&x[0], &x[1]);
            let lookup = Lookup { table, positions, scale, pad: PAD, past, placed };
            Ok(vec![embedding(tape, &ids, lookup)?])
        },
        truth: &|x| {
            let (table, positions) = (&x[0], &x[1]);
            let mut y = Vec::new();
            for (n, &id) in ids.iter().enumerate() {
                for channel in 0..c {
                    let token = match id as usize {
                        PAD => pad_row[channel],
                        id => table[id * c + channel],
                    };
                    let position = match n % t < placed {
                        true => positions[(past + n % t) * c + channel],
                        false => 0.0,
                    };
                    y.push(scale as f64 * token + position);
                }
            }
            vec![y]
        },
        terms: b * t,
        cancelling: 0.0,
    }
    .check();
}

#[test]
fn a_position_beyond_the_table_is_an_error() {
    let device = poisoned();
    let new = |shape: [usize; 2], dtype| Tensor::persistent(&device, shape, dtype).unwrap();
    let (table, positions) = (new([3, 2], DType::F32), new([4, 2], DType::F32));
    let lookup = |past| {
        let (table, positions) = (&table, &positions);
        Lookup { table, positions, scale: 1.0, pad: PAD, past, placed: 2 }
    };
    let ids = new([1, 2], DType::I32);
    assert!(embedding(&Tape::off(), &ids, lookup(2)).is_ok());
    let got = embedding(&Tape::off(), &ids, lookup(3));
    assert!(matches!(got, Err(Error::Usage(message)) if message.contains("position 4")));
}

#[test]
fn positions_of_another_width_are_an_error() {
    let device = poisoned();
    let new = |shape: [usize; 2], dtype| Tensor::persistent(&device, shape, dtype).unwrap();
    let (table, positions) = (new([3, 2], DType::F32), new([4, 3], DType::F32));
    let (table, positions) = (&table, &positions);
    let lookup = Lookup { table, positions, scale: 1.0, pad: PAD, past: 0, placed: 2 };
    let got = embedding(&Tape::off(), &new([1, 2], DType::I32), lookup);
    assert!(matches!(got, Err(Error::Shape { op: "embedding", .. })));
}
