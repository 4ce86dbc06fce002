//! Comparisons that NaN fails, bounds from reduction lengths, and fixed pseudo-random values.

pub use wattention::noise::{mixed, random};

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

/// Fails unless every |got - want| is at most `tolerance(want)`; says how many fail and shows the worst.
#[track_caller]
fn assert_all(what: &str, got: &[f32], want: &[f64], tolerance: impl Fn(f64) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}: another number of elements");
    // An infinity is near itself alone, and NaN near nothing: `excess > 0.0` would be false for it.
    let excess = |i: usize| match got[i] as f64 == want[i] {
        true => 0.0,
        false => (got[i] as f64 - want[i]).abs() - tolerance(want[i]),
    };
    let near = |i: &usize| excess(*i) <= 0.0;
    let failing: Vec<usize> = (0..got.len()).filter(|i| !near(i)).collect();
    let worst = failing.iter().copied().reduce(|a, b| {
        let keep = excess(a).is_nan() || excess(a) >= excess(b);
        if keep { a } else { b }
    });
    if let Some(i) = worst {
        panic!(
            "{what}: {} of {} elements are too far from the truth; element {i} is {} and should be {} within {:.2e}",
            failing.len(),
            got.len(),
            got[i],
            want[i],
            tolerance(want[i])
        );
    }
}

/// Fails unless every |got - want| is at most `tolerance`.
#[track_caller]
pub fn assert_within(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_all(what, got, want, |_| tolerance);
}

/// Fails unless every |got - want| is at most `relative` of |want|, or of 1 where that is more.
#[cfg_attr(not(wattention_sim), allow(dead_code, reason = "the tests of the simulator compare so"))]
#[track_caller]
pub fn assert_near(what: &str, got: &[f32], want: &[f64], relative: f64) {
    assert_all(what, got, want, |want| relative * want.abs().max(1.0));
}

/// [`assert_within`] the bound of a reduction of `terms`, relative to the largest value wanted.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f64], terms: usize) {
    assert_within(what, got, want, bound(terms) * largest(want));
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

pub fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v as f64).collect()
}

#[test]
fn what_is_not_near_fails() {
    let fails =
        |got: f32, want: f64| std::panic::catch_unwind(|| assert_within("x", &[got], &[want], 0.1)).is_err();
    assert!(!fails(1.05, 1.0) && !fails(f32::INFINITY, f64::INFINITY));
    for (got, want) in [(1.2, 1.0), (f32::NAN, 1.0), (1.0, f64::NAN), (f32::NAN, f64::NAN)] {
        assert!(fails(got, want), "{got} for {want}");
    }
    for (got, want) in [(f32::INFINITY, 1.0), (1.0, f64::INFINITY), (f32::NEG_INFINITY, f64::INFINITY)] {
        assert!(fails(got, want), "{got} for {want}");
    }
}
