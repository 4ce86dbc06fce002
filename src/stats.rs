//! Order statistics of repeated measurements.

use serde::Serialize;

/// A sample's median and spread, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    pub min_s: f64,
    pub p20_s: f64,
    pub median_s: f64,
    pub p80_s: f64,
    pub max_s: f64,
}

/// Quantiles of a sample, by linear interpolation; `None` for an empty one.
pub fn quantiles(seconds: &[f64]) -> Option<Quantiles> {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let place = q * (sorted.len() - 1) as f64;
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        sorted[low] + (sorted[high] - sorted[low]) * place.fract()
    };
    (!sorted.is_empty()).then(|| Quantiles {
        min_s: at(0.0),
        p20_s: at(0.2),
        median_s: at(0.5),
        p80_s: at(0.8),
        max_s: at(1.0),
    })
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
}
