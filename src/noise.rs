//! Fixed pseudo-random values, the same on every machine: inputs of cases, of benchmarks and of tests.

/// A 64-bit mix of `x` (Steele et al. 2014, splitmix64).
pub fn mixed(x: u64) -> u64 {
    let mut z = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `n` values in [-1, 1), the same on every machine.
pub fn random(seed: u64, n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| (mixed(seed << 32 | (i + 1)) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}
