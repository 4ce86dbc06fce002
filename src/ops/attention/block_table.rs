//! A block table on a device, with the order in which kernels work through it.

use crate::device::Device;
use crate::error::Result;
use crate::shape::DType;
use crate::tensor::Tensor;

/// Entries of a list that one block of threads walks over. The first and the last query block of
/// BigBird list all n key blocks, others at most 8: whole, the two would outlast everything else.
const PART: usize = 16;

/// Lists of blocks, their inverse, and the work that both make.
#[derive(Clone)]
pub struct Blocks {
    /// From query blocks to key blocks.
    pub(super) keys: Lists,
    /// From key blocks to query blocks.
    pub(super) queries: Lists,
}

/// One list of (block, count) for each block of each head.
#[derive(Clone)]
pub(super) struct Lists {
    /// `[H * (n + 1)]`: where each head's lists begin and end.
    pub row_ptr: Tensor,
    pub col: Tensor,
    pub count: Tensor,
    /// `[items, 4]`, longest first: h n + block, the entries from and to, and the slot of a part or -1.
    pub work: Tensor,
    /// `[split lists, 3]`: h n + block, its first slot and how many it has.
    pub joins: Tensor,
    /// Parts of split lists.
    pub slots: usize,
}

impl Blocks {
    /// Uploads row_ptr, col and count of a table and of its inverse, to stay.
    pub fn new(device: &Device, heads: usize, table: [&[i32]; 3], inverse: [&[i32]; 3]) -> Result<Self> {
        let up = |values: &[i32]| -> Result<Tensor> {
            let tensor = Tensor::persistent(device, [values.len()], DType::I32)?;
            tensor.write(values)?;
            Ok(tensor)
        };
        Ok(Blocks { keys: Lists::new(heads, table, up)?, queries: Lists::new(heads, inverse, up)? })
    }

    /// The same for one step: a step that is recorded as a graph allocates nothing that outlives it.
    pub fn of_step(device: &Device, heads: usize, table: [&[i32]; 3], inverse: [&[i32]; 3]) -> Result<Self> {
        let up = |values: &[i32]| Tensor::upload(device, [values.len()], values);
        Ok(Blocks { keys: Lists::new(heads, table, up)?, queries: Lists::new(heads, inverse, up)? })
    }
}

impl Lists {
    fn new(
        heads: usize,
        [row_ptr, col, count]: [&[i32]; 3],
        up: impl Fn(&[i32]) -> Result<Tensor>,
    ) -> Result<Self> {
        let Schedule { work, joins } = schedule(row_ptr, heads);
        Ok(Lists {
            row_ptr: up(row_ptr)?,
            col: up(col)?,
            count: up(count)?,
            slots: joins.iter().map(|join| join[2] as usize).sum(),
            work: up(work.as_flattened())?,
            joins: up(joins.as_flattened())?,
        })
    }

    /// Of `work`.
    pub fn items(&self) -> usize {
        self.work.len() / 4
    }
}

struct Schedule {
    work: Vec<[i32; 4]>,
    joins: Vec<[i32; 3]>,
}

/// Cuts long lists into parts of nearly equal length and puts the longest items first.
fn schedule(row_ptr: &[i32], heads: usize) -> Schedule {
    let (mut work, mut joins): (Vec<[i32; 4]>, Vec<[i32; 3]>) = Default::default();
    let (mut row, mut slot) = (0, 0);
    for pointers in row_ptr.chunks(row_ptr.len() / heads.max(1)) {
        for ends in pointers.windows(2) {
            let (from, to) = (ends[0], ends[1]);
            let parts = ((to - from) as usize).div_ceil(PART).max(1) as i32;
            if parts == 1 {
                work.push([row, from, to, -1]);
            } else {
                joins.push([row, slot, parts]);
                let cut = |part: i32| from + (to - from) * part / parts;
                work.extend((0..parts).map(|part| [row, cut(part), cut(part + 1), slot + part]));
                slot += parts;
            }
            row += 1;
        }
    }
    work.sort_by_key(|[_, from, to, _]| from - to);
    Schedule { work, joins }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_worked_on_once_and_long_lists_in_parts() {
        // Two heads of lists of 3, 40 and no entries, and of none, 16 and 1.
        let row_ptr = [0, 3, 43, 43, 43, 59, 60];
        let Schedule { work, joins } = schedule(&[&row_ptr[..4], &row_ptr[3..]].concat(), 2);
        assert_eq!(joins, [[1, 0, 3]]);
        let lengths: Vec<i32> = work.iter().map(|item| item[2] - item[1]).collect();
        assert_eq!(lengths, [16, 14, 13, 13, 3, 1, 0, 0]);
        let mut entries: Vec<i32> = work.iter().flat_map(|item| item[1]..item[2]).collect();
        entries.sort_unstable();
        assert_eq!(entries, (0..60).collect::<Vec<_>>());
        for [row, from, to, slot] in work {
            assert!(row_ptr[row as usize] <= from && to <= row_ptr[row as usize + 1], "row {row}");
            assert_eq!(slot >= 0, row == 1);
        }
    }
}
