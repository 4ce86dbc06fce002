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
        assert_eq!((measured.peak_power, measured.power(), measured.throttled), (None, None, None));
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
fn a_window_can_be_read_and_stays_open() {
    let sampler =
        Sampler::start(Box::new(Listed(vec![1.0, 2.0, 3.0, 4.0, 9.0, 10.0], Seconds(0.0)))).unwrap();
    let window = Window::start(&sampler);
    // Every reading of a window is one for the difference and one for the sums.
    assert_eq!(window.so_far().energy, Some(Joules(1.0)));
    assert_eq!(window.so_far().energy, Some(Joules(3.0)));
    assert_eq!(window.stop().energy, Some(Joules(9.0)));
}
