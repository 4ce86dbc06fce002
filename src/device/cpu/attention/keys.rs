//! From a pattern to tiles of keys.

use super::tile::SIDE;
use super::{Pattern, Sizes};

/// Up to [`SIDE`] keys that a tile of queries looks at together.
pub struct KeyTile {
    pub len: usize,
    /// Position of each key.
    pub position: [u32; SIDE],
    /// Added to the scores of each key: 0, the log of a multiplicity, or `-inf` to hide it.
    pub bias: [f32; SIDE],
    /// Whether the bias hides some key.
    pub hides: bool,
    /// Query `i` sees key `j` only where `band.0 <= j - i <= band.1`; `None` where all pairs are seen.
    pub band: Option<(isize, isize)>,
}

impl KeyTile {
    pub fn new() -> Self {
        KeyTile { len: 0, position: [0; SIDE], bias: [0.0; SIDE], hides: false, band: None }
    }

    /// Whether some of the queries `first .. last` may see some of the keys.
    pub fn meet(&self, (first, last): (usize, usize)) -> bool {
        let [low, high] = [self.position[0], self.position[self.len - 1]].map(|position| position as isize);
        self.band.is_none_or(|band| high - first as isize >= band.0 && low - (last as isize - 1) <= band.1)
    }
}

/// A run of keys that a tile of queries may see.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: usize,
    end: usize,
    bias: f32,
    accept: Accept,
}

/// Which states of a key let it in.
#[derive(Clone, Copy, Debug)]
enum Accept {
    Any,
    Visible,
    Local,
}

/// Walks the keys that the queries `first .. last` of one head see, tile by tile; not each of them sees each.
pub struct KeyTiles<'a> {
    pattern: &'a Pattern<'a>,
    sizes: Sizes,
    sample: usize,
    head: usize,
    first: usize,
    last: usize,
    /// The run that comes next: an index into the pattern's list.
    next_run: usize,
    run: Option<Run>,
}

impl<'a> KeyTiles<'a> {
    pub fn new(
        pattern: &'a Pattern<'a>,
        sizes: Sizes,
        sample: usize,
        head: usize,
        queries: (usize, usize),
    ) -> Self {
        KeyTiles { pattern, sizes, sample, head, first: queries.0, last: queries.1, next_run: 0, run: None }
    }

    /// Fills the next tile in which some key is visible; false at the end.
    pub fn next(&mut self, tile: &mut KeyTile) -> bool {
        loop {
            tile.len = 0;
            let banded = self.fill(tile);
            if tile.len == 0 {
                return false;
            }
            let hidden = tile.bias[..tile.len].iter().filter(|&&bias| bias == f32::NEG_INFINITY).count();
            if hidden == tile.len {
                continue;
            }
            tile.hides = hidden > 0;
            tile.band = banded.filter(|band| self.band_cuts(tile, *band));
            return true;
        }
    }

    /// Gathers keys of consecutive runs; the run with a band fills tiles of its own.
    fn fill(&mut self, tile: &mut KeyTile) -> Option<(isize, isize)> {
        while tile.len < SIDE {
            let Some(mut run) = self.run.take().or_else(|| self.advance()) else {
                break;
            };
            let band = self.band(&run);
            if band.is_some() && tile.len > 0 {
                self.run = Some(run);
                break;
            }
            let take = (run.end - run.start).min(SIDE - tile.len);
            for position in run.start..run.start + take {
                tile.position[tile.len] = position as u32;
                tile.bias[tile.len] = match self.accepts(&run, position) {
                    true => run.bias,
                    false => f32::NEG_INFINITY,
                };
                tile.len += 1;
            }
            run.start += take;
            if run.start < run.end {
                self.run = Some(run);
            }
            if band.is_some() {
                return band;
            }
        }
        None
    }

    fn accepts(&self, run: &Run, position: usize) -> bool {
        let state = |states: &[i32]| states[self.sample * self.sizes.s_capacity + position];
        match (run.accept, self.pattern) {
            (Accept::Any, _) => true,
            (Accept::Visible, Pattern::Dense { key_state, .. }) => {
                key_state.is_none_or(|states| state(states) != 0)
            }
            (Accept::Visible, Pattern::Window { key_state, .. } | Pattern::BlockSparse { key_state, .. }) => {
                state(key_state) != 0
            }
            (Accept::Local, Pattern::Window { key_state, .. }) => state(key_state) == 1,
            (Accept::Local, _) => false,
        }
    }

    /// The limits on `key - query` inside a run.
    fn band(&self, run: &Run) -> Option<(isize, isize)> {
        match (self.pattern, run.accept) {
            (Pattern::Dense { causal, .. }, _) => causal.map(|offset| (isize::MIN, offset as isize)),
            (Pattern::Window { window, .. }, Accept::Local) => Some((-(*window as isize), *window as isize)),
            _ => None,
        }
    }

    /// Whether some pair of the tile lies outside the band.
    fn band_cuts(&self, tile: &KeyTile, band: (isize, isize)) -> bool {
        let (low, high) = (tile.position[0] as isize, tile.position[tile.len - 1] as isize);
        high - self.first as isize > band.1 || low - (self.last as isize - 1) < band.0
    }

    /// The next run of the pattern's list that is not empty.
    fn advance(&mut self) -> Option<Run> {
        loop {
            let run = self.run_at(self.next_run)?;
            self.next_run += 1;
            if run.start < run.end {
                return Some(run);
            }
        }
    }

    fn run_at(&self, index: usize) -> Option<Run> {
        let (bias, s) = (0.0, self.sizes.s);
        match self.pattern {
            Pattern::Dense { causal, .. } => {
                let end = causal.map_or(s, |offset| s.min(self.last.saturating_add(offset)));
                let accept = Accept::Visible;
                (index == 0).then_some(Run { start: 0, end, bias, accept })
            }
            Pattern::Window { window, .. } if index == 0 => {
                // Where tiles begin does not depend on the first query.
                let start = self.first.saturating_sub(*window) / SIDE * SIDE;
                let end = s.min(self.last.saturating_add(*window));
                Some(Run { start, end, bias, accept: Accept::Local })
            }
            Pattern::Window { global_index, .. } => {
                let count = global_index.len() / self.sizes.b;
                let row = &global_index[self.sample * count..(self.sample + 1) * count];
                let start = usize::try_from(*row.get(index - 1)?).ok()?;
                Some(Run { start, end: start + 1, bias, accept: Accept::Any })
            }
            Pattern::BlockSparse { block, row_ptr, col, count, .. } => {
                let row = self.head * (s / block + 1) + self.first / block;
                let (from, to) = (row_ptr[row] as usize, row_ptr[row + 1] as usize);
                let at = from + index;
                (at < to).then(|| {
                    let start = col[at] as usize * block;
                    // A block with count zero is listed and hidden: ln 0 = -inf.
                    let bias = (count[at] as f32).ln();
                    Run { start, end: start + block, bias, accept: Accept::Visible }
                })
            }
        }
    }
}

impl Pattern<'_> {
    /// Whether query `i` takes part at all.
    pub(super) fn has_query(&self, sizes: &Sizes, b: usize, i: usize) -> bool {
        match self {
            Pattern::Dense { .. } => true,
            Pattern::Window { key_state, .. } => key_state[b * sizes.s_capacity + i] == 1,
            Pattern::BlockSparse { key_state, .. } => key_state[b * sizes.s_capacity + i] != 0,
        }
    }

    /// Panics where a table does not fit the sizes or names a key that is not there.
    pub(super) fn check(&self, sizes: &Sizes) {
        let Sizes { b, t, s, h, s_capacity, .. } = *sizes;
        match self {
            Pattern::Dense { key_state, .. } => {
                let fits = key_state.is_none_or(|states| states.len() == b * s_capacity);
                assert!(fits, "attention: key_state is not [B, rows of k]");
            }
            Pattern::Window { key_state, global_index, .. } => {
                assert_eq!(t, s, "attention: a window needs a query for every key");
                assert_eq!(key_state.len(), b * s_capacity, "attention: key_state is not [B, rows of k]");
                let inside = global_index.iter().all(|&g| g < s as i32);
                assert!(inside, "attention: a global position is not below {s}");
            }
            Pattern::BlockSparse { block, row_ptr, col, count, key_state } => {
                assert_eq!(t, s, "attention: a block table needs a query for every key");
                assert_eq!(key_state.len(), b * s_capacity, "attention: key_state is not [B, rows of k]");
                assert!(*block > 0 && s.is_multiple_of(*block), "attention: S is not in blocks of {block}");
                assert_eq!(
                    row_ptr.len(),
                    h * (s / block + 1),
                    "attention: row_ptr is not [H, S / block + 1]"
                );
                assert_eq!(col.len(), count.len(), "attention: col and count differ in length");
                let inside = |&c: &i32| c >= 0 && (c as usize) < s / block;
                assert!(col.iter().all(inside), "attention: a key block is not below {}", s / block);
            }
        }
    }
}
