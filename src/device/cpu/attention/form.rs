//! What the operands of a tile's products are made of: floats, or pairs of bf16.
//!
//! A left operand has its depth along its rows, and a right one along its columns; a word of either holds the same values
//! of the depth.

use crate::device::cpu::pack::{PanelSource, pack_pairs, pack_panel, pair};
use crate::shape::Stored;
use half::bf16;

/// How a tile's operands are held. Widths of tiles are even.
pub trait Form {
    /// As q, k, v and the gradient of o are stored.
    type Stored: Stored;
    /// Values of the depth in a word.
    const VALUES: usize;

    /// Words that so many values of the depth take.
    fn words(depth: usize) -> usize {
        depth.div_ceil(Self::VALUES)
    }

    /// A row of a left operand.
    fn left(to: &mut [f32], row: &[Self::Stored]);

    /// The right operand whose columns are rows: `to[p * width + i]`, zeros beyond the rows that there are.
    fn transposed(to: &mut [f32], width: usize, rows: PanelSource<Self::Stored>);

    /// The right operand with the rows of a left one, `stride` words each, of which `d` values count; made in `room` where
    /// it is another one.
    fn right<'a>(left: &'a [f32], stride: usize, rows: usize, d: usize, room: &'a mut [f32]) -> &'a [f32];

    /// Rows of floats, one behind the other, as a left operand.
    fn left_of<'a>(values: &'a [f32], room: &'a mut [f32]) -> &'a [f32];

    /// Rows of `width` floats as a right operand.
    fn right_of<'a>(values: &'a [f32], width: usize, room: &'a mut [f32]) -> &'a [f32];
}

/// Values as they are computed with.
pub struct Floats;

impl Form for Floats {
    type Stored = f32;
    const VALUES: usize = 1;

    #[inline(always)]
    fn left(to: &mut [f32], row: &[f32]) {
        copy(to, row);
    }

    #[inline(always)]
    fn transposed(to: &mut [f32], width: usize, rows: PanelSource) {
        pack_panel(to, rows, 0, width);
    }

    #[inline(always)]
    fn right<'a>(left: &'a [f32], _: usize, _: usize, _: usize, _: &'a mut [f32]) -> &'a [f32] {
        left
    }

    #[inline(always)]
    fn left_of<'a>(values: &'a [f32], _: &'a mut [f32]) -> &'a [f32] {
        values
    }

    #[inline(always)]
    fn right_of<'a>(values: &'a [f32], _: usize, _: &'a mut [f32]) -> &'a [f32] {
        values
    }
}

/// Two values a word, the even one in its lower half; floats are rounded.
pub struct Pairs;

impl Form for Pairs {
    type Stored = bf16;
    const VALUES: usize = 2;

    #[inline(always)]
    fn left(to: &mut [f32], row: &[bf16]) {
        let to: &mut [bf16] = bytemuck::cast_slice_mut(&mut to[..Self::words(row.len())]);
        copy(to, row);
        to[row.len()..].fill(bf16::ZERO);
    }

    #[inline(always)]
    fn transposed(to: &mut [f32], width: usize, rows: PanelSource<bf16>) {
        pack_pairs(to, rows, 0, width);
    }

    #[inline(always)]
    fn right<'a>(left: &'a [f32], stride: usize, rows: usize, d: usize, room: &'a mut [f32]) -> &'a [f32] {
        let left: &[bf16] = bytemuck::cast_slice(left);
        let row = |i: usize| &left[i * 2 * stride..][..d];
        for (pair_of, to) in room.chunks_exact_mut(stride).take(rows.div_ceil(2)).enumerate() {
            let (even, to) = (row(2 * pair_of), &mut to[..d]);
            match 2 * pair_of + 1 < rows {
                true => {
                    let odd = row(2 * pair_of + 1);
                    for i in 0..d {
                        to[i] = pair(even[i], odd[i]);
                    }
                }
                false => to.iter_mut().zip(even).for_each(|(word, &x)| *word = pair(x, bf16::ZERO)),
            }
        }
        room
    }

    #[inline(always)]
    fn left_of<'a>(values: &'a [f32], room: &'a mut [f32]) -> &'a [f32] {
        let to: &mut [bf16] = bytemuck::cast_slice_mut(&mut room[..values.len() / 2]);
        to.iter_mut().zip(values).for_each(|(to, &x)| *to = bf16::narrow(x));
        room
    }

    #[inline(always)]
    fn right_of<'a>(values: &'a [f32], width: usize, room: &'a mut [f32]) -> &'a [f32] {
        for (to, rows) in room.chunks_exact_mut(width).zip(values.chunks(2 * width)) {
            let (even, odd) = rows.split_at(width);
            match odd.len() == width {
                true => {
                    for i in 0..width {
                        to[i] = pair(bf16::narrow(even[i]), bf16::narrow(odd[i]));
                    }
                }
                false => to.iter_mut().zip(even).for_each(|(to, &x)| *to = pair(bf16::narrow(x), bf16::ZERO)),
            }
        }
        room
    }
}

/// Rows are short: copies of known length spare a call to memcpy for each.
#[inline(always)]
fn copy<E: Copy>(to: &mut [E], from: &[E]) {
    match from.len() {
        32 => to[..32].copy_from_slice(&from[..32]),
        64 => to[..64].copy_from_slice(&from[..64]),
        128 => to[..128].copy_from_slice(&from[..128]),
        len => to[..len].copy_from_slice(from),
    }
}
