use super::*;
use crate::energy::{Sample, Window};
use crate::units::Watts;

/// 50 W and, from its opening on, as much energy, in steps of `.1`.
struct Steady(Instant, Seconds);

impl Meter for Steady {
    fn name(&self) -> String {
        "steady".into()
    }

    fn read(&mut self) -> Result<Joules> {
        let steps = (self.0.elapsed().as_secs_f64() / self.1.0).floor();
        Ok(Joules(50.0 * steps * self.1.0))
    }

    fn update_period(&self) -> Seconds {
        self.1
    }

    fn sample(&mut self) -> Sample {
        Sample { power: Some(Watts(50.0)), utilisation: Some(0.5), ..Sample::default() }
    }
}

#[test]
fn windows_overlap_and_their_integral_is_that_of_the_power() {
    let meter = Steady(Instant::now(), Seconds(1e-4));
    let sampler = Sampler::every(Duration::from_millis(1), Box::new(meter)).unwrap();
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
        assert!((energy - integrated).abs() < 0.2 * energy, "{energy} J counted, {integrated} J integrated");
        assert_eq!(measured.utilisation, Some(0.5));
        assert_eq!(measured.peak_power, Some(Watts(50.0)));
    }
    assert!(lock(&sampler.shared).windows.is_empty(), "a window that is closed is forgotten");
}

#[test]
fn a_change_lies_between_the_looks_around_it_and_within_a_period() {
    let start = Instant::now();
    let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
    let read_in = |reading: u64, period: f64, looks: &[(u64, f64)]| {
        let (mut changes, reading) = (Changes::new(Seconds(period)), Duration::from_millis(reading));
        looks.iter().for_each(|&(time, joules)| changes.see(at(time), reading, Joules(joules)));
        changes
            .found
            .iter()
            .map(|(at, energy)| (at.duration_since(start).as_millis(), energy.0))
            .collect::<Vec<_>>()
    };
    let found = |period: f64, looks: &[(u64, f64)]| read_in(0, period, looks);
    // What the counter is when it is first looked at has been so for an unknown time.
    assert_eq!(found(0.1, &[(0, 5.0), (2, 5.0), (4, 6.0), (6, 6.0), (8, 7.0)]), [(3, 6.0), (7, 7.0)]);
    assert_eq!(found(0.002, &[(0, 5.0), (10, 6.0), (20, 7.0)]), [(9, 6.0), (19, 7.0)]);
    // The look at 12 is late: its change is not dated, and its joule counts with the next.
    assert_eq!(
        found(0.01, &[(0, 5.0), (2, 5.0), (4, 6.0), (12, 7.0), (14, 7.0), (16, 8.0)]),
        [(3, 6.0), (15, 8.0)]
    );
    // One that takes 7 ms to read is never looked at more often.
    assert_eq!(read_in(7, 0.02, &[(0, 5.0), (9, 6.0), (18, 7.0), (38, 8.0)]), [(4, 6.0), (13, 7.0)]);
    for (period, poll) in [(0.001, 10), (0.02, 2), (0.1, 2), (0.4, 8), (3.0, 10)] {
        assert_eq!(Changes::new(Seconds(period)).poll.as_millis(), poll, "{period}");
    }
}

#[test]
fn changes_are_kept_while_asked_for() {
    let meter = Steady(Instant::now(), Seconds(0.02));
    let sampler = Sampler::start(Box::new(meter)).unwrap();
    thread::sleep(Duration::from_millis(30));
    assert_eq!(sampler.take_changes(), []);
    sampler.record_changes();
    thread::sleep(Duration::from_millis(150));
    let mut changes = sampler.take_changes();
    thread::sleep(Duration::from_millis(150));
    changes.extend(sampler.stop_changes());
    assert_eq!(sampler.take_changes(), []);
    // 15 in 300 ms; a busy machine may look late, and then sees two as one.
    assert!((5..=16).contains(&changes.len()), "{changes:?}");
    assert!(changes.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{changes:?}");
    let (first, last) = (changes[0], changes[changes.len() - 1]);
    let power = (last.1.0 - first.1.0) / last.0.duration_since(first.0).as_secs_f64();
    assert!((power - 50.0).abs() < 10.0, "{power} W, not 50");
}
