//! Which part of the optimizer's state a rank has: all of it, or one shard of as many as there are ranks (ZeRO stage 1,
//! Rajbhandari et al. 2020, arXiv 1910.02054).

use crate::collective::{Backend, CommunicationType, Group, memory};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::shape::DType;
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// What ranks that train one model share, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sharing {
    /// 1 where each rank has a part of the optimizer's state.
    pub zero_stage: u8,
    pub communication_data_type: CommunicationType,
}

impl Sharing {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What a rank of `group` has on `device`.
    pub fn layout(self, device: &Device, group: &Group) -> RankLayout {
        let shard = match self.zero_stage {
            0 => Shard::ALL,
            _ => Shard { rank: group.rank(), size: group.size() },
        };
        RankLayout::of(shard, self.communication_data_type, device.backend(group), group.size())
    }
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ZeRO {}, exchanged in {}", self.zero_stage, self.communication_data_type)
    }
}

/// One of `size` shards of a slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    pub rank: usize,
    pub size: usize,
}

impl Shard {
    /// The whole slab.
    pub const ALL: Shard = Shard { rank: 0, size: 1 };

    /// By rank, the shards of a slab of `n` elements among `size` ranks.
    pub(super) fn ranges(size: usize, n: usize, step: usize) -> Result<Vec<Range<usize>>> {
        (0..size).map(|rank| Shard { rank, size }.range(n, step)).collect()
    }

    /// Its elements of a slab of `n`, at a multiple of `step`; the last shard may be shorter.
    pub(super) fn range(self, n: usize, step: usize) -> Result<Range<usize>> {
        let len = n.div_ceil(self.size).next_multiple_of(step);
        let range = (self.rank * len).min(n)..((self.rank + 1) * len).min(n);
        match range.is_empty() {
            true => Err(Error::usage(format!(
                "--zero-stage 1: a model of {n} parameters has no shard for each of {} ranks; give --zero-stage 0",
                self.size
            ))),
            false => Ok(range),
        }
    }
}

/// What a rank holds on its device that depends on the other ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankLayout {
    /// The part of the optimizer's state that is here.
    pub shard: Shard,
    /// The type of a copy of the gradients that GPUs exchange in their place; none where they exchange the gradients.
    pub exchanged: Option<DType>,
    /// Whether the sums of gradients go to the rank that updates with them, and to no other.
    pub reduces: bool,
    /// What NCCL takes for itself, about.
    pub nccl: usize,
}

impl RankLayout {
    /// Of one process.
    pub const ALONE: RankLayout = RankLayout { shard: Shard::ALL, exchanged: None, reduces: false, nccl: 0 };

    /// Of one of `size` ranks with a shard, which exchange gradients in this type over `backend`.
    pub fn of(shard: Shard, communication: CommunicationType, backend: Backend, size: usize) -> Self {
        match backend {
            Backend::Host => RankLayout { shard, ..Self::ALONE },
            Backend::Nccl => RankLayout {
                shard,
                exchanged: (communication == CommunicationType::Bf16).then_some(DType::BF16),
                reduces: shard.size > 1,
                nccl: memory::nccl(size).0 as usize,
            },
        }
    }

    /// By rank, the part of `elements` sums that it gets; nothing where all get all.
    pub(super) fn owners(self, elements: usize, step: usize) -> Result<Vec<Range<usize>>> {
        let size = if self.reduces { self.shard.size } else { 0 };
        Shard::ranges(size, elements, step)
    }

    /// Bytes of the copy of `elements` gradients.
    pub fn copied(self, elements: usize) -> usize {
        self.exchanged.map_or(0, |dtype| elements * dtype.size())
    }
}

/// The parts of `segments`, (first, length, decays) each, that lie in `range`, counted from its start.
pub(super) fn within(segments: &[i32], range: &Range<usize>) -> Vec<i32> {
    let mut found = Vec::new();
    for segment in segments.chunks(3) {
        let first = (segment[0] as usize).max(range.start);
        let end = (segment[0] as usize + segment[1] as usize).min(range.end);
        if first < end {
            found.extend([(first - range.start) as i32, (end - first) as i32, segment[2]]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_a_slab_once() {
        for (n, size) in [(64, 1), (64, 2), (72, 3), (8, 1), (1000, 7)] {
            let mut next = 0;
            for rank in 0..size {
                let range = Shard { rank, size }.range(n, 8).unwrap();
                assert_eq!(range.start, next);
                next = range.end;
            }
            assert_eq!(next, n);
        }
        assert_eq!(Shard { rank: 3, size: 4 }.range(24, 8).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn segments_are_cut_where_shards_are() {
        // Two parts, of which the second decays, with a gap between.
        let segments = [0, 5, 0, 8, 10, 1];
        assert_eq!(within(&segments, &(0..18)), segments);
        assert_eq!(within(&segments, &(0..10)), [0, 5, 0, 8, 2, 1]);
        assert_eq!(within(&segments, &(10..20)), [0, 8, 1]);
        assert_eq!(within(&segments, &(5..8)), [0i32; 0]);
    }
}
