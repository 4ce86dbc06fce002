//! A stretch of time, the energy spent in it and what the sensors said meanwhile.

use super::measurement::{Measurement, UPDATES};
use super::sampler::{Sampler, Shared, lock};
use crate::error::Result;
use crate::units::{Joules, Seconds};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// An open window. Windows on one sampler may overlap.
pub struct Window {
    shared: Arc<Mutex<Shared>>,
    number: u64,
    start: Instant,
    before: Result<Joules, String>,
}

impl Window {
    /// Opens a window; a counter that cannot be read leaves the time.
    pub fn start(sampler: &Sampler) -> Self {
        let shared = sampler.shared();
        let (number, before) = lock(&shared).open();
        Window { shared, number, start: Instant::now(), before: before.map_err(|e| e.to_string()) }
    }

    pub fn stop(self) -> Measurement {
        self.so_far()
    }

    /// What it has found until now; it stays open.
    pub fn so_far(&self) -> Measurement {
        let time = Seconds::from(self.start.elapsed());
        let mut shared = lock(&self.shared);
        let (after, name, period, sums) = shared.peek(self.number);
        let (energy, note) = match spent(&self.before, after, period, time) {
            Ok(energy) => (Some(energy), name),
            Err(why) => (None, why),
        };
        let sampled = sums.map_or_else(Measurement::default, |sums| sums.measurement(time));
        Measurement { time, energy, note, ..sampled }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        lock(&self.shared).close(self.number);
    }
}

/// The energy between two readings, or why it is not known.
fn spent(
    before: &Result<Joules, String>,
    after: Result<Joules>,
    period: Seconds,
    time: Seconds,
) -> Result<Joules, String> {
    let before = before.as_ref().map_err(String::clone)?;
    let after = after.map_err(|e| e.to_string())?;
    let least = Seconds(UPDATES * period.0);
    if time < least {
        return Err(too_short(time, least) + "; repeat the work within one window");
    }
    moved(Joules(after.0 - before.0), time)
}

pub(super) fn too_short(time: Seconds, least: Seconds) -> String {
    format!("too short to measure: {time}, and this counter needs {least}")
}

/// What a counter moved by, unless it stood still or went backwards.
pub(super) fn moved(energy: Joules, time: Seconds) -> Result<Joules, String> {
    match energy > Joules(0.0) {
        true => Ok(energy),
        false => Err(format!("the counter did not move in {time}")),
    }
}

#[cfg(test)]
mod tests;
