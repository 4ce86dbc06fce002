//! A stretch of time and the energy spent in it.

use super::Meter;
use crate::error::Result;
use crate::units::{Joules, Seconds, Watts};
use std::time::Instant;

/// Fewest updates of the counter in a window. Each end is off by less than one, so the energy by less than 10 %.
const UPDATES: f64 = 10.0;

/// What a window found.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    pub time: Seconds,
    /// None where `note` says why.
    pub energy: Option<Joules>,
    /// What the energy covers, or why there is none.
    pub note: String,
}

impl Measurement {
    /// Mean power over the window.
    pub fn power(&self) -> Option<Watts> {
        self.energy.map(|energy| energy / self.time)
    }
}

/// An open window. Windows on one meter may overlap.
pub struct Window {
    start: Instant,
    before: Result<Joules>,
}

impl Window {
    /// Opens a window; a counter that cannot be read leaves the time.
    pub fn start(meter: &mut dyn Meter) -> Self {
        let before = meter.read();
        Window { start: Instant::now(), before }
    }

    /// Closes the window, on the meter that it was opened on.
    pub fn stop(self, meter: &mut dyn Meter) -> Measurement {
        let time = Seconds::from(self.start.elapsed());
        let (energy, note) = match spent(self.before, meter, time) {
            Ok(energy) => (Some(energy), meter.name()),
            Err(why) => (None, why),
        };
        Measurement { time, energy, note }
    }
}

/// The energy since `before`, or why it is not known.
fn spent(before: Result<Joules>, meter: &mut dyn Meter, time: Seconds) -> Result<Joules, String> {
    let before = before.map_err(|e| e.to_string())?;
    let after = meter.read().map_err(|e| e.to_string())?;
    let least = Seconds(UPDATES * meter.update_period().0);
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

#[cfg(test)]
mod tests {
    use super::*;
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
        let mut meter = Listed(values.to_vec(), Seconds(period));
        Window::start(&mut meter).stop(&mut meter)
    }

    #[test]
    fn energy_is_the_difference_of_two_readings() {
        let measured = measure(&[5.0, 7.5], 0.0);
        assert_eq!(measured.energy, Some(Joules(2.5)));
        assert_eq!(measured.note, "listed");
        assert_eq!(measured.power(), Some(Joules(2.5) / measured.time));
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
            assert_eq!(measured.note, "the sensor went away");
            assert!(measured.time >= Seconds(0.0));
        }
    }

    #[test]
    fn windows_overlap() {
        let mut meter = Listed(vec![1.0, 2.0, 4.0, 8.0], Seconds(0.0));
        let outer = Window::start(&mut meter);
        let inner = Window::start(&mut meter);
        assert_eq!(inner.stop(&mut meter).energy, Some(Joules(2.0)));
        assert_eq!(outer.stop(&mut meter).energy, Some(Joules(7.0)));
    }
}
