//! Attention: dense, window, block-sparse, and the few global rows.

use super::{Case, DROPOUT, Input, Site, mixed};
use crate::device::Device;
use crate::error::Result;
use crate::ops::attention::block_sparse_attention::{self, Blocks, block_sparse_attention};
use crate::ops::attention::dense_attention::{self, dense_attention};
use crate::ops::attention::window_attention::{self, window_attention};
use crate::ops::global_attention::{Projections, global_attention};
use crate::tensor::Tensor;

/// With one visible key the probability is 1 and the gradients of q and k vanish but for rounding.
fn of_one(keys: usize) -> f64 {
    if keys == 1 { 1.0 } else { 0.0 }
}

/// Queries q `[B, T, C]` over the first S of `rows` keys.
#[derive(Debug, Clone, Copy)]
pub struct Dense {
    pub name: &'static str,
    pub b: usize,
    pub t: usize,
    pub s: usize,
    pub rows: usize,
    pub h: usize,
    pub d: usize,
    pub causal: Option<usize>,
    /// Hides a sample's keys, where there are several, and a fifth of the others'.
    pub masked: bool,
    pub dropout: Site,
}

impl Dense {
    /// Sizes are `[b, t, s, rows, h, d]`.
    pub fn new(
        name: &'static str,
        [b, t, s, rows, h, d]: [usize; 6],
        causal: Option<usize>,
        masked: bool,
        dropout: Site,
    ) -> Self {
        Dense { name, b, t, s, rows, h, d, causal, masked, dropout }
    }

    pub fn all() -> Vec<Self> {
        let of = Self::new;
        let off = Site::OFF;
        vec![
            of("one", [1, 1, 1, 1, 1, 1], Some(0), false, off),
            of("causal", [2, 70, 70, 70, 2, 5], Some(0), false, off),
            // Tiles of 64 by 64: three of queries, three of keys, the last ones partly filled.
            of("all keys", [1, 131, 150, 150, 2, 16], None, false, off),
            of("masked keys", [2, 20, 70, 70, 2, 8], None, true, off),
            of("causal and masked", [2, 20, 70, 70, 2, 8], Some(50), true, off),
            // Half of a padded head is empty, and rows of bf16 have no 16-byte alignment.
            of("heads of 20", [1, 70, 90, 90, 1, 20], None, false, off),
            of("heads of 32", [1, 40, 70, 70, 2, 32], Some(30), false, off),
            of("heads of 64", [1, 70, 100, 100, 1, 64], None, true, off),
            of("heads of 128", [1, 70, 80, 80, 1, 128], None, false, off),
            of("key_len < rows", [2, 13, 67, 90, 2, 8], None, false, off),
            of("key_len < rows, causal", [2, 13, 67, 90, 2, 8], Some(54), false, off),
            of("key_len < rows, masked", [2, 13, 67, 90, 2, 8], None, true, off),
            of("one query", [3, 1, 600, 610, 2, 8], Some(599), false, off),
            of("one query, masked", [3, 1, 600, 610, 2, 8], None, true, off),
            of("three queries, offset", [2, 3, 8, 8, 1, 4], Some(5), false, off),
            of("dropout", [2, 20, 70, 70, 2, 8], None, true, DROPOUT),
            of("dropout, one query", [2, 1, 70, 70, 2, 8], Some(69), true, DROPOUT),
            // Tiles of 128 rows, from two to a processor on.
            of("many heads", [12, 12, 12, 12, 22, 16], Some(0), false, off),
            of("many heads of 64", [12, 12, 12, 12, 22, 64], Some(0), false, DROPOUT),
            // Few tiles of queries share their keys among blocks; no query sees the keys of the last share.
            of("many keys", [2, 5, 1700, 1700, 1, 16], None, true, off),
            of("many keys, the last unseen", [1, 5, 1700, 1700, 1, 64], Some(1040), false, off),
            of("many keys, dropout", [2, 3, 1700, 1700, 1, 20], None, true, DROPOUT),
            of("many keys, one query", [2, 1, 1700, 1700, 1, 128], None, true, off),
        ]
    }

    /// `[B, rows]`, where some are hidden.
    pub fn key_state(&self) -> Option<Vec<i32>> {
        let hidden = |e: usize| (e / self.rows == 0 && self.b > 1) || mixed(e as u64).is_multiple_of(5);
        self.masked.then(|| (0..self.b * self.rows).map(|e| !hidden(e) as i32).collect())
    }

    pub fn case(self) -> Case {
        let Dense { b, t, s, rows, h, d, causal, dropout, .. } = self;
        let (c, state) = (h * d, self.key_state());
        let keys = Input::activation([b, rows, c]);
        Case {
            op: "dense_attention",
            name: self.name.into(),
            inputs: vec![Input::activation([b, t, c]), keys, keys],
            forward: Box::new(move |tape, x| {
                let state = state.as_ref().map(|state| Tensor::upload(x[0].device(), [b, rows], state));
                let state = state.transpose()?;
                let (key_state, dropout) = (state.as_ref(), dropout.on(x[0].device())?);
                let pattern = dense_attention::Dense { heads: h, key_len: s, causal, key_state, dropout };
                Ok(vec![dense_attention(tape, &x[0], &x[1], &x[2], pattern)?])
            }),
            terms: s + t + d,
            cancelling: of_one(s),
        }
    }
}

/// One sample: how many tokens are not padding, and which are global.
pub type Sample = (usize, &'static [usize]);

/// With heads enough for tiles of 128 rows, from two to a processor on.
const MANY: [Sample; 12] = [(12, &[7]); 12];

#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub name: &'static str,
    pub samples: &'static [Sample],
    pub s: usize,
    pub h: usize,
    pub d: usize,
    pub w: usize,
    pub dropout: Site,
}

impl Window {
    pub fn all() -> Vec<Self> {
        let of = |name, samples: &'static [Sample], [s, h, d, w]: [usize; 4], dropout| Window {
            name,
            samples,
            s,
            h,
            d,
            w,
            dropout,
        };
        let off = Site::OFF;
        vec![
            of("one", &[(1, &[])], [1, 1, 1, 1], off),
            // Several tiles, globals inside and outside of windows, a padded sample with fewer globals.
            of("globals and padding", &[(150, &[0, 77]), (83, &[3])], [150, 2, 8, 20], off),
            of("no globals", &[(70, &[])], [70, 2, 5, 9], off),
            of("only itself", &[(10, &[4])], [10, 1, 3, 0], off),
            of("a window wider than S", &[(9, &[0]), (6, &[])], [9, 2, 4, 40], off),
            of("a fully masked sample", &[(0, &[]), (40, &[1, 39])], [40, 1, 4, 6], off),
            of("all global", &[(5, &[0, 1, 2, 3, 4])], [5, 1, 2, 2], off),
            of("heads of 20", &[(90, &[0])], [90, 1, 20, 20], off),
            of("heads of 32", &[(90, &[0])], [90, 1, 32, 20], off),
            of("heads of 64", &[(100, &[0, 99])], [100, 1, 64, 33], off),
            of("heads of 128", &[(80, &[1])], [80, 1, 128, 16], off),
            of("dropout", &[(90, &[0, 50]), (70, &[2])], [90, 2, 4, 16], DROPOUT),
            of("dropout, heads of 64", &[(150, &[0, 77]), (83, &[3])], [150, 1, 64, 20], DROPOUT),
            of("dropout, heads of 128", &[(141, &[0, 77]), (83, &[3])], [141, 1, 128, 20], DROPOUT),
            of("many heads", &MANY, [12, 22, 16, 4], off),
            of("many heads of 64", &MANY, [12, 22, 64, 4], off),
        ]
    }

    /// key_state `[B, S]`, global_index `[B, G]` and G.
    pub fn tokens(&self) -> (Vec<i32>, Vec<i32>, usize) {
        let Window { samples, s, .. } = *self;
        let g = samples.iter().map(|(_, globals)| globals.len()).max().unwrap_or(0);
        let (mut state, mut index) = (Vec::new(), Vec::new());
        for (real, globals) in samples {
            state.extend((0..s).map(|j| match j < *real {
                true => 1 + globals.contains(&j) as i32,
                false => 0,
            }));
            index.extend((0..g).map(|n| globals.get(n).map_or(-1, |&j| j as i32)));
        }
        (state, index, g)
    }

    pub fn case(self) -> Case {
        let Window { samples, s, h, d, w, dropout, .. } = self;
        let (b, c) = (samples.len(), h * d);
        let (state, index, g) = self.tokens();
        Case {
            op: "window_attention",
            name: self.name.into(),
            inputs: vec![Input::activation([b, s, c]); 3],
            forward: Box::new(move |tape, x| {
                let device = x[0].device();
                let key_state = &Tensor::upload(device, [b, s], &state)?;
                let global_index = &Tensor::upload(device, [b, g], &index)?;
                let dropout = dropout.on(device)?;
                let pattern =
                    window_attention::Window { heads: h, window: w, key_state, global_index, dropout };
                Ok(vec![window_attention(tape, &x[0], &x[1], &x[2], pattern)?])
            }),
            terms: 2 * s + d,
            cancelling: of_one(s),
        }
    }
}

/// How often each query block sees each key block, `[H, n, n]`.
#[derive(Debug, Clone)]
pub struct Counts {
    h: usize,
    n: usize,
    count: Vec<i32>,
}

impl Counts {
    /// Rows of zeros to threes; the last query block sees nothing.
    pub fn random(h: usize, n: usize) -> Self {
        let count = (0..h * n * n).map(|e| match n > 1 && e / n % n == n - 1 {
            true => 0,
            false => (mixed(e as u64 + 5) % 7 % 4) as i32,
        });
        Counts { h, n, count: count.collect() }
    }

    pub fn at(&self, h: usize, query: usize, key: usize) -> i32 {
        self.count[(h * self.n + query) * self.n + key]
    }

    /// row_ptr, col and count of the table, or of its transpose.
    fn table(&self, transposed: bool) -> [Vec<i32>; 3] {
        let [mut row_ptr, mut col, mut count] = [const { Vec::new() }; 3];
        for h in 0..self.h {
            row_ptr.push(col.len() as i32);
            for row in 0..self.n {
                for other in 0..self.n {
                    let times = match transposed {
                        true => self.at(h, other, row),
                        false => self.at(h, row, other),
                    };
                    if times > 0 {
                        col.push(other as i32);
                        count.push(times);
                    }
                }
                row_ptr.push(col.len() as i32);
            }
        }
        [row_ptr, col, count]
    }

    /// Blocks that live as long as a step, which can then be a graph.
    pub fn upload(&self, device: &Device) -> Result<Blocks> {
        let (table, inverse) = (self.table(false), self.table(true));
        Blocks::of_step(device, self.h, table.each_ref().map(|x| &x[..]), inverse.each_ref().map(|x| &x[..]))
    }
}

/// n blocks of K tokens; `real` are each sample's tokens that are not padding.
#[derive(Debug, Clone, Copy)]
pub struct BlockSparse {
    pub name: &'static str,
    pub real: &'static [usize],
    pub n: usize,
    pub k: usize,
    pub h: usize,
    pub d: usize,
}

impl BlockSparse {
    pub fn all() -> Vec<Self> {
        let of = |name, real, [n, k, h, d]: [usize; 4]| BlockSparse { name, real, n, k, h, d };
        vec![
            of("one block of one", &[1], [1, 1, 1, 1]),
            of("small blocks, padding", &[24, 15], [6, 4, 2, 5]),
            of("blocks of a tile", &[192], [3, 64, 1, 8]),
            // 80 is no multiple of a tile's 64 rows.
            of("blocks of 80", &[240, 100], [3, 80, 2, 4]),
            of("a fully masked sample", &[0, 20], [5, 4, 1, 3]),
            // Lists of more than 16 blocks.
            of("long lists", &[192, 90], [24, 8, 1, 4]),
            of("long lists of heads of 64", &[190], [24, 8, 1, 64]),
            of("heads of 20", &[80], [5, 16, 1, 20]),
            of("heads of 32", &[80], [5, 16, 1, 32]),
            of("heads of 64", &[128], [2, 64, 1, 64]),
            of("heads of 128", &[64], [4, 16, 1, 128]),
        ]
    }

    pub fn counts(&self) -> Counts {
        Counts::random(self.h, self.n)
    }

    /// `[B, S]`.
    pub fn key_state(&self) -> Vec<i32> {
        let s = self.n * self.k;
        (0..self.real.len() * s).map(|e| (e % s < self.real[e / s]) as i32).collect()
    }

    pub fn case(self) -> Case {
        let BlockSparse { real, n, k, h, d, .. } = self;
        let (b, s, c) = (real.len(), n * k, h * d);
        let (counts, state) = (self.counts(), self.key_state());
        Case {
            op: "block_sparse_attention",
            name: self.name.into(),
            inputs: vec![Input::activation([b, s, c]); 3],
            forward: Box::new(move |tape, x| {
                let blocks = &counts.upload(x[0].device())?;
                let key_state = &Tensor::upload(x[0].device(), [b, s], &state)?;
                let pattern =
                    block_sparse_attention::BlockSparse { heads: h, block_size: k, blocks, key_state };
                Ok(vec![block_sparse_attention(tape, &x[0], &x[1], &x[2], pattern)?])
            }),
            terms: 3 * s + d,
            cancelling: of_one(s),
        }
    }
}

/// G queries over S tokens; `real` are each sample's tokens that are not padding.
#[derive(Debug, Clone, Copy)]
pub struct Global {
    pub real: &'static [usize],
    pub g: usize,
    pub s: usize,
    pub h: usize,
    pub d: usize,
}

impl Global {
    pub fn all() -> Vec<Self> {
        vec![
            Global { real: &[1], g: 1, s: 1, h: 1, d: 1 },
            Global { real: &[37, 20], g: 3, s: 37, h: 2, d: 4 },
            Global { real: &[150], g: 1, s: 150, h: 2, d: 8 },
            Global { real: &[70, 1], g: 5, s: 70, h: 3, d: 5 },
            // More rows than a tile, channels of two blocks.
            Global { real: &[70, 33], g: 6, s: 70, h: 3, d: 45 },
        ]
    }

    /// `[B, S]`.
    pub fn key_state(&self) -> Vec<i32> {
        let visible = |e: usize| (e % self.s < self.real[e / self.s]) as i32;
        (0..self.real.len() * self.s).map(visible).collect()
    }

    /// Inputs q, x, Wk, Wv, bv.
    pub fn case(self) -> Case {
        let Global { real, g, s, h, d } = self;
        let (b, c, state) = (real.len(), h * d, self.key_state());
        let square = Input::weight([c, c]);
        Case {
            op: "global_attention",
            name: format!("{g} of {s} tokens, {h} heads of {d}"),
            inputs: vec![
                Input::activation([b, g, c]),
                Input::activation([b, s, c]),
                square,
                square,
                Input::weight([c]),
            ],
            forward: Box::new(move |tape, x| {
                let key_state = Tensor::upload(x[0].device(), [b, s], &state)?;
                let (key, value, value_bias) = (x[2].clone(), x[3].clone(), x[4].clone());
                let w = Projections { key, value, value_bias };
                Ok(vec![global_attention(tape, &x[0], &x[1], &w, &key_state, h)?])
            }),
            terms: 2 * s + 2 * h * d + g,
            cancelling: if real.contains(&1) { 1.0 } else { 0.0 },
        }
    }
}

pub(super) fn all() -> Vec<Case> {
    let dense = Dense::all().into_iter().map(Dense::case);
    let window = Window::all().into_iter().map(Window::case);
    let blocks = BlockSparse::all().into_iter().map(BlockSparse::case);
    dense.chain(window).chain(blocks).chain(Global::all().into_iter().map(Global::case)).collect()
}
