//! Comparisons that NaN fails, bounds from reduction lengths, and fixed pseudo-random values.

/// Relative error that a reduction of `terms` f32 products may have.
///
/// n u / (1 - n u) bounds the sum (Higham 2002, section 3.1); 16 more for the functions around it.
pub fn bound(terms: usize) -> f64 {
    (terms + 16) as f64 * f32::EPSILON as f64
}

/// Largest magnitude, 0 of nothing.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, v| most.max(v.abs()))
}

/// Fails unless every |got - want| is at most `tolerance`; shows how many fail and the worst.
pub fn assert_within(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: another number of elements");
    let far = |(g, w): (&f32, &f64)| {
        let difference = (*g as f64 - w).abs();
        // `difference > tolerance` would be false for NaN.
        let near = difference <= tolerance;
        !near
    };
    let failing: Vec<usize> = (0..got.len()).filter(|&i| far((&got[i], &want[i]))).collect();
    let distance = |i: usize| (got[i] as f64 - want[i]).abs();
    let worst = failing.iter().copied().reduce(|a, b| {
        let keep = distance(a).is_nan() || distance(a) >= distance(b);
        if keep { a } else { b }
    });
    if let Some(i) = worst {
        panic!(
            "{what}: {} of {} elements are further than {tolerance:.2e} from the truth; \
             element {i} is {} and should be {}",
            failing.len(),
            got.len(),
            got[i],
            want[i]
        );
    }
}

/// [`assert_within`] the bound of a reduction of `terms`, relative to the largest value wanted.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], terms: usize) {
    assert_within(what, got, want, bound(terms) * largest(want));
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

pub fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v as f64).collect()
}

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
