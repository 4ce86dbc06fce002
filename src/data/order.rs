//! The order of training examples, a pure function of seed and epoch, so that a run resumes where it stopped.

use std::cmp::Reverse;

/// A permutation of `0..len`, the same on every machine (Fisher-Yates over SplitMix64).
pub fn order(seed: u64, epoch: u64, len: usize) -> Vec<usize> {
    let mut draws = Draws::new(mix(mix(seed) ^ epoch));
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        order.swap(last, draws.below(last as u64 + 1) as usize);
    }
    order
}

/// As [`order`], but steps of `batch` examples hold similar lengths, and the longest example comes first.
///
/// HF's rule for `group_by_length`: the shuffled examples are sorted, longest first, within runs of up to
/// 50 steps, of which there are at least four if the examples suffice.
pub fn order_by_length(seed: u64, epoch: u64, lengths: &[usize], batch: usize) -> Vec<usize> {
    let batch = batch.max(1);
    let mut order = order(seed, epoch, lengths.len());
    let run = (lengths.len() / (batch * 4)).clamp(1, 50) * batch;
    for examples in order.chunks_mut(run) {
        examples.sort_by_key(|&example| Reverse(lengths[example]));
    }
    // The earliest of equal runs.
    let longest = (0..order.len()).step_by(run).min_by_key(|&at| Reverse(lengths[order[at]]));
    if let Some(at) = longest {
        order.swap(0, at);
    }
    order
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection on 64 bits.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draw `i` is `mix` of a Weyl sequence at `i`: SplitMix64 addressed by counter.
pub(super) struct Draws {
    key: u64,
    counter: u64,
}

impl Draws {
    pub(super) fn new(key: u64) -> Self {
        Draws { key, counter: 0 }
    }

    /// Draws of their own for each list of numbers.
    pub(super) fn of(numbers: &[u64]) -> Self {
        Self::new(numbers.iter().fold(numbers.len() as u64, |key, number| mix(mix(key) ^ number)))
    }

    fn next(&mut self) -> u64 {
        let at = self.key.wrapping_add(self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.counter += 1;
        mix(at)
    }

    /// Uniform below `bound` without modulo bias (Lemire 2019).
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let reject_below = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.next()) * u128::from(bound);
            if wide as u64 >= reject_below {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Uniform in `[0, 1)`.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// `count` different numbers below `bound`, in the order drawn.
    pub(super) fn distinct(&mut self, bound: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..bound).collect();
        for at in 0..count {
            all.swap(at, at + self.below((bound - at) as u64) as usize);
        }
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_matches_its_published_sequence() {
        // The first outputs of the reference generator seeded with 1234567.
        let mut draws = Draws::new(1_234_567);
        assert_eq!(draws.next(), 6_457_827_717_110_365_317);
        assert_eq!(draws.next(), 3_203_168_211_198_807_973);
        assert_eq!(draws.next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn is_a_permutation_for_every_length() {
        for len in [0, 1, 2, 3, 17, 1257] {
            let mut sorted = order(42, 3, len);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn depends_on_seed_and_epoch_only() {
        assert_eq!(order(42, 0, 100), order(42, 0, 100));
        assert_ne!(order(42, 0, 100), order(42, 1, 100));
        assert_ne!(order(42, 0, 100), order(43, 0, 100));
        // Epoch 1 of seed 0 is not epoch 0 of seed 1.
        assert_ne!(order(0, 1, 100), order(1, 0, 100));
    }

    #[test]
    fn grouping_by_length_is_that_of_transformers() {
        // trainer_pt_utils.get_length_grouped_indices of transformers 5.17, its random permutation replaced by
        // `order(seed, epoch, n)`.
        let lengths: Vec<usize> = (0..30).map(|i| (i * 7919 + 13) % 23).collect();
        let want = [
            21, 7, 6, 9, 22, 8, 1, 24, 27, 4, 15, 28, 11, 20, 23, 0, 16, 25, 14, 26, 19, 12, 2, 5, 17, 10,
            13, 3, 29, 18,
        ];
        assert_eq!(order_by_length(42, 1, &lengths, 3), want);
        assert_eq!(order_by_length(7, 0, &lengths[..5], 4), [1, 4, 0, 2, 3]);
        let one_long = [5, 5, 5, 5, 5, 5, 5, 5, 5, 9];
        assert_eq!(order_by_length(1, 2, &one_long, 1), [9, 8, 7, 4, 6, 5, 1, 0, 3, 2]);
        assert_eq!(order_by_length(1, 2, &[], 1), [0usize; 0]);
    }

    #[test]
    fn every_arrangement_of_three_is_about_equally_likely() {
        let mut seen = std::collections::HashMap::new();
        for epoch in 0..6000 {
            *seen.entry(order(1, epoch, 3)).or_insert(0u32) += 1;
        }
        assert_eq!(seen.len(), 6);
        // Six cells of mean 1000 and standard deviation 29; five deviations.
        assert!(seen.values().all(|&n| (855..=1145).contains(&n)), "{seen:?}");
    }
}
