//! Energy by phase from the counter's own increments: nothing is repeated and nothing is stopped.
//!
//! In interval `i` between two changes of the counter, `energy_i = sum_k power_k * time_ik + noise`, where the time
//! outside all phases is one more term, the rest. The powers are the non-negative least-squares solution.
//!
//! What a change that is seen late adds to one interval it takes from the next: such noise is a moving average, and
//! is made white by a filter over the intervals. Of a few filters the one that leaves least is taken.

mod filter;
mod least_squares;

use crate::error::{Error, Result};
use crate::units::{Joules, Seconds, Watts};
use filter::Filter;
use serde::{Deserialize, Serialize};
use std::mem;

/// Largest standard error of a resolved phase's power, as a share of the mean power.
const RESOLVED: f64 = 0.2;

/// Largest factor by which the other phases' times may inflate a resolved phase's variance.
const INFLATION: f64 = 1e9;

/// Standard errors above its power that a phase's power is not.
const SURE: f64 = 3.0;

/// What an interval owes the one before, from nothing, noise of the power itself, to nearly all.
const MEMORIES: [f64; 4] = [0.0, 0.5, 0.8, 0.95];

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
    /// False for a phase that is too short, or too alike to others in when it happens, to be distinguished.
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
    /// Seconds by column: the rest is the first, phase k is column k + 1.
    time: Vec<f64>,
    total: f64,
    count: usize,
    filters: [Filter; 4],
}

impl Equations {
    /// No interval yet, of `phases` phases.
    pub fn new(phases: usize) -> Self {
        let n = phases + 1;
        Equations { time: vec![0.0; n], total: 0.0, count: 0, filters: MEMORIES.map(|m| Filter::new(n, m)) }
    }

    pub fn phases(&self) -> usize {
        self.time.len() - 1
    }

    /// Makes room for phases that first happen now.
    pub fn grow(&mut self, phases: usize) {
        let n = (phases + 1).max(self.time.len());
        self.time.resize(n, 0.0);
        self.filters.iter_mut().for_each(|filter| filter.grow(n));
    }

    /// The interval that follows does not begin where the last one ended.
    pub fn cut(&mut self) {
        self.filters.iter_mut().for_each(Filter::cut);
    }

    pub fn add(&mut self, interval: &Interval) -> Result<()> {
        let (row, energy) = (self.row(interval)?, interval.energy.0);
        self.count += 1;
        self.total += energy;
        self.time.iter_mut().zip(&row).for_each(|(sum, time)| *sum += time);
        self.filters.iter_mut().for_each(|filter| filter.add(&row, energy));
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
        let freedom = (self.count - used.len()) as f64;
        let [plain, others @ ..] = &self.filters;
        let best = others.iter().fold(plain.solve(&used, freedom), |best, filter| {
            let next = filter.solve(&used, freedom);
            if next.variance < best.variance { next } else { best }
        });
        let mean_power = self.total / self.time.iter().sum::<f64>();
        let mut shares = vec![Share { resolved: true, ..Share::default() }; self.time.len()];
        for (power, &k) in best.powers.iter().zip(&used) {
            let (time, apart) = (self.time[k], power.inflation <= INFLATION);
            // Alone it would have to explain its intervals' whole energy.
            let alone = plain.alone(k).min(self.total / time);
            let likely = if apart { power.watts + SURE * power.deviation } else { alone };
            shares[k] = Share {
                power: Watts(power.watts),
                energy: Joules(power.watts * time),
                standard_error: Joules(power.deviation * time),
                time: Seconds(time),
                resolved: apart && power.deviation <= RESOLVED * mean_power,
                at_most: Joules(likely.min(alone).max(power.watts) * time),
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
}

#[cfg(test)]
mod tests;
