//! What is packed next is fetched while panels are multiplied: packing alone would wait for memory, line after line.

use crate::device::cpu::microkernel::LINE;
use crate::device::cpu::pack::PanelSource;
use crate::shape::Stored;

/// Rows of memory, `bytes` of each `stride` bytes.
#[derive(Clone, Copy)]
pub struct Ahead<'a> {
    data: &'a [u8],
    stride: usize,
    bytes: usize,
    rows: usize,
}

impl<'a> Ahead<'a> {
    pub const NOTHING: Ahead<'static> = Ahead { data: &[], stride: 0, bytes: 0, rows: 0 };

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
        let data = bytemuck::cast_slice(&data[first * across..]);
        Ahead { data, stride: stride * size, bytes: values * size, rows }
    }

    /// About as many lines as these are.
    pub fn count(&self) -> usize {
        self.rows * self.bytes.div_ceil(LINE)
    }

    /// Addresses that lie in every line, but for a last one that a row has a few bytes of.
    #[inline(always)]
    pub fn lines(self) -> impl Iterator<Item = *const u8> {
        let Ahead { data, stride, bytes, rows } = self;
        let row = move |row: usize| (0..bytes).step_by(LINE).map(move |at| row * stride + at);
        (0..rows).flat_map(row).map(move |at| data.as_ptr().wrapping_add(at))
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
