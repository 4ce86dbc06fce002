//! What ranks do together with the memory of their devices.

use std::ops::Range;

/// An exchange of f32 elements that lie one behind the other on the device of every rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// Each of so many becomes the sum over all ranks.
    Sum(usize),
    /// So many become those of the first rank.
    Broadcast(usize),
    /// Those of the r-th range become those of rank r, for every rank.
    Gather(Vec<Range<usize>>),
}

impl Exchange {
    /// Elements that it reaches.
    pub(super) fn elements(&self) -> usize {
        match self {
            Exchange::Sum(len) | Exchange::Broadcast(len) => *len,
            Exchange::Gather(parts) => parts.iter().map(|part| part.end).max().unwrap_or(0),
        }
    }

    /// What errors and the watchdog call it.
    pub fn name(&self) -> &'static str {
        match self {
            Exchange::Sum(_) => "sum of gradients",
            Exchange::Broadcast(_) => "broadcast of weights",
            Exchange::Gather(_) => "gathering of weights",
        }
    }
}
