//! A stretch of time, the energy spent in it and what the sensors said meanwhile.

use super::Sample;
use super::sampler::{Sampler, Shared, lock};
use crate::error::Result;
use crate::units::{Bytes, Joules, Seconds, Watts};
use serde::Serialize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Fewest updates of the counter in a window. Each end is off by less than one, so the energy by less than 10 %.
const UPDATES: f64 = 10.0;

/// What a window found; absent is what there is no sensor for.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
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
    pub throttled: f64,
    /// The same quantities as Ang et al. 2022 computed them.
    pub paper: Option<PaperReading>,
}

/// Ang et al. 2022 (arXiv 2204.07288) read wandb's system metrics: a sample every 2 s, the mean of 15 samples a row,
/// and the mean over the rows; energy is that power times the time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PaperReading {
    #[serde(rename = "mean_power_w")]
    pub power: Watts,
    #[serde(rename = "energy_j")]
    pub energy: Joules,
}

impl Measurement {
    /// Mean power over the window.
    pub fn power(&self) -> Option<Watts> {
        self.energy.map(|energy| energy / self.time)
    }
}

/// An open window. Windows on one sampler may overlap.
pub struct Window {
    shared: Arc<Mutex<Shared>>,
    number: u64,
    start: Instant,
    before: Result<Joules>,
}

impl Window {
    /// Opens a window; a counter that cannot be read leaves the time.
    pub fn start(sampler: &Sampler) -> Self {
        let shared = sampler.shared();
        let (number, before) = lock(&shared).open();
        Window { shared, number, start: Instant::now(), before }
    }

    pub fn stop(self) -> Measurement {
        let time = Seconds::from(self.start.elapsed());
        let (after, name, period, sums) = lock(&self.shared).close(self.number);
        let (energy, note) = match spent(self.before, after, period, time) {
            Ok(energy) => (Some(energy), name),
            Err(why) => (None, why),
        };
        let sampled = sums.map_or_else(Measurement::default, |sums| sums.measurement(time));
        Measurement { time, energy, note, ..sampled }
    }
}

/// The energy between two readings, or why it is not known.
fn spent(
    before: Result<Joules>,
    after: Result<Joules>,
    period: Seconds,
    time: Seconds,
) -> Result<Joules, String> {
    let before = before.map_err(|e| e.to_string())?;
    let after = after.map_err(|e| e.to_string())?;
    let least = Seconds(UPDATES * period.0);
    if time < least {
        return Err(format!(
            "too short to measure: {time}, and this counter needs {least}; repeat the work within one window"
        ));
    }
    let energy = Joules(after.0 - before.0);
    match energy > Joules(0.0) {
        true => Ok(energy),
        false => Err(format!("the counter did not move in {time}")),
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
    peak_power: Option<Watts>,
    utilisation: Mean,
    memory: Mean,
    memory_peak: Option<Bytes>,
    temperature_peak: Option<f64>,
    clock: Mean,
    samples: u64,
    throttled: u64,
    paper: Paper,
}

impl Sums {
    pub fn new(start: Instant) -> Self {
        Sums {
            last: None,
            integrated: Joules(0.0),
            peak_power: None,
            utilisation: Mean::default(),
            memory: Mean::default(),
            memory_peak: None,
            temperature_peak: None,
            clock: Mean::default(),
            samples: 0,
            throttled: 0,
            paper: Paper { next: start, row: Mean::default(), rows: Mean::default() },
        }
    }

    pub fn add(&mut self, now: Instant, sample: &Sample) {
        if let Some(power) = sample.power {
            if let Some((at, before)) = self.last {
                let seconds = now.duration_since(at).as_secs_f64();
                self.integrated += Joules((before.0 + power.0) / 2.0 * seconds);
            }
            self.last = Some((now, power));
            self.peak_power =
                Some(self.peak_power.map_or(power, |peak| if power > peak { power } else { peak }));
        }
        self.utilisation.add(sample.utilisation);
        self.memory.add(sample.memory.map(|bytes| bytes.0 as f64));
        self.memory_peak = largest(self.memory_peak, sample.memory);
        self.temperature_peak = largest(self.temperature_peak, sample.temperature);
        self.clock.add(sample.clock_mhz);
        self.samples += 1;
        self.throttled += u64::from(sample.throttled);
        self.paper.add(now, sample.average_power.or(sample.power));
    }

    fn measurement(&self, time: Seconds) -> Measurement {
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
            throttled: self.throttled as f64 / self.samples.max(1) as f64,
            paper: self.paper.reading(time),
        }
    }
}

fn largest<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
    // None is less than every value.
    if a > b { a } else { b }
}

/// Samples and rows as wandb 0.12 made them.
struct Paper {
    next: Instant,
    row: Mean,
    rows: Mean,
}

impl Paper {
    const BETWEEN: Duration = Duration::from_secs(2);
    const ROW: u64 = 15;

    fn add(&mut self, now: Instant, power: Option<Watts>) {
        if now < self.next {
            return;
        }
        // A sample that comes late does not bring a second one after it.
        while self.next <= now {
            self.next += Self::BETWEEN;
        }
        self.row.add(power.map(|power| power.0));
        if self.row.count == Self::ROW {
            self.rows.add(std::mem::take(&mut self.row).value());
        }
    }

    fn reading(&self, time: Seconds) -> Option<PaperReading> {
        // A run that ends within its first row has that row alone.
        let power = Watts(self.rows.value().or(self.row.value())?);
        Some(PaperReading { power, energy: Joules(power.0 * time.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Meter;
    use crate::error::Error;

    /// Reads the listed values one after the other, then fails.
    struct Listed(Vec<f64>, Seconds);

    impl Meter for Listed {
        fn name(&self) -> String {
            "listed".into()
        }

        fn read(&mut self) -> Result<Joules> {
            match self.0.is_empty() {
                true => Err(Error::Device("the sensor went away".into())),
                false => Ok(Joules(self.0.remove(0))),
            }
        }

        fn update_period(&self) -> Seconds {
            self.1
        }
    }

    fn measure(values: &[f64], period: f64) -> Measurement {
        let sampler = Sampler::start(Box::new(Listed(values.to_vec(), Seconds(period)))).unwrap();
        Window::start(&sampler).stop()
    }

    #[test]
    fn energy_is_the_difference_of_two_readings() {
        let measured = measure(&[5.0, 7.5], 0.0);
        assert_eq!(measured.energy, Some(Joules(2.5)));
        assert_eq!(measured.note, "listed");
        assert_eq!(measured.power(), Some(Joules(2.5) / measured.time));
        assert_eq!((measured.integrated, measured.paper), (None, None), "there is no power sensor");
    }

    #[test]
    fn a_window_of_few_updates_has_a_reason_instead() {
        let measured = measure(&[5.0, 7.5], 3600.0);
        assert_eq!(measured.energy, None);
        assert!(measured.note.contains("needs 10:00:00"), "{}", measured.note);
        assert_eq!(measured.power(), None);
    }

    #[test]
    fn a_counter_at_rest_or_backwards_is_no_measurement() {
        for values in [[5.0, 5.0], [5.0, 4.0], [5.0, f64::NAN]] {
            let measured = measure(&values, 0.0);
            assert_eq!(measured.energy, None, "{values:?}");
            assert!(measured.note.contains("did not move"), "{}", measured.note);
        }
    }

    #[test]
    fn a_sensor_lost_at_either_end_leaves_the_time() {
        for values in [&[][..], &[5.0]] {
            let measured = measure(values, 0.0);
            assert_eq!(measured.energy, None);
            assert!(measured.note.contains("went away"), "{}", measured.note);
        }
    }

    #[test]
    fn the_mean_of_the_paper_is_over_whole_rows_of_fifteen_samples() {
        let start = Instant::now();
        let mut sums = Sums::new(start);
        // 100 W for the 15 samples of the first row, 200 W for the second, 900 W for the begun third.
        for tenth in 0..=640 {
            let seconds = tenth as f64 * 0.1;
            let power = [100.0, 200.0, 900.0][(seconds / 30.0) as usize];
            let sample = Sample { power: Some(Watts(power)), ..Sample::default() };
            sums.add(start + Duration::from_millis(tenth * 100), &sample);
        }
        let measured = sums.measurement(Seconds(64.0));
        assert_eq!(measured.paper, Some(PaperReading { power: Watts(150.0), energy: Joules(150.0 * 64.0) }));
        // 30 s of 100 W, 30 s of 200 W, 4 s of 900 W; the trapezoids that lead up begin 0.1 s early.
        let truth = 3000.0 + 6000.0 + 3600.0 + 0.05 * (100.0 + 700.0);
        assert!((measured.integrated.unwrap().0 - truth).abs() < 1e-6);
        assert_eq!(measured.peak_power, Some(Watts(900.0)));
    }
}
