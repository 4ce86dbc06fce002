//! Energy by phase from the counter's own increments: nothing is repeated and nothing is stopped.
//!
//! In interval `i` between two changes of the counter, `energy_i = sum_k power_k * time_ik + noise`, where the time
//! outside all phases is one more term, the rest. The powers are the non-negative least-squares solution. Noise that
//! one interval owes to the next, as a change seen late makes it, is in the standard errors: autocovariance at lag 1.

mod least_squares;

use crate::error::{Error, Result};
use crate::units::{Joules, Seconds, Watts};
use least_squares::{Matrix, invert, non_negative};
use serde::{Deserialize, Serialize};
use std::mem;

/// Largest standard error of a resolved phase's power, as a share of the mean power.
const RESOLVED: f64 = 0.2;

/// Largest factor by which the other phases' times may inflate a resolved phase's variance.
const INFLATION: f64 = 1e6;

/// What the counter moved by between two of its changes, and where that time went; the rest is outside all phases.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    pub energy: Joules,
    pub time: Seconds,
    pub phases: Vec<Seconds>,
}

/// The part of one phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Mean power while in the phase.
    #[serde(rename = "power_w")]
    pub power: Watts,
    #[serde(rename = "energy_j")]
    pub energy: Joules,
    /// One standard deviation of `energy`.
    #[serde(rename = "standard_error_j")]
    pub standard_error: Joules,
    #[serde(rename = "time_s")]
    pub time: Seconds,
    /// False for a phase that is too short, or too alike to others in when it happens, to be told apart.
    pub resolved: bool,
    /// More than this it cannot have drawn, whether or not it is resolved.
    #[serde(rename = "at_most_j")]
    pub at_most: Joules,
}

/// All phases' parts of the energy in the intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    pub phases: Vec<Share>,
    pub rest: Share,
    /// By the counter.
    #[serde(rename = "total_j")]
    pub total: Joules,
    /// The total less the sum of all parts.
    #[serde(rename = "residual_j")]
    pub residual: Joules,
}

/// Divides the energy of `intervals`, each with the times of `phases` phases, in order.
///
/// Fails with fewer intervals than two more than there are unknown powers, and on values that no measurement gives.
pub fn attribute(intervals: &[Interval], phases: usize) -> Result<Attribution> {
    let mut equations = Equations::new(phases);
    intervals.iter().try_for_each(|interval| equations.add(interval))?;
    equations.solve()
}

/// The normal equations of all intervals so far: memory does not grow with the run.
#[derive(Debug, Clone)]
pub struct Equations {
    /// Sums over intervals, of which the rest is the first column and phase k is column k + 1.
    time: Vec<f64>,
    moment: Vec<f64>,
    gram: Matrix,
    /// The same between one interval and the next.
    lagged_moment: Vec<f64>,
    lagged_gram: Matrix,
    /// Of the energies: sum, squares, products of neighbours.
    total: f64,
    squares: f64,
    lagged_squares: f64,
    count: usize,
    last: Option<(Vec<f64>, f64)>,
}

impl Equations {
    /// No interval yet, of `phases` phases.
    pub fn new(phases: usize) -> Self {
        let n = phases + 1;
        Equations {
            time: vec![0.0; n],
            moment: vec![0.0; n],
            gram: Matrix::zeros(n),
            lagged_moment: vec![0.0; n],
            lagged_gram: Matrix::zeros(n),
            total: 0.0,
            squares: 0.0,
            lagged_squares: 0.0,
            count: 0,
            last: None,
        }
    }

    pub fn phases(&self) -> usize {
        self.time.len() - 1
    }

    /// Makes room for phases that first happen now.
    pub fn grow(&mut self, phases: usize) {
        let n = (phases + 1).max(self.time.len());
        for sums in [&mut self.time, &mut self.moment, &mut self.lagged_moment] {
            sums.resize(n, 0.0);
        }
        self.gram.grow(n);
        self.lagged_gram.grow(n);
        if let Some((row, _)) = &mut self.last {
            row.resize(n, 0.0);
        }
    }

    /// The interval that follows does not begin where the last one ended.
    pub fn cut(&mut self) {
        self.last = None;
    }

    pub fn add(&mut self, interval: &Interval) -> Result<()> {
        let (row, energy) = (self.row(interval)?, interval.energy.0);
        self.count += 1;
        self.total += energy;
        self.squares += energy * energy;
        for (i, &time) in row.iter().enumerate() {
            self.time[i] += time;
            self.moment[i] += time * energy;
        }
        self.gram.add_outer(&row, &row);
        if let Some((before, earlier)) = &self.last {
            self.lagged_squares += energy * earlier;
            self.lagged_gram.add_outer(before, &row);
            for (sum, (then, now)) in self.lagged_moment.iter_mut().zip(before.iter().zip(&row)) {
                *sum += then * energy + now * earlier;
            }
        }
        self.last = Some((row, energy));
        Ok(())
    }

    /// The times of one interval: rest first.
    fn row(&self, interval: &Interval) -> Result<Vec<f64>> {
        let refuse = |what: String| Err(Error::data(format!("interval {}", self.count + 1), what));
        let Interval { energy, time, phases } = interval;
        if phases.len() != self.phases() {
            return refuse(format!("it has the times of {} phases of {}", phases.len(), self.phases()));
        }
        let is_length = |seconds: &Seconds| seconds.0.is_finite() && seconds.0 >= 0.0;
        if !(energy.0.is_finite() && energy.0 >= 0.0 && is_length(time) && phases.iter().all(is_length)) {
            return refuse("an energy or a time is negative or not finite".into());
        }
        let inside: f64 = phases.iter().map(|phase| phase.0).sum();
        // Clocks are read one after the other: the sum may exceed the interval by what that takes.
        let rest = (time.0 - inside).max(0.0);
        Ok([rest].into_iter().chain(phases.iter().map(|phase| phase.0)).collect())
    }

    /// The powers that explain the intervals best.
    pub fn solve(&self) -> Result<Attribution> {
        let used: Vec<usize> = (0..self.time.len()).filter(|&k| self.time[k] > 0.0).collect();
        if self.count < used.len() + 2 {
            return Err(Error::data(
                "energy by phase",
                format!(
                    "{} intervals between changes of the counter, and {} phases need {}; run longer",
                    self.count,
                    used.len(),
                    used.len() + 2
                ),
            ));
        }
        // Columns of unit length, so that a short phase is as well conditioned as a long one.
        let length: Vec<f64> = used.iter().map(|&k| self.gram.at(k, k).sqrt()).collect();
        let gram = Matrix::from(used.len(), |i, j| self.gram.at(used[i], used[j]) / (length[i] * length[j]));
        let moment: Vec<f64> = used.iter().zip(&length).map(|(&k, length)| self.moment[k] / length).collect();
        let (solution, inverse) = (non_negative(&gram, &moment), invert(&gram));
        let mut power = vec![0.0; self.time.len()];
        for (i, &k) in used.iter().enumerate() {
            power[k] = solution[i] / length[i];
        }
        let [white, lagged] = self.covariances(&power, self.count - used.len());
        // The autocovariance between the inverses; both estimates of the variance are honest, the larger is kept.
        let middle = Matrix::from(used.len(), |i, j| {
            let both = self.lagged_gram.at(used[i], used[j]) + self.lagged_gram.at(used[j], used[i]);
            both / (length[i] * length[j])
        });
        let extra = inverse.times(&middle).times(&inverse);
        let mut shares = vec![Share { resolved: true, ..Share::default() }; self.time.len()];
        let mean_power = self.total / self.time.iter().sum::<f64>();
        for (i, &k) in used.iter().enumerate() {
            let time = self.time[k];
            let of_white = white * inverse.at(i, i);
            let variance = of_white.max(of_white + lagged * extra.at(i, i)).max(0.0);
            let deviation = variance.sqrt() / length[i];
            shares[k] = Share {
                power: Watts(power[k]),
                energy: Joules(power[k] * time),
                standard_error: Joules(deviation * time),
                time: Seconds(time),
                resolved: deviation <= RESOLVED * mean_power && inverse.at(i, i) <= INFLATION,
                // Alone it would have to explain its intervals' whole energy.
                at_most: Joules((moment[i] / length[i] * time).min(self.total)),
            };
        }
        let parts: f64 = shares.iter().map(|share| share.energy.0).sum();
        Ok(Attribution {
            rest: mem::take(&mut shares[0]),
            phases: shares.split_off(1),
            total: Joules(self.total),
            residual: Joules(self.total - parts),
        })
    }

    /// Variance of what `power` leaves unexplained, and its covariance from one interval to the next.
    fn covariances(&self, power: &[f64], freedom: usize) -> [f64; 2] {
        let dot = |sums: &[f64]| sums.iter().zip(power).map(|(sum, power)| sum * power).sum::<f64>();
        let white = self.squares - 2.0 * dot(&self.moment) + self.gram.quadratic(power);
        let lagged = self.lagged_squares - dot(&self.lagged_moment) + self.lagged_gram.quadratic(power);
        [white.max(0.0), lagged].map(|sum| sum / freedom as f64)
    }
}

#[cfg(test)]
mod tests;
