//! What a window finds, and the sums that it is made from.

mod card;

use super::Sample;
use crate::disturbance::{Conditions, Gpu};
use crate::units::{Bytes, Joules, Seconds, Watts};
use card::Card;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Fewest updates of the counter in a window. Each end is off by less than one, so the energy by less than 10 %.
pub(super) const UPDATES: f64 = 10.0;

/// What a window found; absent is what there is no sensor for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    #[serde(rename = "time_s")]
    pub time: Seconds,
    /// By the counter; None where `note` says why.
    #[serde(rename = "energy_j")]
    pub energy: Option<Joules>,
    /// What the energy covers, or why there is none.
    pub note: String,
    /// The same by integrating sampled power, as a check of the counter.
    #[serde(rename = "integrated_j")]
    pub integrated: Option<Joules>,
    /// The largest sampled; without a power sensor, the largest mean between two looks at the counter.
    #[serde(rename = "peak_power_w")]
    pub peak_power: Option<Watts>,
    /// Mean share of the time in which any kernel ran.
    pub utilisation: Option<f64>,
    /// Mean and largest bytes in use on the device, whoever uses them.
    #[serde(rename = "memory_mean_bytes")]
    pub memory: Option<Bytes>,
    #[serde(rename = "memory_peak_bytes")]
    pub memory_peak: Option<Bytes>,
    #[serde(rename = "temperature_peak_c")]
    pub temperature_peak: Option<f64>,
    #[serde(rename = "clock_mean_mhz")]
    pub clock: Option<f64>,
    /// Share of the samples in which heat or a power limit held the clocks down.
    pub throttled: Option<f64>,
    /// The conditions on a GPU; absent on other devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// The same quantities as Ang et al. 2022 computed them.
    pub paper: Option<PaperReading>,
}

/// Ang et al. 2022 (arXiv 2204.07288) read wandb's system metrics: a sample every 2 s, the mean of 15 samples a row,
/// and the mean over the rows; energy is that power times the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PaperReading {
    #[serde(rename = "mean_power_w")]
    pub power: Watts,
    #[serde(rename = "energy_j")]
    pub energy: Joules,
    /// Shares, 0 to 1, of the time and of the device's memory.
    pub utilisation: Option<f64>,
    pub memory: Option<f64>,
}

impl Measurement {
    /// Mean power over the window.
    pub fn power(&self) -> Option<Watts> {
        self.energy.map(|energy| energy / self.time)
    }

    /// `conditions` with what the sensors said meanwhile.
    pub fn judge(&self, conditions: Conditions) -> Conditions {
        conditions.sensed(self.throttled.unwrap_or(0.0), self.gpu.as_ref())
    }
}

/// A running mean.
#[derive(Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += value;
            self.count += 1;
        }
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// What an open window has seen.
pub(super) struct Sums {
    last: Option<(Instant, Watts)>,
    integrated: Joules,
    /// The counter, where no power sensor makes the peak.
    counter: Option<(Instant, Joules)>,
    peak_power: Option<Watts>,
    utilisation: Mean,
    memory: Mean,
    memory_peak: Option<Bytes>,
    temperature_peak: Option<f64>,
    clock: Mean,
    throttled: Mean,
    card: Card,
    paper: Paper,
}

impl Sums {
    pub fn new(start: Instant) -> Self {
        Sums {
            last: None,
            integrated: Joules(0.0),
            counter: None,
            peak_power: None,
            utilisation: Mean::default(),
            memory: Mean::default(),
            memory_peak: None,
            temperature_peak: None,
            clock: Mean::default(),
            throttled: Mean::default(),
            card: Card::default(),
            paper: Paper { next: start, count: 0, rows: Default::default() },
        }
    }

    /// Takes in what the sensors say at `now`, and the counter, which moves every `period`.
    pub fn add(&mut self, now: Instant, sample: &Sample, counted: Option<Joules>, period: Seconds) {
        let sample = &alive(*sample);
        match sample.power {
            Some(power) => {
                if let Some((at, before)) = self.last {
                    let seconds = now.duration_since(at).as_secs_f64();
                    self.integrated += Joules((before.0 + power.0) / 2.0 * seconds);
                }
                self.last = Some((now, power));
                self.peak_power = largest(self.peak_power, Some(power));
            }
            None => self.count(now, counted, period),
        }
        self.utilisation.add(sample.utilisation);
        self.memory.add(sample.memory.map(|bytes| bytes.0 as f64));
        self.memory_peak = largest(self.memory_peak, sample.memory);
        self.temperature_peak = largest(self.temperature_peak, sample.temperature);
        self.clock.add(sample.clock_mhz);
        if *sample != Sample::default() {
            self.throttled.add(Some(f64::from(u8::from(sample.throttled))));
        }
        self.card.add(sample);
        self.paper.add(now, sample);
    }

    /// The mean power since the last look that lies long enough back.
    fn count(&mut self, now: Instant, counted: Option<Joules>, period: Seconds) {
        let Some(energy) = counted else { return };
        if let Some((at, before)) = self.counter {
            let time = Seconds::from(now.duration_since(at));
            if time.0 < UPDATES * period.0 || time.0 <= 0.0 {
                return;
            }
            // A counter that stands still, or is set back, says nothing of the power.
            if energy > before {
                self.peak_power = largest(self.peak_power, Some(Joules(energy.0 - before.0) / time));
            }
        }
        self.counter = Some((now, energy));
    }

    pub fn measurement(&self, time: Seconds) -> Measurement {
        Measurement {
            time,
            energy: None,
            note: String::new(),
            integrated: (self.integrated > Joules(0.0)).then_some(self.integrated),
            peak_power: self.peak_power,
            utilisation: self.utilisation.value(),
            memory: self.memory.value().map(|bytes| Bytes(bytes as u64)),
            memory_peak: self.memory_peak,
            temperature_peak: self.temperature_peak,
            clock: self.clock.value(),
            throttled: self.throttled.value(),
            gpu: self.card.conditions(self.clock.value()),
            paper: self.paper.reading(time),
        }
    }
}

/// What a sensor that works can say: no device draws nothing, has no memory, stands at no clock or at 0 °C.
fn alive(sample: Sample) -> Sample {
    let positive = |value: Option<f64>| value.filter(|value| *value > 0.0 && value.is_finite());
    let power = |power: Option<Watts>| positive(power.map(|power| power.0)).map(Watts);
    let has_memory = sample.memory_total.is_none_or(|total| total.0 > 0);
    Sample {
        power: power(sample.power),
        average_power: power(sample.average_power),
        utilisation: sample.utilisation.filter(|share| (0.0..=1.0).contains(share)),
        memory: sample.memory.filter(|_| has_memory),
        memory_total: sample.memory_total.filter(|_| has_memory),
        temperature: positive(sample.temperature),
        clock_mhz: positive(sample.clock_mhz),
        memory_clock_mhz: positive(sample.memory_clock_mhz),
        max_clock_mhz: positive(sample.max_clock_mhz),
        power_limit: power(sample.power_limit),
        default_power_limit: power(sample.default_power_limit),
        ..sample
    }
}

pub(super) fn largest<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
    // None is less than every value.
    if a > b { a } else { b }
}

/// Samples and rows as wandb 0.12 made them: of power, utilisation and memory.
struct Paper {
    next: Instant,
    /// Samples in the row that is being filled.
    count: u64,
    rows: [Rows; 3],
}

/// The mean of one quantity over the row that is being filled, and of the means over the rows that are full.
#[derive(Default)]
struct Rows {
    row: Mean,
    rows: Mean,
}

impl Rows {
    /// A run that ends within its first row has that row alone.
    fn value(&self) -> Option<f64> {
        self.rows.value().or(self.row.value())
    }
}

impl Paper {
    const BETWEEN: Duration = Duration::from_secs(2);
    const ROW: u64 = 15;

    fn add(&mut self, now: Instant, sample: &Sample) {
        if now < self.next {
            return;
        }
        // A sample that comes late does not bring a second one after it.
        while self.next <= now {
            self.next += Self::BETWEEN;
        }
        let power = sample.average_power.or(sample.power).map(|power| power.0);
        let memory = sample.memory.zip(sample.memory_total);
        let memory = memory.map(|(used, total)| used.0 as f64 / total.0 as f64);
        self.count += 1;
        for (rows, value) in self.rows.iter_mut().zip([power, sample.utilisation, memory]) {
            rows.row.add(value);
            if self.count == Self::ROW {
                rows.rows.add(std::mem::take(&mut rows.row).value());
            }
        }
        self.count %= Self::ROW;
    }

    fn reading(&self, time: Seconds) -> Option<PaperReading> {
        let [power, utilisation, memory] = self.rows.each_ref().map(Rows::value);
        let power = Watts(power?);
        Some(PaperReading { power, energy: Joules(power.0 * time.0), utilisation, memory })
    }
}

#[cfg(test)]
mod tests;
