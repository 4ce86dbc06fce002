//! Comparisons that NaN fails, bounds from reduction lengths, and fixed pseudo-random values.

pub use wattention::cases::{mixed, random};

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
