//! Embeddings and rows by index.

use super::{Case, Input, mixed};
use crate::ops::Position;
use crate::ops::embedding::{Lookup, embedding};
use crate::ops::rows;
use crate::tensor::Tensor;

/// Sizes of one lookup, by the legend; P positions.
#[derive(Debug, Clone, Copy)]
pub struct Embedding {
    pub b: usize,
    pub t: usize,
    pub v: usize,
    pub p: usize,
    pub c: usize,
    pub past: usize,
    pub placed: usize,
    pub scale: f32,
    pub tokens: Tokens,
}

/// Which tokens are looked up.
#[derive(Debug, Clone, Copy)]
pub enum Tokens {
    Mixed,
    /// One token nearly everywhere, so that its sum crosses chunks of positions.
    Frequent,
    /// One token everywhere.
    Same,
    /// Many pads.
    Padded,
}

impl Embedding {
    pub const PAD: usize = 1;

    pub fn all() -> Vec<Self> {
        let tokens = Tokens::Mixed;
        let whole = Embedding { b: 2, t: 5, v: 11, p: 5, c: 6, past: 0, placed: 5, scale: 1.0, tokens };
        let frequent = Embedding { t: 45, v: 5, p: 45, placed: 45, tokens: Tokens::Frequent, ..whole };
        vec![
            whole,
            Embedding { p: 9, past: 3, placed: 2, scale: 2.5, ..whole },
            Embedding { past: 4, t: 1, placed: 1, scale: 0.5, ..whole },
            Embedding { b: 1, t: 1, v: 2, p: 1, c: 1, placed: 0, ..whole },
            // `placed` may be beyond T, and the positions table longer than what is used.
            Embedding { b: 3, t: 70, v: 13, p: 90, c: 33, placed: 128, ..whole },
            // Tokens of several blocks, channels of several blocks.
            Embedding { b: 1, t: 40, v: 700, p: 40, c: 516, placed: 40, ..whole },
            frequent,
            Embedding { b: 1, t: 2200, p: 2200, c: 2, placed: 0, tokens: Tokens::Same, ..frequent },
            Embedding { t: 300, p: 300, tokens: Tokens::Padded, ..frequent },
        ]
    }

    /// `[B, T]`.
    pub fn ids(&self) -> Vec<i32> {
        let token = |i: usize| match self.tokens {
            Tokens::Mixed => mixed(i as u64) as usize % self.v,
            Tokens::Frequent if i.is_multiple_of(5) => mixed(i as u64) as usize % 5,
            Tokens::Frequent => 3,
            Tokens::Same => 2,
            Tokens::Padded if i.is_multiple_of(3) => Self::PAD,
            Tokens::Padded => i / 150,
        };
        (0..self.b * self.t).map(|i| token(i) as i32).collect()
    }

    pub fn case(self) -> Case {
        let Embedding { b, t, v, p, c, past, placed, scale, .. } = self;
        let ids = self.ids();
        Case {
            op: "embedding",
            name: format!("{b} x {t} tokens of {v}, {c} channels, {:?}", self.tokens),
            inputs: vec![Input::weight([v, c]), Input::weight([p, c])],
            forward: Box::new(move |tape, x| {
                let ids = Tensor::upload(x[0].device(), [b, t], &ids)?;
                let (table, positions) = (&x[0], &x[1]);
                let first = Tensor::upload(x[0].device(), [1], &[past as i32])?;
                let past = (past > 0).then_some(Position { value: past, on_device: &first });
                let lookup = Lookup { table, positions, scale, pad: Self::PAD, past, placed };
                Ok(vec![embedding(tape, &ids, lookup)?])
            }),
            terms: b * t,
            cancelling: 0.0,
        }
    }
}

/// Rows named by an index, -1 for none.
#[derive(Debug, Clone)]
pub struct Rows {
    pub n: usize,
    pub c: usize,
    pub index: Vec<i32>,
}

impl Rows {
    /// An empty slot, a single row, enough rows for several tasks, and rows named again.
    pub fn all() -> Vec<Self> {
        let odd = (0..90).map(|i| if i % 9 == 4 { -1 } else { (i * 37) % 101 });
        let again = (0..80).map(|i| [3, 0, 3, -1, 6, 3, 1][i % 7]);
        let sizes = [
            (1, 1, vec![0]),
            (2, 3, vec![-1]),
            (5, 4, vec![3, -1, 0, 4]),
            (101, 7, odd.collect()),
            (7, 130, again.collect()),
        ];
        sizes.map(|(n, c, index)| Rows { n, c, index }).into()
    }

    pub fn gather(self) -> Case {
        let Rows { n, c, index } = self;
        let m = index.len();
        Case {
            op: "rows",
            name: format!("gather {m} of {n} x {c}"),
            inputs: vec![Input::activation([n, c])],
            forward: Box::new(move |tape, x| {
                let index = Tensor::upload(x[0].device(), [m], &index)?;
                Ok(vec![rows::gather(tape, &x[0], &index)?])
            }),
            terms: m,
            cancelling: 0.0,
        }
    }

    /// A copy of x with rows added to it.
    pub fn scatter_add(self) -> Case {
        let Rows { n, c, index } = self;
        let m = index.len();
        Case {
            op: "rows",
            name: format!("scatter {m} to {n} x {c}"),
            inputs: vec![Input::activation([n, c]), Input::activation([m, c])],
            forward: Box::new(move |tape, x| {
                // It works in place, and the input may be used again.
                let every: Vec<i32> = (0..n as i32).collect();
                let base = rows::gather(tape, &x[0], &Tensor::upload(x[0].device(), [n], &every)?)?;
                let index = Tensor::upload(x[0].device(), [m], &index)?;
                Ok(vec![rows::scatter_add(tape, base, &x[1], &index)?])
            }),
            terms: m + 1,
            cancelling: 0.0,
        }
    }
}

pub(super) fn all() -> Vec<Case> {
    let embeddings = Embedding::all().into_iter().map(Embedding::case);
    let gathers = Rows::all().into_iter().map(Rows::gather);
    embeddings.chain(gathers).chain(Rows::all().into_iter().map(Rows::scatter_add)).collect()
}
