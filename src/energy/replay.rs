//! A recording of a meter, played again: for tests, and to try a report without the sensor.
//!
//! The file is JSON Lines. Each line is a sample at `time_s` seconds: `energy_j`, which never falls, and whatever
//! else the sensors said; or an `error`, with which the counter fails until the next sample. A first line with a
//! `source` alone says what was recorded.

use super::calibration::Calibration;
use super::{Meter, Sample};
use crate::error::{Error, Result};
use crate::units::{Joules, Seconds};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// One line of a recording.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    #[serde(rename = "time_s", skip_serializing_if = "Option::is_none")]
    pub time: Option<Seconds>,
    #[serde(rename = "energy_j", skip_serializing_if = "Option::is_none")]
    pub energy: Option<Joules>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, flatten)]
    pub sample: Sample,
}

/// A recorded moment: what the counter said, or why it said nothing.
struct Moment {
    at: f64,
    energy: Result<Joules, String>,
    sample: Sample,
}

/// Plays a recording from the moment it is opened, and from its start again when it ends.
pub struct Replay {
    name: String,
    start: Instant,
    moments: Vec<Moment>,
    calibration: Calibration,
    /// One round: its seconds, and the joules that it adds to the counter.
    round: (f64, f64),
}

impl Replay {
    /// Opens the recording in `file`; what is wrong with it is told with its line.
    pub fn open(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).map_err(|e| Error::read(file, &e))?;
        let (mut moments, mut source): (Vec<Moment>, _) = (Vec::new(), None);
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let refuse = |what: String| Error::data(format!("{}:{}", file.display(), number + 1), what);
            let line: Line = serde_json::from_str(line).map_err(|e| refuse(e.to_string()))?;
            match (line.source.clone(), number) {
                (Some(name), 0) => source = Some(name),
                _ => moments.push(moment(line, &moments).map_err(refuse)?),
            }
        }
        let counted: Vec<(f64, f64)> =
            moments.iter().filter_map(|moment| Some((moment.at, moment.energy.as_ref().ok()?.0))).collect();
        let changes: Vec<(f64, f64)> =
            counted.windows(2).filter(|pair| pair[1].1 > pair[0].1).map(|pair| pair[1]).collect();
        let (Some(first), Some(last), [_, _, ..]) = (counted.first(), counted.last(), &changes[..]) else {
            return Err(Error::data(
                file.display(),
                "a recording needs three values of the counter at least",
            ));
        };
        let period = median(changes.windows(2).map(|pair| pair[1].0 - pair[0].0).collect());
        let ratio = integrated(&moments).map(|integral| (last.1 - first.1) / integral);
        let end = moments.last().map_or(last.0, |moment| moment.at);
        let watts = (last.1 - first.1) / (last.0 - first.0);
        let of = source.map_or(String::new(), |source| format!(" of {source}"));
        let calibration = Calibration { update_period: Seconds(period), ratio };
        Ok(Replay {
            name: format!("replay of {}, not measured here: a recording{of}; {calibration}", file.display()),
            start: Instant::now(),
            round: (end + period - moments[0].at, last.1 - first.1 + watts * period),
            moments,
            calibration,
        })
    }

    /// What was recorded `seconds` after the start, and the energy of the rounds before.
    fn at(&self, seconds: f64) -> (&Moment, f64) {
        let (length, energy) = self.round;
        let rounds = (seconds / length).floor();
        let within = seconds - rounds * length + self.moments[0].at;
        let next = self.moments.partition_point(|moment| moment.at <= within);
        (&self.moments[next.saturating_sub(1)], rounds * energy)
    }

    fn now(&self) -> (&Moment, f64) {
        self.at(self.start.elapsed().as_secs_f64())
    }
}

/// The moment that `line` is, after those `before`.
fn moment(line: Line, before: &[Moment]) -> Result<Moment, String> {
    let Some(Seconds(at)) = line.time else { return Err("it has no time_s".into()) };
    if !(at.is_finite() && at >= 0.0 && before.last().is_none_or(|last| last.at < at)) {
        return Err(format!("time_s is {at}; times are seconds that grow from line to line"));
    }
    let energy = match (line.energy, line.error) {
        (Some(energy), None) => Ok(energy),
        (None, Some(error)) => Err(error),
        _ => return Err("it needs energy_j or error, and not both".into()),
    };
    let last = before.iter().rev().find_map(|moment| moment.energy.as_ref().ok());
    if let Ok(Joules(joules)) = energy
        && !(joules.is_finite() && last.is_none_or(|last| last.0 <= joules))
    {
        return Err(format!("energy_j is {joules}; a counter never falls"));
    }
    Ok(Moment { at, energy, sample: line.sample })
}

/// Energy by the recorded power, where every moment has one.
fn integrated(moments: &[Moment]) -> Option<f64> {
    let pieces = moments.windows(2).map(|pair| {
        let [a, b] = [&pair[0], &pair[1]].map(|moment| moment.sample.power);
        Some((a?.0 + b?.0) / 2.0 * (pair[1].at - pair[0].at))
    });
    pieces.sum::<Option<f64>>().filter(|integral| *integral > 0.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Meter for Replay {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn read(&mut self) -> Result<Joules> {
        let (moment, before) = self.now();
        match &moment.energy {
            Ok(energy) => Ok(Joules(before + energy.0)),
            Err(why) => Err(Error::Device(why.clone())),
        }
    }

    fn update_period(&self) -> Seconds {
        self.calibration.update_period
    }

    fn calibration(&self) -> Calibration {
        self.calibration
    }

    fn sample(&mut self) -> Sample {
        self.now().0.sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Watts;

    fn open(text: &str) -> Result<Replay> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("recording.jsonl");
        fs::write(&file, text).unwrap();
        Replay::open(&file)
    }

    /// 50 W from 5 J on, a value every 0.1 s until 1 s; the sensor agrees.
    fn steady() -> String {
        let line = |i: usize| {
            let (time, energy) = (3.0 + i as f64 * 0.1, 5.0 + 5.0 * i as f64);
            format!("{{\"time_s\": {time}, \"energy_j\": {energy}, \"power_w\": 50}}\n")
        };
        "{\"source\": \"a fine meter\"}\n".to_string() + &(0..=10).map(line).collect::<String>()
    }

    #[test]
    fn the_counter_goes_on_from_round_to_round() {
        let replay = open(&steady()).unwrap();
        let energy = |seconds: f64| {
            let (moment, before) = replay.at(seconds);
            moment.energy.clone().unwrap().0 + before
        };
        for (seconds, joules) in
            [(0.0, 5.0), (0.05, 5.0), (0.15, 10.0), (1.05, 55.0), (1.15, 60.0), (11.05, 555.0)]
        {
            assert!((energy(seconds) - joules).abs() < 1e-6, "{} J at {seconds} s", energy(seconds));
        }
        assert!((replay.calibration.update_period.0 - 0.1).abs() < 1e-9);
        assert!((replay.calibration.ratio.unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(replay.at(0.5).0.sample.power, Some(Watts(50.0)));
        let name = replay.name();
        assert!(name.contains("not measured here") && name.contains("of a fine meter"), "{name}");
        assert!(name.ends_with("counter every 100.0 ms, counter/integrated 1.00"), "{name}");
    }

    #[test]
    fn a_recorded_fault_happens_again() {
        let text = steady() + "{\"time_s\": 4.1, \"error\": \"the GPU is lost\"}\n";
        let replay = open(&text).unwrap();
        assert!(replay.at(1.05).0.energy.is_ok());
        assert_eq!(replay.at(1.15).0.energy, Err("the GPU is lost".into()));
        assert!(replay.at(1.25).0.energy.is_ok(), "and the next round begins");
    }

    #[test]
    fn what_is_wrong_is_found_by_its_line() {
        let with = |line: &str| steady() + line + "\n";
        for (text, code, part) in [
            (with("{\"time_s\": 4, \"energy_j\": 60}"), 65, "jsonl:13: time_s is 4"),
            (with("{\"time_s\": 5, \"energy_j\": 6}"), 65, "a counter never falls"),
            (with("{\"time_s\": 5}"), 65, "energy_j or error"),
            (with("{\"energy_j\": 60}"), 65, "no time_s"),
            (with("{\"time_s\": 5, \"energy_j\": 60, \"volts\": 3}"), 65, "volts"),
            (with("{\"time_s\": 5, \"energy_j\": \"many\"}"), 65, "jsonl:13"),
            (with("energy"), 65, "jsonl:13"),
            (String::new(), 65, "three values"),
        ] {
            let error = open(&text).err().unwrap();
            assert_eq!(error.exit_code(), code, "{error}");
            assert!(error.to_string().contains(part), "{error} does not say {part}");
        }
        assert_eq!(Replay::open(Path::new("/nowhere/x.jsonl")).err().unwrap().exit_code(), 66);
    }
}
