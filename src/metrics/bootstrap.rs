//! How far a score is known: intervals by drawing the examples again, and over seeds.

use super::{Accumulator, Headline, Scores};
use crate::stats::in_quadrature;
use crate::units::decimals;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Times that the examples are drawn.
const RESAMPLES: usize = 1000;
/// Share of the draws outside of an interval, half on each side.
const OUTSIDE: f64 = 0.05;
/// No score is higher.
const MOST: f64 = 100.0;

/// Where a number lies with a confidence of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", decimals(self.low, 2), decimals(self.high, 2))
    }
}

impl Interval {
    pub fn overlaps(&self, other: &Interval) -> bool {
        // Written so that NaN overlaps everything: nothing is claimed of it.
        !(self.low > other.high || other.low > self.high)
    }

    pub fn contains(&self, value: f64) -> bool {
        !(value < self.low || value > self.high)
    }
}

/// The interval of `metric` over examples: percentiles of its value on examples drawn with replacement.
///
/// None of fewer than two examples. Where all examples score alike, the interval is a binomial bound. The same scores and
/// seed give the same interval.
pub fn interval(scores: &[Scores], metric: Headline, seed: u64) -> Option<Interval> {
    resampled(scores.len(), seed, [0.0, MOST], |drawn| value(drawn.iter().map(|&i| &scores[i]), metric))
}

/// The interval of the difference `b` - `a` of scores of the same examples, drawn together.
pub fn difference(a: &[Scores], b: &[Scores], metric: Headline, seed: u64) -> Option<Interval> {
    let n = a.len().min(b.len());
    resampled(n, seed, [-MOST, MOST], |drawn| {
        let of = |scores: &[Scores]| value(drawn.iter().map(|&i| &scores[i]), metric);
        of(b) - of(a)
    })
}

fn value<'a>(scores: impl Iterator<Item = &'a Scores>, metric: Headline) -> f64 {
    let mut mean = Accumulator::default();
    scores.for_each(|score| mean.add(score));
    mean.mean().map_or(f64::NAN, |scores| metric.of(&scores))
}

fn resampled(n: usize, seed: u64, range: [f64; 2], of: impl Fn(&[usize]) -> f64) -> Option<Interval> {
    if n < 2 {
        return None;
    }
    let mut rng = rand_mt::Mt64::new(seed);
    let mut values: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            // n is far below 2^64, so the modulus favours nothing that could be seen.
            let drawn: Vec<usize> = (0..n).map(|_| (rng.next_u64() % n as u64) as usize).collect();
            of(&drawn)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let outside = (RESAMPLES as f64 * OUTSIDE / 2.0) as usize;
    let found = Interval { low: values[outside], high: values[RESAMPLES - 1 - outside] };
    let is_finite = found.low.is_finite() && found.high.is_finite();
    is_finite.then(|| if found.low == found.high { all_alike(found.low, n, range) } else { found })
}

/// The interval of a mean of which `n` examples are all `value`, and others may be anything in `range`.
///
/// The bound of Clopper and Pearson 1934: the share of examples that are otherwise is at most 1 - 0.025^(1/n) with the
/// confidence of one side of the interval. Of answers that are all right, it is their exact binomial interval.
fn all_alike(value: f64, n: usize, [least, most]: [f64; 2]) -> Interval {
    let otherwise = 1.0 - (OUTSIDE / 2.0).powf(1.0 / n as f64);
    Interval { low: value - otherwise * (value - least), high: value + otherwise * (most - value) }
}

/// The 97.5 % quantiles of the normal distribution and of Student's t for 1 to 9 degrees of freedom.
const NORMAL: f64 = 1.96;
const STUDENT: [f64; 9] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];

/// The interval of the mean of runs that differ in their seed alone, each with its interval over examples.
///
/// Seeds vary by Student's t; the examples are the same for all of them, so what those vary does not average out.
pub fn over_seeds(runs: &[(f64, Interval)]) -> Option<Interval> {
    let n = runs.len() as f64;
    let mean = runs.iter().map(|(value, _)| value).sum::<f64>() / n;
    match runs {
        [] => None,
        [(_, one)] => Some(*one),
        many => {
            let variance = many.iter().map(|(value, _)| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let t = STUDENT.get(many.len() - 2).copied().unwrap_or(NORMAL);
            let seeds = t * (variance / n).sqrt();
            let side = |of: fn(&(f64, Interval)) -> f64| many.iter().map(of).sum::<f64>() / n;
            let below = side(|(value, interval)| value - interval.low);
            let above = side(|(value, interval)| interval.high - value);
            Some(Interval {
                low: mean - in_quadrature(seeds, below),
                high: mean + in_quadrature(seeds, above),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f1(values: &[f64]) -> Vec<Scores> {
        values.iter().map(|&f1| Scores { f1, ..Scores::default() }).collect()
    }

    #[test]
    fn the_interval_is_that_of_the_central_limit() {
        // 400 answers, half of them right: the mean is 50 and its standard error 100 * 0.5 / 20 = 2.5.
        let scores = f1(&[0.0, 100.0].repeat(200));
        let Interval { low, high } = interval(&scores, Headline::F1, 1).unwrap();
        assert!((low - 45.1).abs() < 0.7 && (high - 54.9).abs() < 0.7, "{low} to {high}");
        assert_eq!(interval(&scores, Headline::F1, 1), interval(&scores, Headline::F1, 1));
        assert_ne!(interval(&scores, Headline::F1, 1), interval(&scores, Headline::F1, 2));
    }

    #[test]
    fn one_example_has_no_interval_and_equal_ones_a_binomial_bound() {
        assert_eq!(interval(&f1(&[1.0]), Headline::F1, 1), None);
        assert_eq!(interval(&[], Headline::F1, 1), None);
        // Clopper and Pearson's intervals of 48 of 48 and of 0 of 48 (R's binom.test: 0.9260 to 1, 0 to 0.0740).
        let of = |score: f64, n: usize| interval(&f1(&vec![score; n]), Headline::F1, 1).unwrap();
        assert!((of(100.0, 48).low - 92.60).abs() < 0.01 && of(100.0, 48).high == 100.0);
        assert!((of(0.0, 48).high - 7.40).abs() < 0.01 && of(0.0, 48).low == 0.0);
        // Of 5 that score 3, at most 52.18 % of all examples score otherwise, from 0 to 100.
        let few = of(3.0, 5);
        assert!((few.low - 1.43).abs() < 0.01 && (few.high - 53.61).abs() < 0.01, "{few}");
        assert_eq!(interval(&f1(&[f64::NAN; 5]), Headline::F1, 1), None);
    }

    #[test]
    fn pairs_show_a_difference_that_single_intervals_hide() {
        let pair = |i: u32| (f64::from(i), f64::from(i) + if i.is_multiple_of(2) { 1.5 } else { 2.5 });
        let (a, b): (Vec<f64>, Vec<f64>) = (0..100).map(pair).unzip();
        let [a, b] = [f1(&a), f1(&b)];
        let [alone_a, alone_b] = [&a, &b].map(|scores| interval(scores, Headline::F1, 7).unwrap());
        assert!(alone_a.overlaps(&alone_b));
        let paired = difference(&a, &b, Headline::F1, 7).unwrap();
        // The mean difference is 2 and its standard error 0.5 / 10.
        assert!((paired.low - 1.90).abs() < 0.03 && (paired.high - 2.10).abs() < 0.03, "{paired}");
        // Where no pair differs, at most 3.62 % of all pairs do, by -100 to 100.
        let none = difference(&a, &a, Headline::F1, 7).unwrap();
        assert!((none.low + 3.62).abs() < 0.01 && (none.high - 3.62).abs() < 0.01, "{none}");
    }

    #[test]
    fn seeds_widen_an_interval_and_no_number_overlaps_all() {
        let run = |value: f64| (value, Interval { low: value - 1.0, high: value + 1.0 });
        // t of 2 degrees is 4.303; the standard deviation of 9, 10, 11 is 1.
        let wide = over_seeds(&[run(9.0), run(10.0), run(11.0)]).unwrap();
        let half = (4.303f64.powi(2) / 3.0 + 1.0).sqrt();
        assert!((wide.low - (10.0 - half)).abs() < 1e-9 && (wide.high - (10.0 + half)).abs() < 1e-9);
        assert_eq!(over_seeds(&[run(3.0)]), Some(Interval { low: 2.0, high: 4.0 }));
        assert_eq!(over_seeds(&[]), None);
        let nothing = Interval { low: f64::NAN, high: f64::NAN };
        assert!(nothing.overlaps(&wide) && wide.overlaps(&nothing));
    }
}
