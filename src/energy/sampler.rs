//! A thread that looks at a meter again and again, for the windows that are open.

use super::measurement::Sums;
use super::{Calibration, Meter, Sample};
use crate::error::{Error, Result};
use crate::units::{Joules, Seconds};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two looks: as often as data-centre GPUs renew their readings; one costs far less than a hundredth of it.
const INTERVAL: Duration = Duration::from_millis(100);

/// A meter with a thread that samples it. Dropping it ends the thread; windows that are open keep what they have.
pub struct Sampler {
    shared: Arc<Mutex<Shared>>,
    /// Ends the thread when dropped; a message makes it look at its settings again.
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the windows work on.
pub(super) struct Shared {
    meter: Box<dyn Meter>,
    interval: Duration,
    /// When the sensors are looked at next.
    due: Instant,
    windows: Vec<(u64, Sums)>,
    next: u64,
    changes: Option<Changes>,
}

impl Sampler {
    pub fn start(meter: Box<dyn Meter>) -> Result<Self> {
        Self::every(INTERVAL, meter)
    }

    fn every(interval: Duration, meter: Box<dyn Meter>) -> Result<Self> {
        let due = Instant::now() + interval;
        let shared = Shared { meter, interval, due, windows: Vec::new(), next: 0, changes: None };
        let shared = Arc::new(Mutex::new(shared));
        let (wake, woken) = mpsc::channel();
        let seen = shared.clone();
        let work = move || {
            loop {
                let wait = lock(&seen).wait();
                match woken.recv_timeout(wait) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => lock(&seen).turn(),
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        };
        let thread = thread::Builder::new().name("energy".into()).spawn(work);
        let thread = thread.map_err(|e| Error::Device(format!("cannot watch the energy counter: {e}")))?;
        Ok(Sampler { shared, wake: Some(wake), thread: Some(thread) })
    }

    /// What is counted, or why nothing is.
    pub fn name(&self) -> String {
        lock(&self.shared).meter.name()
    }

    /// What the sensors say now.
    pub fn sample(&self) -> Sample {
        lock(&self.shared).meter.sample()
    }

    pub fn calibration(&self) -> Calibration {
        lock(&self.shared).meter.calibration()
    }

    /// Keeps when the counter changes and to what, from now on and from nothing, until [`Sampler::stop_changes`].
    ///
    /// Whoever asks takes them again and again: they are kept until then.
    pub fn record_changes(&self) {
        let mut shared = lock(&self.shared);
        let period = shared.meter.update_period();
        shared.changes = Some(Changes::new(period));
        drop(shared);
        if let Some(wake) = &self.wake {
            // A thread that is gone has panicked, which was printed; there are no changes then.
            let _ = wake.send(());
        }
    }

    /// The changes since the last call, in order; more are kept from now on.
    pub fn take_changes(&self) -> Vec<(Instant, Joules)> {
        let mut shared = lock(&self.shared);
        shared.changes.as_mut().map(|changes| std::mem::take(&mut changes.found)).unwrap_or_default()
    }

    /// Ends keeping changes and returns what was not taken yet.
    pub fn stop_changes(&self) -> Vec<(Instant, Joules)> {
        lock(&self.shared).changes.take().map(|changes| changes.found).unwrap_or_default()
    }

    pub(super) fn shared(&self) -> Arc<Mutex<Shared>> {
        self.shared.clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; the windows say that nothing was sampled.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// How long the thread may rest.
    fn wait(&self) -> Duration {
        let due = self.due.saturating_duration_since(Instant::now());
        self.changes.as_ref().map_or(due, |changes| changes.poll.min(due))
    }

    /// One turn of the thread.
    fn turn(&mut self) {
        if Instant::now() < self.due {
            // What fails here fails again when a window closes, which reports it.
            let _ = self.read();
            return;
        }
        self.look();
        self.due = Instant::now() + self.interval;
    }

    /// The counter, for everybody who needs it: a change is noted whoever sees it.
    pub fn read(&mut self) -> Result<Joules> {
        let begun = Instant::now();
        let read = self.meter.read();
        if let (Some(changes), Ok(energy)) = (&mut self.changes, &read) {
            let now = Instant::now();
            changes.see(now, now - begun, *energy);
        }
        read
    }

    /// Reads the counter, which may wrap when it is not read, and the sensors for every open window.
    fn look(&mut self) {
        let counted = self.read().ok();
        let sample = self.meter.sample();
        let (now, period) = (Instant::now(), self.meter.update_period());
        self.windows.iter_mut().for_each(|(_, sums)| sums.add(now, &sample, counted, period));
    }

    /// Opens a window: its number, and the counter.
    pub fn open(&mut self) -> (u64, Result<Joules>) {
        let number = self.next;
        self.next += 1;
        let before = self.read();
        let (sample, period) = (self.meter.sample(), self.meter.update_period());
        let mut sums = Sums::new(Instant::now());
        sums.add(Instant::now(), &sample, before.as_ref().ok().copied(), period);
        self.windows.push((number, sums));
        (number, before)
    }

    /// What a window has seen until now; the counter, its name and period.
    pub fn peek(&mut self, number: u64) -> (Result<Joules>, String, Seconds, Option<&Sums>) {
        let after = self.read();
        self.look();
        let sums = self.windows.iter().find(|(window, _)| *window == number).map(|(_, sums)| sums);
        (after, self.meter.name(), self.meter.update_period(), sums)
    }

    pub fn close(&mut self, number: u64) {
        self.windows.retain(|(window, _)| *window != number);
    }

    pub fn name(&self) -> String {
        self.meter.name()
    }

    pub fn calibration(&self) -> Calibration {
        self.meter.calibration()
    }
}

pub(super) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Every look leaves the sums consistent, so a panic elsewhere spoils nothing.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a counter changed, as well as looking at it tells.
struct Changes {
    /// Between two looks at the counter.
    poll: Duration,
    period: Duration,
    /// The shortest that reading the counter has taken.
    reading: Duration,
    last: Option<(Instant, Joules)>,
    found: Vec<(Instant, Joules)>,
}

impl Changes {
    /// A counter that moves often is exact wherever it is looked at; one that moves seldom has to be watched.
    fn new(period: Seconds) -> Self {
        const OFTEN: Seconds = Seconds(0.005);
        const POLLS: f64 = 50.0;
        let seconds = if period < OFTEN { 0.01 } else { (period.0 / POLLS).clamp(0.002, 0.01) };
        let period = Duration::try_from_secs_f64(period.0).unwrap_or_default();
        let poll = Duration::from_secs_f64(seconds);
        Changes { poll, period, reading: Duration::MAX, last: None, found: Vec::new() }
    }

    /// The counter at `now`, after a reading that took `reading`: it changed since the last look, and not longer ago than
    /// its period. What a late look finds is not dated, for that would move joules from one phase to another: they count
    /// with the next change.
    fn see(&mut self, now: Instant, reading: Duration, energy: Joules) {
        self.reading = self.reading.min(reading);
        if let Some((before, old)) = self.last
            && energy != old
        {
            let since = now.duration_since(before).min(self.period);
            if since <= (2 * (self.poll + self.reading)).max(self.period / 4) {
                self.found.push((now - since / 2, energy));
            }
        }
        self.last = Some((now, energy));
    }
}

#[cfg(test)]
mod tests;
