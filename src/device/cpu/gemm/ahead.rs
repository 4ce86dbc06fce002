//! What is packed next is fetched while panels are multiplied: packing alone would wait for memory, line after line.

use crate::device::cpu::microkernel::{LINE, prefetch};
use crate::device::cpu::pack::PanelSource;
use crate::shape::Stored;
use std::marker::PhantomData;

/// Lines that are fetched at once, at most: more of them fill the few misses that a core keeps open, and what the register
/// tile reads waits. Without it, products of 48 to 128 rows took 8 to 17 % longer.
const BURST: usize = 16;

/// Rows of memory, `bytes` of each `stride` bytes.
#[derive(Clone, Copy)]
pub struct Ahead<'a> {
    start: *const u8,
    stride: usize,
    bytes: usize,
    rows: usize,
    source: PhantomData<&'a [u8]>,
}

impl<'a> Ahead<'a> {
    pub const NOTHING: Ahead<'static> =
        Ahead { start: std::ptr::null(), stride: 0, bytes: 0, rows: 0, source: PhantomData };

    /// What panels of `width` numbers from `first` on are made of; nothing beyond the source, and of one without order.
    pub fn of<E: Stored>(source: &PanelSource<'a, E>, first: usize, width: usize) -> Self {
        let &PanelSource { data, across, along, depth, .. } = source;
        let width = width.min(source.width.saturating_sub(first));
        let (stride, values, rows) = match (across, along) {
            _ if width == 0 => return Ahead::NOTHING,
            (1, _) => (along, width, depth),
            (_, 1) => (across, depth, width),
            _ => return Ahead::NOTHING,
        };
        let size = size_of::<E>();
        let start = data[first * across..].as_ptr().cast();
        Ahead { start, stride: stride * size, bytes: values * size, rows, source: PhantomData }
    }

    /// Shares the lines out to so many steps.
    pub fn over(self, steps: usize) -> Steps<'a> {
        Steps { lines: self.lines(), each: self.count().div_ceil(steps.max(1)).min(BURST) }
    }

    /// About as many lines as these are.
    fn count(&self) -> usize {
        self.rows * self.bytes.div_ceil(LINE)
    }

    /// Addresses that lie in every line, but for a last one that a row has a few bytes of.
    fn lines(self) -> Lines<'a> {
        Lines { ahead: self, at: 0 }
    }
}

/// See [`Ahead::over`].
pub struct Steps<'a> {
    lines: Lines<'a>,
    each: usize,
}

impl Steps<'_> {
    /// Fetches the lines of the next step.
    #[inline(always)]
    pub fn fetch(&mut self) {
        for line in self.lines.by_ref().take(self.each) {
            prefetch(line);
        }
    }
}

/// See [`Ahead::lines`].
struct Lines<'a> {
    /// What is left, its first row as a whole.
    ahead: Ahead<'a>,
    /// Bytes of that row that are done.
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = *const u8;

    // Written out: iterators over rows and lines were calls, and took 2.5 % of a product.
    #[inline(always)]
    fn next(&mut self) -> Option<*const u8> {
        let Lines { ahead, at } = self;
        if ahead.rows == 0 {
            return None;
        }
        let line = ahead.start.wrapping_add(*at);
        *at += LINE;
        if *at >= ahead.bytes {
            (*at, ahead.rows) = (0, ahead.rows - 1);
            ahead.start = ahead.start.wrapping_add(ahead.stride);
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_what_panels_are_made_of_and_no_more() {
        let data = [0f32; 4096];
        let source = |across, along, width, depth| PanelSource { data: &data, across, along, width, depth };
        let offsets = |source: PanelSource, first, width| {
            let ahead = Ahead::of(&source, first, width);
            let offsets: Vec<usize> = ahead.lines().map(|at| at as usize - data.as_ptr() as usize).collect();
            assert_eq!(offsets.len(), ahead.count());
            offsets
        };
        // Numbers side by side: 20 of them, 80 bytes, from the eighth on, for each of two values of the depth.
        assert_eq!(offsets(source(1, 64, 28, 2), 8, 20), [32, 96, 288, 352]);
        // Values side by side, of the last two of five numbers where three are asked for.
        assert_eq!(offsets(source(100, 1, 5, 20), 3, 3), [1200, 1264, 1600, 1664]);
        assert!(offsets(source(100, 1, 5, 20), 5, 3).is_empty());
        assert!(offsets(source(100, 2, 5, 20), 0, 3).is_empty());
    }
}
