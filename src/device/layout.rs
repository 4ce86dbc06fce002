//! Arena offsets from lifetimes: blocks whose lifetimes do not meet may share bytes.

use crate::error::{Error, Result};

/// Every block starts on a cache line, so vector loads never straddle one.
pub const ALIGNMENT: usize = 64;

/// Rounds `bytes` up to the arena's alignment.
pub fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// The places of one step's allocations, in allocation order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    slots: Vec<Slot>,
    peak: usize,
    live_peak: usize,
}

/// Where the n-th allocation of a step lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    pub offset: usize,
    /// The size asked for, before alignment.
    pub bytes: usize,
}

/// One allocation's size and its life in event time: allocated at `from`, released at `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    pub bytes: usize,
    pub from: usize,
    pub to: usize,
}

impl Layout {
    /// Places `intervals` greedily, largest first, each at the lowest gap left by those it meets
    /// (the offset-assignment heuristic of Pisarchyk and Lee 2020, arXiv 2001.03288).
    pub fn from_lifetimes(intervals: &[Interval]) -> Self {
        let mut order: Vec<usize> = (0..intervals.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(intervals[i].bytes), i));
        let mut slots = vec![Slot { offset: 0, bytes: 0 }; intervals.len()];
        // Kept sorted by offset so that one sweep finds the first gap.
        let mut placed: Vec<usize> = Vec::with_capacity(intervals.len());
        let mut peak = 0;
        for i in order {
            let this = intervals[i];
            let size = aligned(this.bytes);
            let mut offset = 0;
            for &other in &placed {
                let that = intervals[other];
                if that.from >= this.to || this.from >= that.to {
                    continue;
                }
                if slots[other].offset >= offset + size {
                    break;
                }
                offset = offset.max(slots[other].offset + aligned(that.bytes));
            }
            slots[i] = Slot { offset, bytes: this.bytes };
            peak = peak.max(offset + size);
            let at = placed.partition_point(|&p| slots[p].offset <= offset);
            placed.insert(at, i);
        }
        Layout { slots, peak, live_peak: live_peak(intervals) }
    }

    /// Where allocation `next` of `bytes` ends, or an error when another one was planned.
    pub(super) fn end_of(&self, next: usize, bytes: usize) -> Result<usize> {
        Ok(self.place(next, bytes)? + aligned(bytes))
    }

    /// Where allocation `next` of `bytes` begins, or an error when another one was planned.
    pub(super) fn place(&self, next: usize, bytes: usize) -> Result<usize> {
        match self.slots.get(next).filter(|slot| slot.bytes == bytes) {
            Some(slot) => Ok(slot.offset),
            None => Err(Error::internal(format!(
                "allocation {next} of {bytes} bytes is not the one that was planned"
            ))),
        }
    }

    /// The same allocations, no two of which share bytes.
    pub fn apart(&self) -> Self {
        let mut peak = 0;
        let place = |slot: &Slot| {
            let offset = peak;
            peak += aligned(slot.bytes);
            Slot { offset, bytes: slot.bytes }
        };
        let slots = self.slots.iter().map(place).collect();
        Layout { slots, peak, live_peak: self.live_peak }
    }

    /// Bytes of arena the step needs.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// The most bytes alive at once: no layout can need less.
    pub fn live_peak(&self) -> usize {
        self.live_peak
    }
}

fn live_peak(intervals: &[Interval]) -> usize {
    let mut events: Vec<(usize, bool, usize)> = Vec::with_capacity(2 * intervals.len());
    for interval in intervals {
        events.push((interval.from, true, aligned(interval.bytes)));
        events.push((interval.to, false, aligned(interval.bytes)));
    }
    events.sort_unstable();
    let (mut live, mut peak) = (0, 0);
    for (_, starts, bytes) in events {
        if starts {
            live += bytes;
            peak = peak.max(live);
        } else {
            live -= bytes;
        }
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(bytes: usize, from: usize, to: usize) -> Interval {
        Interval { bytes, from, to }
    }

    #[test]
    fn blocks_that_never_meet_share_bytes() {
        let layout = Layout::from_lifetimes(&[interval(100, 0, 1), interval(128, 2, 3)]);
        assert_eq!(layout.slots[0].offset, layout.slots[1].offset);
        assert_eq!(layout.peak(), 128);
    }

    #[test]
    fn apart_no_block_shares_bytes_and_none_is_lost() {
        let together = Layout::from_lifetimes(&[interval(100, 0, 1), interval(128, 2, 3), interval(1, 4, 5)]);
        let apart = together.apart();
        let places: Vec<_> = apart.slots.iter().map(|slot| (slot.offset, slot.bytes)).collect();
        assert_eq!(places, [(0, 100), (128, 128), (256, 1)]);
        assert_eq!((apart.peak(), apart.live_peak()), (320, together.live_peak()));
    }

    #[test]
    fn blocks_alive_together_are_disjoint() {
        // Deterministic pseudo-random lifetimes; every pair that meets must not overlap.
        let mut state = 7u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % bound) as usize
        };
        let intervals: Vec<_> = (0..200)
            .map(|i| {
                let from = i * 2;
                interval(1 + next(5000), from, from + 1 + next(40))
            })
            .collect();
        let layout = Layout::from_lifetimes(&intervals);
        for (i, a) in intervals.iter().enumerate() {
            for (j, b) in intervals.iter().enumerate().skip(i + 1) {
                if a.from < b.to && b.from < a.to {
                    let (x, y) = (layout.slots[i], layout.slots[j]);
                    assert!(
                        x.offset + a.bytes <= y.offset || y.offset + b.bytes <= x.offset,
                        "{i} and {j} overlap"
                    );
                }
            }
        }
        assert!(layout.peak() >= layout.live_peak());
        assert!(layout.peak() <= layout.live_peak() * 5 / 4, "fragmentation above a quarter");
    }
}
