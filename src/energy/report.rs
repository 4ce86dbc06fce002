//! What a run cost: whole, by activity, per sample and per token; and the same as Ang et al. 2022 computed it.

mod text;

use super::activity::Activity;
use super::calibration::Calibration;
use super::measurement::{Measurement, PaperReading, UPDATES, largest};
use super::window::{moved, too_short};
use crate::trace::Pass;
use crate::units::{Bytes, Joules, Seconds, Watts};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use text::phase_table;

/// A run's energy, over all attempts where it was resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEnergy {
    /// What the energy covers, or why there is none.
    pub source: String,
    #[serde(flatten)]
    pub calibration: Calibration,
    /// Processes that worked on the run, what they did twice after a stop included.
    pub attempts: u32,
    pub whole: Measurement,
    /// Mean power of the whole.
    #[serde(rename = "mean_power_w", default)]
    pub mean_power: Option<Watts>,
    /// What the whole is the sum of: exactly in time and in what the counter moved by.
    pub windows: BTreeMap<Activity, Spent>,
}

/// What one activity took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    #[serde(rename = "time_s")]
    pub time: Seconds,
    /// None where `why` says why.
    #[serde(rename = "energy_j")]
    pub energy: Option<Joules>,
    #[serde(rename = "mean_power_w")]
    pub power: Option<Watts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the counter moved by meanwhile, even where that is too little to be this activity's energy.
    #[serde(rename = "counted_j")]
    pub counted: Joules,
    /// How often the activity was begun: each time the counter is off by less than a step at either end.
    pub visits: u32,
    /// Why the counter could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// What was worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub samples: u64,
    /// Padding not counted.
    pub tokens: u64,
}

/// What a unit of work cost in one activity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Efficiency {
    pub samples: u64,
    pub tokens: u64,
    pub samples_per_second: f64,
    pub samples_per_second_per_watt: Option<f64>,
    pub joules_per_sample: Option<f64>,
    pub joules_per_token: Option<f64>,
}

/// The quantities of Ang et al. 2022: the mean power of all of the process, loading and evaluating included, times the
/// runtime that HF's trainer reports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PaperEfficiency {
    pub mean_power_w: Watts,
    /// Training with its evaluations and checkpoints, or predicting with its scoring.
    pub runtime_s: Seconds,
    pub energy_j: Joules,
    pub samples_per_second: f64,
    pub samples_per_second_per_watt: f64,
    /// Shares, 0 to 1, of the time and of the device's memory.
    pub gpu_utilisation: Option<f64>,
    pub gpu_memory: Option<f64>,
}

/// Energy of one phase of the steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseEnergy {
    pub phase: String,
    /// Absent for the time outside all phases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<Pass>,
    #[serde(flatten)]
    pub share: super::Share,
}

impl RunEnergy {
    /// `sampled` is what the sensors said over the whole.
    pub(super) fn new(
        source: String,
        calibration: Calibration,
        windows: BTreeMap<Activity, Spent>,
        sampled: Measurement,
    ) -> Self {
        let mut run =
            RunEnergy { source, calibration, attempts: 1, whole: sampled, mean_power: None, windows };
        run.settle();
        run
    }

    /// Decides which energies are known.
    pub(super) fn settle(&mut self) {
        let mut all = Spent { visits: self.attempts, ..Spent::default() };
        for spent in self.windows.values_mut() {
            spent.settle(self.calibration.update_period);
            all.time += spent.time;
            all.counted += spent.counted;
            all.lost = all.lost.or(spent.lost.clone());
        }
        all.settle(self.calibration.update_period);
        self.whole.note = all.why.unwrap_or_else(|| self.source.clone());
        (self.whole.time, self.whole.energy) = (all.time, all.energy);
        self.mean_power = self.whole.power();
    }

    /// The energy of `activity`, or why it is not known.
    pub fn energy(&self, activity: Activity) -> Result<Joules, String> {
        let Some(spent) = self.windows.get(&activity) else { return Err("it did not happen".into()) };
        spent.energy.ok_or_else(|| spent.why.clone().unwrap_or_default())
    }

    /// What several activities took together.
    pub fn together(&self, activities: &[Activity]) -> Spent {
        let mut all = Spent::default();
        activities.iter().filter_map(|activity| self.windows.get(activity)).for_each(|spent| all.add(spent));
        all.settle(self.calibration.update_period);
        all
    }

    /// The same without any energy, for which `why` says why.
    pub fn without(mut self, why: &str) -> Self {
        self.windows.values_mut().for_each(|spent| spent.lost = Some(why.into()));
        self.settle();
        self
    }

    /// What `work`, which was done in `activity`, cost.
    pub fn efficiency(&self, activity: Activity, work: Work) -> Efficiency {
        let Work { samples, tokens } = work;
        let energy = self.energy(activity).ok();
        let each = |n: u64| energy.filter(|_| n > 0).map(|energy| energy.0 / n as f64);
        Efficiency {
            samples,
            tokens,
            samples_per_second: samples as f64 / self.time(activity).0,
            samples_per_second_per_watt: energy.map(|energy| samples as f64 / energy.0),
            joules_per_sample: each(samples),
            joules_per_token: each(tokens),
        }
    }

    pub fn time(&self, activity: Activity) -> Seconds {
        self.windows.get(&activity).map_or(Seconds(0.0), |spent| spent.time)
    }

    /// As the paper would have it: `samples` in `runtime`; None without a power sensor.
    pub fn paper(&self, samples: u64, runtime: Seconds) -> Option<PaperEfficiency> {
        let PaperReading { power, utilisation, memory, .. } = self.whole.paper?;
        let speed = samples as f64 / runtime.0;
        Some(PaperEfficiency {
            mean_power_w: power,
            runtime_s: runtime,
            energy_j: Joules(power.0 * runtime.0),
            samples_per_second: speed,
            samples_per_second_per_watt: speed / power.0,
            gpu_utilisation: utilisation,
            gpu_memory: memory,
        })
    }

    /// This attempt after `earlier` ones.
    pub fn after(mut self, earlier: &RunEnergy) -> Self {
        let times = [earlier.whole.time, self.whole.time];
        self.attempts += earlier.attempts;
        if self.source != earlier.source {
            self.source = format!("{}; before that, {}", self.source, earlier.source);
        }
        let slower = earlier.calibration.update_period > self.calibration.update_period;
        if slower {
            self.calibration = earlier.calibration;
        }
        for (activity, spent) in &earlier.windows {
            self.windows.entry(*activity).or_default().add(spent);
        }
        self.whole = joined(&earlier.whole, &self.whole, times);
        self.settle();
        self
    }
}

impl Spent {
    fn add(&mut self, other: &Spent) {
        self.time += other.time;
        self.counted += other.counted;
        self.visits += other.visits;
        self.lost = self.lost.take().or(other.lost.clone());
    }

    /// The energy, unless the ends of the visits, each off by some part of `period`, are too much of it.
    fn settle(&mut self, period: Seconds) {
        // Ends fall anywhere between two changes: their errors add up as those of independent visits do.
        let least = Seconds(UPDATES * period.0 * f64::from(self.visits).sqrt());
        let known = match &self.lost {
            Some(lost) => Err(lost.clone()),
            None if self.time < least => Err(too_short(self.time, least)),
            None => moved(self.counted, self.time),
        };
        self.energy = known.as_ref().ok().copied();
        self.power = self.energy.map(|energy| energy / self.time);
        self.why = known.err();
    }
}

/// What the sensors said in two stretches of `times`: sums, largest values, and means over the time.
fn joined(a: &Measurement, b: &Measurement, times: [Seconds; 2]) -> Measurement {
    let mean = |a: f64, b: f64| (a * times[0].0 + b * times[1].0) / (times[0].0 + times[1].0);
    let both = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| mean(a, b));
    let bytes = |memory: Option<Bytes>| memory.map(|bytes| bytes.0 as f64);
    let paper = a.paper.zip(b.paper).map(|(a, b)| PaperReading {
        power: Watts(mean(a.power.0, b.power.0)),
        energy: a.energy + b.energy,
        utilisation: both(a.utilisation, b.utilisation),
        memory: both(a.memory, b.memory),
    });
    Measurement {
        time: times[0] + times[1],
        energy: None,
        note: String::new(),
        integrated: a.integrated.zip(b.integrated).map(|(a, b)| a + b),
        peak_power: largest(a.peak_power, b.peak_power),
        utilisation: both(a.utilisation, b.utilisation),
        memory: both(bytes(a.memory), bytes(b.memory)).map(|bytes| Bytes(bytes as u64)),
        memory_peak: largest(a.memory_peak, b.memory_peak),
        temperature_peak: largest(a.temperature_peak, b.temperature_peak),
        clock: both(a.clock, b.clock),
        throttled: both(a.throttled, b.throttled),
        gpu: a.gpu.as_ref().zip(b.gpu.as_ref()).map(|(a, b)| a.and(b)).or(a.gpu.clone()).or(b.gpu.clone()),
        paper,
    }
}

#[cfg(test)]
mod tests;
