//! A thread that looks at a meter again and again, for the windows that are open.

use super::window::Sums;
use super::{Meter, Sample};
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
    /// Dropped first, which the thread notices.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the windows work on.
pub(super) struct Shared {
    meter: Box<dyn Meter>,
    windows: Vec<(u64, Sums)>,
    next: u64,
}

impl Sampler {
    pub fn start(meter: Box<dyn Meter>) -> Result<Self> {
        Self::every(INTERVAL, meter)
    }

    fn every(interval: Duration, meter: Box<dyn Meter>) -> Result<Self> {
        let shared = Arc::new(Mutex::new(Shared { meter, windows: Vec::new(), next: 0 }));
        let (stop, stopped) = mpsc::channel();
        let seen = shared.clone();
        let work = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                lock(&seen).look();
            }
        };
        let thread = thread::Builder::new().name("energy".into()).spawn(work);
        let thread = thread.map_err(|e| Error::Device(format!("cannot watch the energy counter: {e}")))?;
        Ok(Sampler { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// What is counted, or why nothing is.
    pub fn name(&self) -> String {
        lock(&self.shared).meter.name()
    }

    pub(super) fn shared(&self) -> Arc<Mutex<Shared>> {
        self.shared.clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; the windows say that nothing was sampled.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Reads the counter, which may wrap if nobody does, and the sensors for every open window.
    fn look(&mut self) -> Sample {
        // What fails here fails again when the window closes, which reports it.
        let _ = self.meter.read();
        let sample = self.meter.sample();
        let now = Instant::now();
        self.windows.iter_mut().for_each(|(_, sums)| sums.add(now, &sample));
        sample
    }

    /// Opens a window: its number, and the counter.
    pub fn open(&mut self) -> (u64, Result<Joules>) {
        let number = self.next;
        self.next += 1;
        let before = self.meter.read();
        let mut sums = Sums::new(Instant::now());
        sums.add(Instant::now(), &self.meter.sample());
        self.windows.push((number, sums));
        (number, before)
    }

    /// Closes a window: the counter, its name and period, and what was sampled.
    pub fn close(&mut self, number: u64) -> (Result<Joules>, String, Seconds, Option<Sums>) {
        let after = self.meter.read();
        self.look();
        let at = self.windows.iter().position(|(window, _)| *window == number);
        let sums = at.map(|at| self.windows.swap_remove(at).1);
        (after, self.meter.name(), self.meter.update_period(), sums)
    }
}

pub(super) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Every look leaves the sums consistent, so a panic elsewhere spoils nothing.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Window;
    use crate::units::Watts;

    /// 50 W and, from its opening on, as much energy.
    struct Steady(Instant);

    impl Meter for Steady {
        fn name(&self) -> String {
            "steady".into()
        }

        fn read(&mut self) -> Result<Joules> {
            Ok(Joules(50.0 * self.0.elapsed().as_secs_f64()))
        }

        fn update_period(&self) -> Seconds {
            Seconds(1e-4)
        }

        fn sample(&mut self) -> Sample {
            Sample { power: Some(Watts(50.0)), utilisation: Some(0.5), ..Sample::default() }
        }
    }

    #[test]
    fn windows_overlap_and_their_integral_is_that_of_the_power() {
        let sampler = Sampler::every(Duration::from_millis(1), Box::new(Steady(Instant::now()))).unwrap();
        let outer = Window::start(&sampler);
        thread::sleep(Duration::from_millis(20));
        let inner = Window::start(&sampler);
        thread::sleep(Duration::from_millis(20));
        let (inner, outer) = (inner.stop(), outer.stop());
        assert!(outer.time.0 > inner.time.0 + 0.015);
        for measured in [inner, outer] {
            let energy = measured.energy.unwrap().0;
            let integrated = measured.integrated.unwrap().0;
            // Both are 50 W over the window, but for the moments between reading and sampling.
            assert!(
                (energy - integrated).abs() < 0.2 * energy,
                "{energy} J counted, {integrated} J integrated"
            );
            assert_eq!(measured.utilisation, Some(0.5));
            assert_eq!(measured.peak_power, Some(Watts(50.0)));
        }
    }
}
