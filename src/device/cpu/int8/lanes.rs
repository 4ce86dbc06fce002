//! Sums of bytes in lanes (VNNI), one lane for each row of x: four values of a row of W are multiplied with those of 32
//! rows of x, and nothing is summed across lanes.

use super::block::Block;
use super::vnni::OFFSET;
use crate::device::cpu::gemm::tiles::{BLOCK, SIDE};
use std::arch::x86_64::*;

/// Values of k in a lane.
const VALUES: usize = 4;
/// Rows of W whose sums stay in registers.
const ROWS: usize = 8;

pub struct InLanes;

impl Block for InLanes {
    /// The uppermost bit of each byte: that adds [`OFFSET`], so that x has no sign, as the instruction's first factor.
    const FLIPPED: u32 = 0x8080_8080;

    #[inline(always)]
    unsafe fn new() -> Self {
        InLanes
    }

    #[inline(always)]
    unsafe fn excess(to: &mut [i32], w: &[i8]) {
        let k = w.len() / to.len();
        for (to, row) in to.iter_mut().zip(w.chunks_exact(k)) {
            *to = OFFSET * row.iter().map(|&w| i32::from(w)).sum::<i32>();
        }
    }

    // Indices, not iterators: the sums would leave their registers for one.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    unsafe fn multiply(&mut self, sums: &mut [f32], x: [&[f32]; 2], w: &[i8], excess: &[i32]) {
        let k = w.len() / BLOCK;
        assert!(w.len() == BLOCK * k && k.is_multiple_of(VALUES));
        assert!(sums.len() == BLOCK * BLOCK && excess.len() == BLOCK);
        assert!(x.iter().all(|column| column.len() == k / VALUES * SIDE));
        let x = x.map(<[f32]>::as_ptr);
        for first in (0..BLOCK).step_by(ROWS) {
            let w = w[first * k..].as_ptr();
            // SAFETY: the caller's contract; the assertions bound what is read and written.
            unsafe {
                let mut acc = [[_mm512_setzero_si512(); 2]; ROWS];
                for step in 0..k / VALUES {
                    let columns = x.map(|x| _mm512_loadu_si512(x.add(step * SIDE).cast()));
                    for i in 0..ROWS {
                        let values = w.add(i * k + step * VALUES).cast::<i32>().read_unaligned();
                        for half in 0..2 {
                            acc[i][half] =
                                _mm512_dpbusd_epi32(acc[i][half], columns[half], _mm512_set1_epi32(values));
                        }
                    }
                }
                for i in 0..ROWS {
                    let excess = _mm512_set1_epi32(excess[first + i]);
                    for half in 0..2 {
                        let to = sums[(first + i) * BLOCK + half * SIDE..].as_mut_ptr();
                        _mm512_storeu_si512(to.cast(), _mm512_sub_epi32(acc[i][half], excess));
                    }
                }
            }
        }
    }
}
