use super::*;

/// Uniform numbers from 0 to 1, and normal ones.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (radius, angle) = ((-2.0 * (1.0 - self.uniform()).ln()).sqrt(), self.uniform());
        radius * (std::f64::consts::TAU * angle).cos()
    }
}

/// A step: seconds and watts of its phases, one after the other; what follows them is the rest.
struct Planted {
    phases: Vec<(f64, f64)>,
    rest: (f64, f64),
}

/// What can be wrong with a measurement, as standard deviations.
struct Faults {
    /// Noise of the moment at which a change is seen, in seconds.
    late: f64,
    /// Noise of a phase's power from step to step, as a share.
    power: f64,
}

/// A counter looked at every 2 ms, and steps that are not all alike.
const NOISE: Faults = Faults { late: 0.0006, power: 0.02 };

impl Planted {
    /// Steps for `seconds` under a counter that moves every `period`; with the truth in joules by phase.
    fn run(&self, seconds: f64, period: f64, faults: &Faults, seed: u64) -> (Vec<Interval>, Vec<f64>) {
        let mut random = Random(seed);
        // (phase, start, end, watts), the rest as the phase behind the last.
        let (mut pieces, mut at) = (Vec::new(), 0.0);
        while at < seconds {
            for (phase, &(time, watts)) in self.phases.iter().chain([&self.rest]).enumerate() {
                let watts = watts * (1.0 + faults.power * random.normal());
                pieces.push((phase, at, at + time, watts));
                at += time;
            }
        }
        let mut changes = Vec::new();
        let mut change = period * random.uniform();
        while change < seconds {
            changes.push((change, change + faults.late * random.normal()));
            change += period;
        }
        let shared = |from: f64, to: f64, start: f64, end: f64| (to.min(end) - from.max(start)).max(0.0);
        let mut truth = vec![0.0; self.phases.len() + 1];
        let intervals = changes.windows(2).map(|pair| {
            let [(from, seen_from), (to, seen_to)] = [pair[0], pair[1]];
            let mut energy = 0.0;
            let mut times = vec![Seconds(0.0); self.phases.len()];
            for &(phase, start, end, watts) in &pieces {
                energy += watts * shared(from, to, start, end);
                let seen = shared(seen_from, seen_to, start, end);
                truth[phase] += watts * seen;
                if let Some(time) = times.get_mut(phase) {
                    *time += Seconds(seen);
                }
            }
            Interval { energy: Joules(energy), time: Seconds(seen_to - seen_from), phases: times }
        });
        (intervals.collect(), truth)
    }
}

/// Three phases of at least 20 ms, and 27 ms of rest, under a counter of 100 ms.
fn step() -> Planted {
    Planted { phases: vec![(0.031, 420.0), (0.022, 250.0), (0.047, 610.0)], rest: (0.027, 95.0) }
}

fn shares(found: &Attribution) -> Vec<Share> {
    found.phases.iter().chain([&found.rest]).copied().collect()
}

#[test]
fn a_perfect_counter_gives_the_planted_energy_back() {
    let (intervals, truth) = step().run(20.0, 0.1, &Faults { late: 0.0, power: 0.0 }, 1);
    let found = attribute(&intervals, 3).unwrap();
    for (share, truth) in shares(&found).iter().zip(&truth) {
        assert!((share.energy.0 - truth).abs() < 1e-4 * truth, "{share:?}, not {truth} J");
        assert!(share.resolved && share.at_most.0 >= share.energy.0);
    }
    assert!((found.total.0 - truth.iter().sum::<f64>()).abs() < 1e-6 * found.total.0);
    assert!(found.residual.0.abs() < 1e-6 * found.total.0);
}

#[test]
fn noise_is_in_the_stated_error() {
    let (mut all, mut within, mut beyond) = (0, 0, Vec::new());
    for seed in 0..40 {
        let (intervals, truth) = step().run(90.0, 0.1, &NOISE, seed);
        let found = attribute(&intervals, 3).unwrap();
        for (share, truth) in found.phases.iter().zip(&truth) {
            assert!(share.resolved, "{share:?}");
            assert!((share.energy.0 - truth).abs() < 0.05 * truth, "{share:?}, not {truth} J within 5 %");
            let deviations = (share.energy.0 - truth).abs() / share.standard_error.0;
            all += 1;
            within += usize::from(deviations <= 1.0);
            if deviations > 3.5 {
                beyond.push(deviations);
            }
        }
        assert!(found.residual.0.abs() < 0.01 * found.total.0, "{} J are left", found.residual.0);
    }
    // One standard deviation holds two thirds.
    assert!(within >= all * 6 / 10, "{within} of {all} within one standard error");
    assert!(beyond.is_empty(), "{beyond:?} standard errors off");
}

#[test]
fn a_phase_that_draws_nothing_is_at_its_bound_with_an_error() {
    let planted = Planted { phases: vec![(0.03, 300.0), (0.04, 0.0)], rest: (0.02, 100.0) };
    let mut at_bound = 0;
    for seed in 0..20 {
        let (intervals, _) = planted.run(30.0, 0.1, &NOISE, seed);
        let idle = attribute(&intervals, 2).unwrap().phases[1];
        at_bound += usize::from(idle.energy == Joules(0.0));
        assert!(idle.energy.0 >= 0.0 && idle.standard_error.0 > 0.0 && idle.resolved, "{idle:?}");
        assert!(idle.energy.0 <= 3.5 * idle.standard_error.0, "{idle:?}");
    }
    assert!(at_bound > 2, "{at_bound} of 20 at the bound");
}

#[test]
fn what_always_happens_together_is_not_told_apart() {
    // Every interval holds the same share of both: 10 steps of 10 ms under a counter of 100 ms.
    let planted = Planted { phases: vec![(0.004, 300.0), (0.004, 500.0)], rest: (0.002, 100.0) };
    let (intervals, truth) = planted.run(20.0, 0.1, &Faults { late: 0.0, power: 0.01 }, 3);
    let found = attribute(&intervals, 2).unwrap();
    for (share, truth) in found.phases.iter().zip(&truth) {
        assert!(!share.resolved, "{share:?}");
        assert!(share.at_most.0 >= 0.99 * truth, "{truth} J is above the bound of {share:?}");
    }
    // Together they are known.
    let sum: f64 = shares(&found).iter().map(|share| share.energy.0).sum();
    assert!((sum - found.total.0).abs() < 0.01 * found.total.0);
}

#[test]
fn a_phase_too_short_is_not_resolved_and_one_that_never_ran_drew_nothing() {
    let planted = Planted { phases: vec![(0.03, 300.0), (0.0001, 900.0), (0.0, 1.0)], rest: (0.041, 100.0) };
    let (intervals, truth) = planted.run(20.0, 0.1, &NOISE, 3);
    let found = attribute(&intervals, 3).unwrap();
    let [long, short, absent] = found.phases[..] else { panic!("{found:?}") };
    assert!(long.resolved && !short.resolved, "{found:?}");
    assert!(short.at_most.0 >= truth[1] && short.at_most < Joules(0.05 * found.total.0), "{short:?}");
    assert_eq!(absent, Share { resolved: true, ..Share::default() });
}

#[test]
fn a_gap_or_a_stall_of_the_counter_costs_precision_only() {
    let (mut intervals, truth) = step().run(90.0, 0.1, &NOISE, 11);
    // The counter stands still for half a second: one interval holds what five should.
    let stalled = intervals[100..105].to_vec();
    let mut sum = stalled[0].clone();
    for part in &stalled[1..] {
        sum.energy += part.energy;
        sum.time += part.time;
        sum.phases.iter_mut().zip(&part.phases).for_each(|(sum, part)| *sum += *part);
    }
    intervals.splice(100..105, [sum]);
    let found = attribute(&intervals, 3).unwrap();
    for (share, truth) in found.phases.iter().zip(&truth) {
        assert!((share.energy.0 - truth).abs() < 0.05 * truth, "{share:?}, not {truth} J");
    }
}

#[test]
fn the_order_in_which_phases_appear_changes_nothing() {
    let (intervals, _) = step().run(20.0, 0.1, &NOISE, 5);
    let mut grown = Equations::new(1);
    let fewer = |interval: &Interval, n: usize| Interval {
        phases: interval.phases[..n].to_vec(),
        ..interval.clone()
    };
    // As if the other phases had not run yet, in both ways of saying so.
    let early: Vec<Interval> = intervals[..5]
        .iter()
        .map(|interval| Interval {
            phases: [&fewer(interval, 1).phases[..], &[Seconds(0.0); 2]].concat(),
            ..interval.clone()
        })
        .collect();
    early.iter().for_each(|interval| grown.add(&fewer(interval, 1)).unwrap());
    grown.grow(3);
    intervals[5..].iter().for_each(|interval| grown.add(interval).unwrap());
    let whole = attribute(&[&early[..], &intervals[5..]].concat(), 3).unwrap();
    assert_eq!(grown.solve().unwrap(), whole);
}

#[test]
fn what_no_measurement_gives_is_refused() {
    let good = Interval { energy: Joules(1.0), time: Seconds(0.1), phases: vec![Seconds(0.05)] };
    let few = attribute(&vec![good.clone(); 3], 1).unwrap_err();
    assert!(few.to_string().contains("run longer"), "{few}");
    assert_eq!(few.exit_code(), 65);
    for bad in [
        Interval { energy: Joules(f64::NAN), ..good.clone() },
        Interval { energy: Joules(-1.0), ..good.clone() },
        Interval { time: Seconds(f64::INFINITY), ..good.clone() },
        Interval { phases: vec![Seconds(-0.1)], ..good.clone() },
        Interval { phases: vec![Seconds(f64::NAN)], ..good.clone() },
        Interval { phases: vec![], ..good.clone() },
    ] {
        let refused = attribute(&[good.clone(), bad], 1).unwrap_err().to_string();
        assert!(refused.starts_with("interval 2"), "{refused}");
    }
}
