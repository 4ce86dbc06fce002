//! Attention of a decoding step: rows of a cache named by an index.

use super::{Case, Input, mixed};
use crate::ops::Position;
use crate::ops::attention::decode_attention::{Cached, Keys, decode_attention};
use crate::tensor::Tensor;

/// N queries over the first S of `rows` keys in each of R rows of a cache.
#[derive(Debug, Clone, Copy)]
pub struct Decode {
    pub name: &'static str,
    pub n: usize,
    pub r: usize,
    pub s: usize,
    pub rows: usize,
    pub h: usize,
    pub d: usize,
    /// A column of the index for every key, or one for all.
    pub columns: usize,
    /// Neighbours that are said to share their row, whether they do or not.
    pub beams: usize,
    /// Hides the keys of a cache row, where there are several, and a fifth of the others'.
    pub masked: bool,
    /// S is not a size of the launch, but one more than the position in memory.
    pub moving: bool,
}

impl Decode {
    pub fn all() -> Vec<Self> {
        let of = |name, [n, r, s, rows, h, d, columns]: [usize; 7], masked| Decode {
            beams: 1,
            name,
            n,
            r,
            s,
            rows,
            h,
            d,
            columns,
            masked,
            moving: false,
        };
        let moving = |name, sizes, masked| Decode { moving: true, ..of(name, sizes, masked) };
        let beams = |name, sizes, beams| Decode { beams, ..of(name, sizes, true) };
        vec![
            of("one", [1, 1, 1, 1, 1, 1, 1], false),
            of("shared keys, masked", [6, 3, 70, 70, 2, 8, 1], true),
            // More beams than are read together, more keys than one task has, and splits of them.
            beams("beams of two inputs", [11, 2, 600, 610, 2, 8, 1], 6),
            beams("beams of an input each", [5, 5, 40, 40, 1, 5, 1], 4),
            beams("beams, heads of 32", [8, 2, 90, 90, 1, 32, 1], 4),
            beams("beams, heads of 64", [6, 3, 70, 80, 1, 64, 1], 2),
            beams("beams, heads of 128", [5, 1, 40, 40, 1, 128, 1], 5),
            of("a row for each key", [5, 5, 37, 40, 3, 5, 40], false),
            of("a row for each key, long", [3, 4, 700, 1100, 1, 16, 1100], false),
            of("a row for each key, masked", [4, 2, 20, 24, 2, 4, 24], true),
            of("the first step", [4, 4, 1, 24, 2, 8, 24], false),
            moving("up to a position", [3, 3, 37, 100, 2, 8, 100], false),
            // Splits of the whole cache, the last ones without keys.
            moving("up to a position, long", [2, 2, 300, 1100, 1, 16, 1100], true),
            moving("up to the first position", [2, 2, 1, 600, 1, 16, 600], false),
            of("heads of 32", [2, 2, 90, 90, 2, 32, 90], false),
            of("heads of 64", [3, 2, 130, 140, 1, 64, 1], true),
            of("heads of 128", [2, 2, 80, 80, 1, 128, 1], false),
        ]
    }

    /// `[R, rows]`, where some are hidden.
    pub fn key_state(&self) -> Option<Vec<i32>> {
        let hidden = |e: usize| (e / self.rows == 0 && self.r > 1) || mixed(e as u64).is_multiple_of(5);
        self.masked.then(|| (0..self.r * self.rows).map(|e| !hidden(e) as i32).collect())
    }

    /// `[N, columns]`; with one column, neighbours share rows, and beyond S it names none.
    pub fn index(&self) -> Vec<i32> {
        let row = |e: usize| match self.columns {
            1 => e * self.r / self.n,
            columns if e % columns >= self.s => usize::MAX,
            _ => mixed(e as u64 + 3) as usize % self.r,
        };
        (0..self.n * self.columns).map(|e| row(e) as i32).collect()
    }

    pub fn case(self) -> Case {
        let Decode { n, r, s, rows, h, d, columns, beams, moving, .. } = self;
        let (c, state, index) = (h * d, self.key_state(), self.index());
        let keys = Input::activation([r, rows, c]);
        Case {
            op: "decode_attention",
            name: self.name.into(),
            inputs: vec![Input::activation([n, c]), keys, keys],
            forward: Box::new(move |tape, x| {
                let device = x[0].device();
                let state = state.as_ref().map(|state| Tensor::upload(device, [r, rows], state));
                let state = state.transpose()?;
                let index = Tensor::upload(device, [n, columns], &index)?;
                let last = Tensor::upload(device, [1], &[s as i32 - 1])?;
                let keys = match moving {
                    true => Keys::UpTo(Position { value: s - 1, on_device: &last }),
                    false => Keys::First(s),
                };
                let (k, v, key_state) = (&x[1], &x[2], state.as_ref());
                let cached = Cached { heads: h, k, v, index: &index, beams, keys, key_state };
                Ok(vec![decode_attention(tape, &x[0], cached)?])
            }),
            terms: s + d,
            cancelling: 0.0,
        }
    }
}

pub(super) fn all() -> Vec<Case> {
    Decode::all().into_iter().map(Decode::case).collect()
}
