//! Order statistics of repeated measurements.

use serde::{Deserialize, Serialize};

/// A sample's median and spread, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    pub min_s: f64,
    pub p20_s: f64,
    pub median_s: f64,
    pub p80_s: f64,
    pub max_s: f64,
}

/// √(a² + b²), the half-width of the sum of two independent errors.
///
/// `f64::hypot` would bind the program to the C libraries of 2022 and later.
pub fn in_quadrature(a: f64, b: f64) -> f64 {
    (a * a + b * b).sqrt()
}

/// Quantiles of a sample, by linear interpolation; `None` for an empty one.
pub fn quantiles(seconds: &[f64]) -> Option<Quantiles> {
    let sorted = sorted(seconds);
    (!sorted.is_empty()).then(|| Quantiles {
        min_s: at(&sorted, 0.0),
        p20_s: at(&sorted, 0.2),
        median_s: at(&sorted, 0.5),
        p80_s: at(&sorted, 0.8),
        max_s: at(&sorted, 1.0),
    })
}

/// How many values lie further than 1.5 interquartile ranges outside of the quartiles (Tukey's fences), or nowhere.
pub fn outliers(values: &[f64]) -> usize {
    let mut finite = sorted(values);
    finite.retain(|value| value.is_finite());
    if finite.is_empty() {
        return values.len();
    }
    let (low, high) = (at(&finite, 0.25), at(&finite, 0.75));
    let reach = 1.5 * (high - low);
    let inside = |value: &&f64| (low - reach..=high + reach).contains(*value);
    values.len() - finite.iter().filter(inside).count()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Quantile `q` of values in ascending order, of which there are some.
fn at(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_between_neighbours() {
        let q = quantiles(&[4.0, 1.0, 3.0, 2.0, 5.0, 6.0]).unwrap();
        assert_eq!((q.min_s, q.median_s, q.max_s), (1.0, 3.5, 6.0));
        assert_eq!((q.p20_s, q.p80_s), (2.0, 5.0));
        assert_eq!(quantiles(&[7.0]).unwrap().p80_s, 7.0);
        assert!(quantiles(&[]).is_none());
    }

    #[test]
    fn what_lies_outside_the_fences_is_counted() {
        // Quartiles 2 and 4: the fences are at -1 and 7.
        assert_eq!(outliers(&[1.0, 2.0, 3.0, 4.0, 5.0]), 0);
        assert_eq!(outliers(&[1.0, 2.0, 3.0, 4.0, 7.5]), 1);
        assert_eq!(outliers(&[-1.5, 2.0, 3.0, 4.0, 7.5]), 2);
        assert_eq!(outliers(&[2.0, 2.0, 2.0, f64::NAN]), 1, "what is no number is no inlier");
        assert_eq!(outliers(&[]), 0);
    }
}
