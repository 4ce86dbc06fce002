//! A way to compute a product: it packs the operands into panels of 32-bit words and multiplies panels.

use super::block::Panels;
use super::left::Left;
use crate::device::cpu::caches;
use crate::device::cpu::pack::PanelSource;
use crate::shape::Stored;

/// Writes the panel of `width` rows of the left operand, or columns of the right one, from `first` on.
pub type Pack<E> = fn(panel: &mut [f32], source: PanelSource<E>, first: usize, width: usize);

/// One way: the size of its register tile, how operands are packed for it, and the code that multiplies panels.
pub struct Product<E> {
    pub name: &'static str,
    /// Rows and columns of the register tile.
    pub mr: usize,
    pub nr: usize,
    /// Values of k in a word.
    pub values: usize,
    /// Panels are padded with zeros to a multiple of so many words of k.
    pub multiple: usize,
    /// Words for the same values of k, one for each part that a value is split into.
    pub parts: usize,
    /// Words of k that are multiplied before C is written, at most.
    pub depth: usize,
    /// Words of B that a task packs for itself, at most: they stay in its second-level cache.
    pub right: usize,
    /// Whether `run` takes rows of A where they are stored.
    pub reads_stored: bool,
    /// Whether `run` stores to C itself where it can.
    pub direct: bool,
    pub pack_left: Pack<E>,
    pub pack_right: Pack<E>,
    /// Gives the sums of all panels of A with all panels of B, in tiles of `mr` rows and `nr` columns, one after the
    /// other down each column of tiles. Unsafe to call on a machine without the instructions.
    pub run: unsafe fn(Panels, &mut [f32]),
}

/// Words of k in a pass over C.
pub const PASS: usize = 1536;

/// Words of B for a task: beside them the second-level cache of a core holds the rows of A that pass, their sums, and what
/// the next task will pack.
pub fn right() -> usize {
    match caches::second_level() {
        ..0x20_0000 => 64 << 10,
        _ => 160 << 10,
    }
}

impl<E> Product<E> {
    /// Words that `k` values take.
    pub fn words(&self, k: usize) -> usize {
        k.div_ceil(self.values).next_multiple_of(self.multiple) * self.parts
    }

    /// Values of k that so many words hold.
    pub fn values_in(&self, words: usize) -> usize {
        words / self.parts * self.values
    }
}

impl<E: Stored> Product<E> {
    /// The rows of A as they are stored, where these make whole panels of the words that would be packed: packing reads
    /// and writes all of them, 2 to 10 % of the time that products of LED-base's layers take.
    pub fn stored_left<'a>(&self, source: &PanelSource<'a, E>) -> Option<Left<'a>> {
        let &PanelSource { data, across, along, width, depth } = source;
        let whole = width.is_multiple_of(self.mr) && depth.is_multiple_of(self.values);
        if !self.reads_stored || along != 1 || !across.is_multiple_of(self.values) || !whole {
            return None;
        }
        // Pairs that begin at an odd bf16 are no words.
        let words = bytemuck::try_cast_slice(&data[..(width - 1) * across + depth]).ok()?;
        Some(Left::Stored { words, stride: across / self.values })
    }
}
