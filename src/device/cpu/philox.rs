//! Philox4x32-10, the counter-based random numbers of dropout (Salmon et al. 2011, Random123).

use super::simd::multiversion;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
/// Counters computed side by side.
const LANES: usize = 16;
/// Words that they give.
const WORDS: usize = 4 * LANES;

/// One block: four words from a counter and a key.
#[inline(always)]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..ROUNDS {
        let (p0, p1) = (MULTIPLIERS[0] as u64 * c0 as u64, MULTIPLIERS[1] as u64 * c2 as u64);
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
    }
    [c0, c1, c2, c3]
}

/// A dropout mask over a tensor's elements, recomputed wherever it is needed.
///
/// Element `e` takes word `e % 4` of the block at counter `(e / 4, stream)`, both as low and high
/// words, under the key `seed`; it is kept where the word is at least `round(p 2^32)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    seed: u64,
    stream: u64,
    threshold: u32,
    scale: f32,
}

impl Mask {
    /// `p` is the probability of dropping, in `[0, 1)`.
    pub fn new(seed: u64, stream: u64, p: f32) -> Self {
        let threshold = (p as f64 * 2f64.powi(32)).round();
        Mask {
            seed,
            stream,
            // `as` saturates at the largest u32.
            threshold: threshold as u32,
            scale: (1.0 / (1.0 - p as f64)) as f32,
        }
    }

    /// That of a site, from its step's randomness: seed and step, low words first. Nothing is dropped without.
    pub fn of_site(randomness: &[i32], site: usize, p: f32) -> Self {
        let wide = |low: i32, high: i32| low as u32 as u64 | (high as u32 as u64) << 32;
        match *randomness {
            // Sites of a step are few; 2^16 of them leave 2^48 steps.
            [a, b, c, d] => Mask::new(wide(a, b), wide(c, d) << 16 | site as u64, p),
            _ => Mask::new(0, 0, 0.0),
        }
    }

    /// Whether nothing is ever dropped.
    pub fn is_off(&self) -> bool {
        self.threshold == 0
    }

    /// Drops and scales `x`, whose first element is element `first` of the tensor.
    pub fn apply(&self, x: &mut [f32], first: u64) {
        if !self.is_off() {
            apply(self, x, first);
        }
    }

    /// Writes the factors themselves: zero, or `1 / (1 - p)`.
    pub fn factors(&self, x: &mut [f32], first: u64) {
        x.fill(1.0);
        self.apply(x, first);
    }
}

/// The words of `LANES` consecutive blocks, in order.
#[inline(always)]
fn words(mask: &Mask, block: u64) -> [u32; WORDS] {
    let key = [mask.seed as u32, (mask.seed >> 32) as u32];
    let stream = [mask.stream as u32, (mask.stream >> 32) as u32];
    let mut blocks = [[0u32; LANES]; 4];
    for lane in 0..LANES {
        let count = block.wrapping_add(lane as u64);
        let counter = [count as u32, (count >> 32) as u32, stream[0], stream[1]];
        let words = philox4x32(counter, key);
        for (row, word) in blocks.iter_mut().zip(words) {
            row[lane] = word;
        }
    }
    std::array::from_fn(|i| blocks[i % 4][i / 4])
}

multiversion! {
    fn apply(mask: &Mask, x: &mut [f32], first: u64) {
        let (mut rest, mut element) = (x, first);
        while !rest.is_empty() {
            let words = words(mask, element / 4);
            let skip = (element % 4) as usize;
            let (now, later) = rest.split_at_mut(rest.len().min(WORDS - skip));
            for (x, &word) in now.iter_mut().zip(&words[skip..]) {
                *x = if word >= mask.threshold { *x * mask.scale } else { 0.0 };
            }
            element += now.len() as u64;
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::simd::on_every_level;

    /// The known answers that Random123 publishes for philox4x32 with ten rounds.
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn every_slice_of_the_mask_agrees_with_its_definition() {
        on_every_level(|| {
            let (seed, stream, p) = (0x1234_5678_9abc_def0u64, 0xfedc_ba98_7654_3210u64, 0.3f32);
            let mask = Mask::new(seed, stream, p);
            let threshold = (p as f64 * 4294967296.0).round() as u64;
            for first in [0u64, 1, 6, 63, (1 << 34) - 5] {
                for n in [0, 1, 3, 64, 65, 200] {
                    let mut x = vec![2.0f32; n];
                    mask.apply(&mut x, first);
                    for (i, &x) in x.iter().enumerate() {
                        let e = first + i as u64;
                        let counter =
                            [(e / 4) as u32, ((e / 4) >> 32) as u32, stream as u32, (stream >> 32) as u32];
                        let word = philox4x32(counter, [seed as u32, (seed >> 32) as u32])[(e % 4) as usize];
                        let want = if word as u64 >= threshold { 2.0 / 0.7 } else { 0.0 };
                        assert!((x - want).abs() <= 1e-6, "element {e}: {x} for {want}");
                    }
                }
            }
        });
    }

    #[test]
    fn the_share_kept_and_the_mean_are_right() {
        let mut x = vec![1.0f32; 1 << 18];
        Mask::new(7, 9, 0.1).apply(&mut x, 0);
        let kept = x.iter().filter(|&&v| v != 0.0).count() as f64 / x.len() as f64;
        assert!((kept - 0.9).abs() <= 0.003, "kept {kept}");
        let mean = x.iter().map(|&v| v as f64).sum::<f64>() / x.len() as f64;
        assert!((mean - 1.0).abs() <= 0.003, "mean {mean}");
        let mut y = [3.0f32; 5];
        Mask::new(7, 9, 0.0).apply(&mut y, 0);
        assert_eq!(y, [3.0; 5]);
    }
}
