//! What ranks do together with the memory of their devices.

use crate::shape::DType;
use std::ops::Range;

/// An exchange of elements that lie one behind the other on the device of every rank: of f32 ones, but for sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// Each of so many, of this type, becomes the sum over all ranks.
    Sum(usize, DType),
    /// Each of so many, of this type, becomes the sum over all ranks on the rank of this number; on the others they stay.
    Reduce(usize, DType, usize),
    /// So many become those of the first rank.
    Broadcast(usize),
    /// Those of the r-th range become those of rank r, for every rank.
    Gather(Vec<Range<usize>>),
}

impl Exchange {
    pub fn dtype(&self) -> DType {
        match self {
            Exchange::Sum(_, dtype) | Exchange::Reduce(_, dtype, _) => *dtype,
            Exchange::Broadcast(_) | Exchange::Gather(_) => DType::F32,
        }
    }

    /// Bytes that it reaches.
    pub(super) fn bytes(&self) -> usize {
        let elements = match self {
            Exchange::Sum(len, _) | Exchange::Reduce(len, ..) | Exchange::Broadcast(len) => *len,
            Exchange::Gather(parts) => parts.iter().map(|part| part.end).max().unwrap_or(0),
        };
        elements.saturating_mul(self.dtype().size())
    }

    /// What errors and the watchdog call it.
    pub fn name(&self) -> &'static str {
        match self {
            Exchange::Sum(..) | Exchange::Reduce(..) => "sum of gradients",
            Exchange::Broadcast(_) => "broadcast of weights",
            Exchange::Gather(_) => "gathering of weights",
        }
    }
}
