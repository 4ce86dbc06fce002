use crate::case::{Case, inputs};
use crate::compare::mixed;
use crate::device::poisoned;
use crate::truth_attention::{Sizes, all_kept, attention};
use wattention::device::Device;
use wattention::error::{Error, Result};
use wattention::ops::attention::block_sparse_attention::{BlockSparse, Blocks, block_sparse_attention};
use wattention::shape::DType;
use wattention::tape::Tape;
use wattention::tensor::Tensor;

/// How often each query block sees each key block, `[H, n, n]`.
pub struct Counts {
    h: usize,
    n: usize,
    count: Vec<i32>,
}

impl Counts {
    /// Rows of zeros to threes; the last query block sees nothing.
    pub fn random(h: usize, n: usize) -> Self {
        let count = (0..h * n * n).map(|e| match n > 1 && e / n % n == n - 1 {
            true => 0,
            false => (mixed(e as u64 + 5) % 7 % 4) as i32,
        });
        let count = count.collect();
        Counts { h, n, count }
    }

    pub fn at(&self, h: usize, query: usize, key: usize) -> i32 {
        self.count[(h * self.n + query) * self.n + key]
    }

    /// row_ptr, col and count of the table, or of its transpose.
    fn table(&self, transposed: bool) -> [Vec<i32>; 3] {
        let [mut row_ptr, mut col, mut count] = [const { Vec::new() }; 3];
        for h in 0..self.h {
            row_ptr.push(col.len() as i32);
            for row in 0..self.n {
                for other in 0..self.n {
                    let times = match transposed {
                        true => self.at(h, other, row),
                        false => self.at(h, row, other),
                    };
                    if times > 0 {
                        col.push(other as i32);
                        count.push(times);
                    }
                }
                row_ptr.push(col.len() as i32);
            }
        }
        [row_ptr, col, count]
    }

    pub fn upload(&self, device: &Device) -> Result<Blocks> {
        let (table, inverse) = (self.table(false), self.table(true));
        Blocks::new(device, self.h, table.each_ref().map(|x| &x[..]), inverse.each_ref().map(|x| &x[..]))
    }
}

/// `real` is the number of unmasked tokens of each sample.
fn check(name: &str, real: &[usize], [n, block, h, d]: [usize; 4]) {
    let (b, s, c) = (real.len(), n * block, h * d);
    let counts = Counts::random(h, n);
    let state: Vec<i32> = (0..b * s).map(|e| (e % s < real[e / s]) as i32).collect();
    Case {
        name: format!("block_sparse_attention, {name}"),
        inputs: inputs(&[[b, s, c].into(); 3]),
        forward: &|tape, x| {
            let blocks = &counts.upload(x[0].device())?;
            let key_state = &Tensor::upload(x[0].device(), [b, s], &state)?;
            let pattern = BlockSparse { heads: h, block_size: block, blocks, key_state };
            Ok(vec![block_sparse_attention(tape, &x[0], &x[1], &x[2], pattern)?])
        },
        truth: &|x| {
            let times = |at: crate::truth_attention::Pair| {
                let visible = state[at.b * s + at.i] != 0 && state[at.b * s + at.j] != 0;
                let count = counts.at(at.h, at.i / block, at.j / block);
                visible as u8 as f64 * count as f64
            };
            let sizes = Sizes::square(b, s, h, d);
            vec![attention([&x[0], &x[1], &x[2]], sizes, &times, &all_kept)]
        },
        terms: 3 * s + d,
        cancelling: 0.0,
    }
    .check();
}

#[test]
pub fn gradients() {
    check("one block of one", &[1], [1, 1, 1, 1]);
    check("small blocks, padding", &[24, 15], [6, 4, 2, 5]);
    check("blocks of a tile", &[192], [3, 64, 1, 8]);
    // 80 is no multiple of a tile's 64 rows.
    check("blocks of 80", &[240, 100], [3, 80, 2, 4]);
    check("a fully masked sample", &[0, 20], [5, 4, 1, 3]);
    // Lists of more than 16 blocks.
    check("long lists", &[192, 90], [24, 8, 1, 4]);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let blocks = &Counts::random(2, 2).upload(&device).unwrap();
    let run = |s: usize, block_size: usize, heads: usize, states: usize| {
        let x = Tensor::persistent(&device, [1, s, 4], DType::F32).unwrap();
        let key_state = &Tensor::persistent(&device, [1, states], DType::I32).unwrap();
        let pattern = BlockSparse { heads, block_size, blocks, key_state };
        block_sparse_attention(&Tape::off(), &x, &x, &x, pattern)
    };
    assert!(run(6, 3, 2, 6).is_ok());
    // S not in blocks, more blocks than the table has, other heads, a short mask, no block size.
    for got in [run(7, 3, 2, 7), run(9, 3, 2, 9), run(6, 3, 1, 6), run(6, 3, 2, 5), run(6, 0, 2, 6)] {
        assert!(matches!(got, Err(Error::Shape { op: "block_sparse_attention", .. })));
    }
}
