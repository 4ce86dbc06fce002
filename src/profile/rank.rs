//! Whether two samples differ in place, whatever their distributions: the rank-sum test of Mann and Whitney
//! 1947.

/// Samples this small, without ties, are compared with every order that they could have had.
const EXACT: usize = 40;

/// The probability that two samples of one distribution differ as much or more; none where one of them is
/// empty.
pub fn probability(a: &[f64], b: &[f64]) -> Option<f64> {
    let (n, m) = (a.len(), b.len());
    if n == 0 || m == 0 || a.iter().chain(b).any(|x| x.is_nan()) {
        return None;
    }
    let mut all: Vec<(f64, bool)> =
        a.iter().map(|&x| (x, true)).chain(b.iter().map(|&x| (x, false))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    // Equal values share the mean of their ranks.
    let (mut rank_sum, mut ties, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let same = all[at..].iter().take_while(|x| x.0 == all[at].0).count();
        let rank = at as f64 + (same as f64 + 1.0) / 2.0;
        rank_sum += rank * all[at..at + same].iter().filter(|x| x.1).count() as f64;
        ties += (same as f64).powi(3) - same as f64;
        at += same;
    }
    let (n_, m_) = (n as f64, m as f64);
    let u = rank_sum - n_ * (n_ + 1.0) / 2.0;
    let lower = u.min(n_ * m_ - u);
    if n + m <= EXACT && ties == 0.0 {
        return Some((2.0 * at_most(lower as usize, n, m)).min(1.0));
    }
    let total = n_ + m_;
    let variance = n_ * m_ / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return Some(1.0);
    }
    // A step of the statistic is 1, so half of one belongs to either side.
    let z = ((n_ * m_ / 2.0 - lower - 0.5) / variance.sqrt()).max(0.0);
    Some((2.0 * upper_tail(z)).min(1.0))
}

/// The share of all orders of `n` and `m` values whose statistic is at most `u`.
fn at_most(u: usize, n: usize, m: usize) -> f64 {
    // The orders by their statistic are the coefficients of prod (1 - q^(m+i)) / (1 - q^i), i from 1 to n.
    let mut orders = vec![0.0; n * m + 1];
    orders[0] = 1.0;
    for i in 1..=n {
        for at in (m + i..orders.len()).rev() {
            orders[at] -= orders[at - m - i];
        }
        for at in i..orders.len() {
            orders[at] += orders[at - i];
        }
    }
    orders[..=u.min(n * m)].iter().sum::<f64>() / orders.iter().sum::<f64>()
}

/// The share of a standard normal distribution above `z`, which is not negative.
fn upper_tail(z: f64) -> f64 {
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if z > 3.0 {
        // Laplace's continued fraction.
        return density / (1..80).rev().fold(z, |below, k| z + f64::from(k) / below);
    }
    let (mut term, mut sum) = (z, z);
    for k in 1..60 {
        term *= z * z / (2.0 * f64::from(k) + 1.0);
        sum += term;
    }
    0.5 - density * sum
}

/// Which of several probabilities are below `level` when all are looked at together (Holm 1979).
pub fn significant(probabilities: &[Option<f64>], level: f64) -> Vec<bool> {
    let mut order: Vec<(usize, f64)> =
        probabilities.iter().enumerate().filter_map(|(at, p)| Some((at, (*p)?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut found = vec![false; probabilities.len()];
    for (tested, &(at, p)) in order.iter().enumerate() {
        if p > level / (order.len() - tested) as f64 {
            break;
        }
        found[at] = true;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_near(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-6 * want, "{got} for {want}");
    }

    #[test]
    fn small_samples_are_compared_with_all_their_orders() {
        // 2 of the 20 orders of 3 and 3 are apart; 2 of the 252 of 5 and 5.
        assert_near(probability(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap(), 0.1);
        assert_near(
            probability(&[9.0, 8.0, 7.0, 6.0, 5.0], &[0.0, 1.0, 2.0, 3.0, 4.0]).unwrap(),
            2.0 / 252.0,
        );
        // U is 1: the two lowest statistics are one order each.
        assert_near(probability(&[1.0, 2.0, 4.0], &[3.0, 5.0, 6.0]).unwrap(), 0.2);
        assert_eq!(probability(&[], &[1.0]), None);
        assert_eq!(probability(&[f64::NAN], &[1.0]), None);
        assert_eq!(probability(&[1.0; 30], &[1.0; 30]), Some(1.0));
    }

    #[test]
    fn the_normal_tail_is_that_of_the_tables() {
        // Abramowitz and Stegun, table 26.1.
        for (z, tail) in [(0.0, 0.5), (1.0, 0.158655254), (1.96, 0.024997895), (3.09, 0.001000782)] {
            assert_near(upper_tail(z), tail);
        }
        assert!((upper_tail(3.0 - 1e-12) / upper_tail(3.0 + 1e-12) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn large_samples_agree_with_small_ones_where_they_meet() {
        let a: Vec<f64> = (0..20).map(|i| f64::from(i * 7 % 20)).collect();
        let b: Vec<f64> = (0..20).map(|i| f64::from(i * 3 % 20) + 4.5).collect();
        let exact = probability(&a, &b).unwrap();
        let [a, b] = [a, b].map(|mut x| {
            x.push(100.0 + x[0]);
            x
        });
        let approximate = probability(&a, &b).unwrap();
        assert!((exact - approximate).abs() < 0.02, "{exact} and {approximate}");
    }

    #[test]
    fn many_comparisons_need_more_evidence() {
        assert_eq!(significant(&[Some(0.03)], 0.05), [true]);
        let found = significant(&[Some(0.03), Some(0.001), None, Some(0.04)], 0.05);
        assert_eq!(found, [false, true, false, false]);
    }
}
