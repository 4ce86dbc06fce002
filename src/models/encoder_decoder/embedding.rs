//! Tokens and positions to vectors: scale * tokens + positions, and LN of that where a family has it.

use crate::error::Result;
use crate::nn::{Builder, Init, LayerNorm};
use crate::ops::Position;
use crate::ops::embedding::{Lookup, embedding};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Where the vectors of positions come from, and of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// A trained table.
    Learned(usize),
    /// A trained table that begins with rows that no position has.
    LearnedAfter { unused: usize, rows: usize },
    /// Constants: sines of position / 10000^(2i/C), then their cosines.
    Sinusoids(usize),
}

impl Positions {
    /// The table of the side `name`.
    pub fn build(self, builder: &mut Builder, name: &str, c: usize) -> Result<Table> {
        let name = format!("{name}.embed_positions.weight");
        let (rows, unused) = match self {
            Positions::Learned(rows) | Positions::Sinusoids(rows) => (rows, 0),
            Positions::LearnedAfter { unused, rows } => (unused + rows, unused),
        };
        let rows = match self {
            Positions::Sinusoids(_) => builder.constant(&name, [rows, c], Init::Sinusoids)?,
            _ => builder.parameter(&name, [rows, c], Init::Normal)?,
        };
        let first = match unused {
            0 => None,
            unused => Some((unused, builder.number(unused as i32)?)),
        };
        Ok(Table { rows, first })
    }
}

/// The vectors of positions.
pub struct Table {
    /// `[P, C]`.
    rows: Tensor,
    /// The row of position 0 where that is not the first one, also on the device, `[1]` i32.
    first: Option<(usize, Tensor)>,
}

impl Table {
    /// A table, and the row in it of a sequence's first token.
    fn from<'a>(&'a self, past: Option<Position<'a>>) -> Result<(Tensor, Option<Position<'a>>)> {
        let [p, c] = self.rows.shape().dims2("positions")?;
        Ok(match (&self.first, past) {
            (None, past) => (self.rows.clone(), past),
            // The whole table, which has the node that a gradient belongs to.
            (Some((value, on_device)), None) => {
                (self.rows.clone(), Some(Position { value: *value, on_device }))
            }
            // In a decoding step, which has no gradient.
            (Some((unused, _)), past) => (self.rows.slice(unused * c, [p - unused, c])?, past),
        })
    }
}

/// The embedding of one side.
pub struct Embedding {
    /// `[V, C]`, the same for both sides and the head.
    pub table: Tensor,
    /// Multiplies the table's rows.
    pub scale: f32,
    /// The token whose row learns from the head alone.
    pub pad: usize,
    pub positions: Table,
    pub norm: Option<LayerNorm>,
}

impl Embedding {
    /// `[B, T, C]` of ids `[B, T]`, the first of which stands at `past`; the first `placed` of each row have positions.
    pub fn forward(
        &self,
        tape: &Tape,
        ids: &Tensor,
        past: Option<Position>,
        placed: usize,
    ) -> Result<Tensor> {
        let (positions, past) = self.positions.from(past)?;
        let lookup = Lookup {
            table: &self.table,
            positions: &positions,
            scale: self.scale,
            pad: self.pad,
            past,
            placed,
        };
        let x = embedding(tape, ids, lookup)?;
        match &self.norm {
            Some(norm) => norm.forward(tape, &x),
            None => Ok(x),
        }
    }
}
