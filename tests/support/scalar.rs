//! One number against another.

/// Fails unless |got - want| is at most `relative` of |want|; NaN is near nothing.
#[track_caller]
pub fn assert_near(got: f64, want: f64, relative: f64) {
    assert!((got - want).abs() <= relative * want.abs(), "{got}, not {want} within {relative}");
}
