//! Branch-free `exp`, `tanh` and `erf` for f32 that vectorise inside a loop.
//!
//! The polynomials are weighted minimax fits made for these functions (Lawson's iteration on a
//! Chebyshev basis); the error of each fit is below a quarter of an f32 rounding.

use super::simd::fma;

/// Adding 1.5 * 2^23 leaves the nearest integer in the low bits of an f32.
const ROUND: f32 = 12_582_912.0;
/// ln 2 split so that `n * LN2_HIGH` is exact for |n| < 2^9.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// Horner's rule, highest coefficient first.
#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for c in &coefficients[1..] {
        sum = fma::<FMA>(sum, x, *c);
    }
    sum
}

/// `x = n ln 2 + r`: returns `n` and `exp(r)`, |r| <= ln 2 / 2.
#[inline(always)]
fn exp_reduced<const FMA: bool>(x: f32) -> (i32, f32) {
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let n_float = shifted - ROUND;
    let r = fma::<FMA>(n_float, -LN2_HIGH, x);
    let r = fma::<FMA>(n_float, -LN2_LOW, r);
    let tail = polynomial::<FMA, 5>(r, [1.395_06e-3, 8.368_954e-3, 4.166_620_4e-2, 1.666_651_8e-1, 0.5]);
    (n, fma::<FMA>(tail, r * r, r) + 1.0)
}

/// 2^n for -127 < n < 128.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// `e^x` within 2 units in the last place over the full range, subnormal results included.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let (n, y) = exp_reduced::<FMA>(x);
    let half = n >> 1;
    y * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `e^x` for x <= 0 (the exponentials of a softmax); results below 2^-126 are zero.
#[inline(always)]
pub fn exp_nonpositive<const FMA: bool>(x: f32) -> f32 {
    let floored = if x < -87.0 { -87.0 } else { x };
    let (n, y) = exp_reduced::<FMA>(floored);
    let y = y * power_of_two(n);
    if x < -87.0 { 0.0 } else { y }
}

/// Hyperbolic tangent, within 2 units in the last place.
#[inline(always)]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let series = polynomial::<FMA, 5>(
        s,
        [-5.672_422e-3, 2.060_314_7e-2, -5.372_523e-2, 1.333_118_6e-1, -3.333_326_3e-1],
    );
    let small = fma::<FMA>(series, s * x, x);
    let t = if t > 10.0 { 10.0 } else { t };
    let large = (1.0 - 2.0 / (exp::<FMA>(2.0 * t) + 1.0)).copysign(x);
    if t < 0.625 { small } else { large }
}

/// Error function, within 1e-7 of the real value everywhere.
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let series = polynomial::<FMA, 6>(
        s,
        [-6.013_393e-4, 4.998_001e-3, -2.677_023e-2, 1.128_192_7e-1, -3.761_250_6e-1, 1.283_791_5e-1],
    );
    let small = fma::<FMA>(series, x, x);
    // erfc(t) = exp(t g(t)); from t = 4 on, erf rounds to one.
    let t = if t > 4.0 { 4.0 } else { t };
    let g = polynomial::<FMA, 7>(
        t,
        [
            -1.159_135_7e-5,
            3.263_468e-4,
            -3.656_598_3e-3,
            2.379_136_8e-2,
            -1.062_701_7e-1,
            -6.351_316_5e-1,
            -1.128_653_2,
        ],
    );
    let large = (1.0 - exp_nonpositive::<FMA>(t * g)).copysign(x);
    if t < 0.921_875 { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(low: f32, high: f32) -> impl Iterator<Item = f32> {
        let steps = 200_000;
        (0..=steps).map(move |i| low + (high - low) * (i as f32 / steps as f32))
    }

    /// Distance in units of the last place of `reference`, infinite for NaN.
    fn ulps(got: f32, reference: f64) -> f64 {
        let exponent = (reference.abs() as f32).max(f32::MIN_POSITIVE).log2().floor() as i32;
        let distance = (got as f64 - reference).abs() / 2f64.powi(exponent - 23);
        if distance.is_nan() { f64::INFINITY } else { distance }
    }

    fn both(
        f: impl Fn(f32) -> [f32; 2],
        bound: f64,
        reference: impl Fn(f64) -> f64,
        xs: impl Iterator<Item = f32>,
    ) {
        for x in xs {
            for got in f(x) {
                let distance = ulps(got, reference(x as f64));
                assert!(distance <= bound, "at {x}: {got}, {distance} ulp off");
            }
        }
    }

    #[test]
    fn exp_is_exact_to_two_ulp() {
        both(|x| [exp::<true>(x), exp::<false>(x)], 2.0, f64::exp, sweep(-103.9, 88.7));
        both(|x| [exp::<true>(x), exp::<false>(x)], 2.0, f64::exp, sweep(-1.0, 1.0));
        both(|x| [exp_nonpositive::<true>(x), exp_nonpositive::<false>(x)], 2.0, f64::exp, sweep(-87.0, 0.0));
    }

    #[test]
    fn exp_at_the_ends() {
        for f in [exp::<true>, exp::<false>] {
            assert_eq!(f(f32::NEG_INFINITY), 0.0);
            assert_eq!(f(-1e30), 0.0);
            assert_eq!(f(f32::INFINITY), f32::INFINITY);
            assert_eq!(f(88.8), f32::INFINITY);
            assert_eq!(f(0.0), 1.0);
            assert!(f(f32::NAN).is_nan());
        }
        for f in [exp_nonpositive::<true>, exp_nonpositive::<false>] {
            assert_eq!(f(f32::NEG_INFINITY), 0.0);
            assert_eq!(f(0.0), 1.0);
            assert!(f(f32::NAN).is_nan());
        }
    }

    #[test]
    fn tanh_is_exact_to_two_ulp() {
        both(|x| [tanh::<true>(x), tanh::<false>(x)], 2.5, f64::tanh, sweep(-12.0, 12.0));
        both(|x| [tanh::<true>(x), tanh::<false>(x)], 2.5, f64::tanh, sweep(-0.01, 0.01));
        assert_eq!(tanh::<true>(f32::INFINITY), 1.0);
        assert_eq!(tanh::<true>(f32::NEG_INFINITY), -1.0);
        assert!(tanh::<true>(f32::NAN).is_nan());
    }

    /// erf by its Maclaurin series in f64; the terms alternate, so it serves up to |x| = 3.
    fn erf_series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn erf_is_exact_to_f32_rounding() {
        for x in sweep(-3.0, 3.0) {
            for got in [erf::<true>(x), erf::<false>(x)] {
                let error = (got as f64 - erf_series(x as f64)).abs();
                assert!(error <= 1e-7, "at {x}: {got}, off by {error}");
            }
        }
        // erfc(3) = 2.2e-5 bounds what is left.
        for x in sweep(3.0, 50.0) {
            let got = erf::<true>(x);
            assert!((1.0 - 2.3e-5..=1.0).contains(&got), "at {x}: {got}");
            assert!(erf::<true>(-x) == -got);
        }
        assert_eq!(erf::<true>(f32::INFINITY), 1.0);
        assert!(erf::<true>(f32::NAN).is_nan());
    }
}
