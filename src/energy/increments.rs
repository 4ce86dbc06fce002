//! The counter's changes cut by what ran between them.

use super::attribution::{Attribution, Equations, Interval};
use crate::error::Result;
use crate::trace::{Phase, Slice};
use crate::units::{Joules, Seconds};
use std::time::Instant;

/// The intervals between `changes`, with the time of `slices`, (phase, start, end), in each.
///
/// Both are in order; a slice may reach over several intervals. Time of a phase beyond `phases` is left to the rest.
pub fn intervals(
    changes: &[(Instant, Joules)],
    slices: &[(usize, Instant, Instant)],
    phases: usize,
) -> Vec<Interval> {
    let between = |pair: &[(Instant, Joules)]| Interval {
        energy: Joules(pair[1].1.0 - pair[0].1.0),
        time: length(pair[0].0, pair[1].0),
        phases: vec![Seconds(0.0); phases],
    };
    let mut cut: Vec<Interval> = changes.windows(2).map(between).collect();
    for &(phase, start, end) in slices.iter().filter(|(phase, ..)| *phase < phases) {
        let first = changes.partition_point(|(at, _)| *at <= start).saturating_sub(1);
        for (interval, pair) in cut.iter_mut().zip(changes.windows(2)).skip(first) {
            let (from, to) = (pair[0].0, pair[1].0);
            if from >= end {
                break;
            }
            interval.phases[phase] += length(start.max(from), end.min(to));
        }
    }
    cut
}

fn length(from: Instant, to: Instant) -> Seconds {
    to.saturating_duration_since(from).into()
}

/// The attribution of a run while it runs: what was taken in is summed and forgotten.
#[derive(Debug, Clone)]
pub struct Increments {
    phases: Vec<Phase>,
    equations: Equations,
    /// The last change so far, at which the next interval begins.
    last: Option<(Instant, Joules)>,
    /// What ran after it.
    open: Vec<(usize, Instant, Instant)>,
}

impl Default for Increments {
    fn default() -> Self {
        Increments { phases: Vec::new(), equations: Equations::new(0), last: None, open: Vec::new() }
    }
}

impl Increments {
    /// Takes in the counter's changes and the launches since the last call, of which none is still running.
    pub fn add(&mut self, changes: Vec<(Instant, Joules)>, slices: Vec<Slice>) -> Result<()> {
        for Slice { phase, start, end, .. } in slices {
            let number = self.phases.iter().position(|known| *known == phase).unwrap_or_else(|| {
                self.phases.push(phase);
                self.phases.len() - 1
            });
            self.open.push((number, start, end));
        }
        self.equations.grow(self.phases.len());
        let changes: Vec<_> = self.last.into_iter().chain(changes).collect();
        for interval in intervals(&changes, &self.open, self.phases.len()) {
            self.equations.add(&interval)?;
        }
        self.last = changes.last().copied();
        match self.last {
            Some((at, _)) => self.open.retain(|(_, _, end)| *end > at),
            None => self.open.clear(),
        }
        Ok(())
    }

    /// What follows does not begin where the last call ended: the intervals around the gap count nowhere.
    pub fn cut(&mut self) {
        self.equations.cut();
        self.last = None;
        self.open.clear();
    }

    /// The phases in the order in which they first ran, and what each of them drew.
    pub fn attribution(&self) -> Result<(&[Phase], Attribution)> {
        Ok((&self.phases, self.equations.solve()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Pass;
    use std::time::Duration;

    const STEP: Duration = Duration::from_millis(10);

    fn slice(start: Instant, label: &'static str, from: u32, to: u32) -> Slice {
        let phase = Phase { label, pass: Pass::Forward };
        Slice { phase, kernel: "k", start: start + from * STEP, end: start + to * STEP }
    }

    fn hundredths(interval: &Interval) -> Vec<u64> {
        interval.phases.iter().map(|time| (time.0 * 100.0).round() as u64).collect()
    }

    #[test]
    fn slices_are_cut_where_the_counter_changed() {
        let start = Instant::now();
        let change = |at: u32, joules: f64| (start + at * STEP, Joules(joules));
        let changes = [change(10, 5.0), change(20, 7.0), change(30, 8.0)];
        // Before, across the first change, inside, over a whole interval, after; and a phase that was not asked for.
        let of = |phase: usize, from: u32, to: u32| (phase, start + from * STEP, start + to * STEP);
        let slices = [of(0, 1, 3), of(0, 8, 12), of(1, 13, 14), of(0, 18, 40), of(1, 41, 50), of(2, 15, 16)];
        let cut = intervals(&changes, &slices, 2);
        assert_eq!(cut.iter().map(|interval| interval.energy.0).collect::<Vec<_>>(), [2.0, 1.0]);
        assert_eq!(cut.iter().map(hundredths).collect::<Vec<_>>(), [[4, 1], [10, 0]]);
        assert!(cut.iter().all(|interval| (interval.time.0 - 0.1).abs() < 1e-9));
        assert_eq!(intervals(&changes[..1], &slices, 2), []);
    }

    #[test]
    fn taking_in_a_run_by_pieces_is_the_same_as_at_once() {
        let start = Instant::now();
        // A step of two phases, 30 and 50 ms of which 10 ms are empty, under a counter of 70 ms.
        let mut slices = Vec::new();
        for step in 0..60 {
            let at = step * 10;
            slices.push(slice(start, "a", at, at + 3));
            slices.push(slice(start, "b", at + 4, at + 9));
        }
        let power = |at: u32| match at % 10 {
            0..=2 => 90.0,
            4..=8 => 40.0,
            _ => 10.0,
        };
        let energy = |to: u32| Joules((0..to).map(|at| power(at) * 0.01).sum());
        let changes: Vec<_> = (0..86).map(|i| (start + i * 7 * STEP, energy(i * 7))).collect();
        let numbered: Vec<_> = slices
            .iter()
            .map(|slice| (usize::from(slice.phase.label == "b"), slice.start, slice.end))
            .collect();
        let whole = super::super::attribute(&intervals(&changes, &numbered, 2), 2).unwrap();

        let mut increments = Increments::default();
        for step in 0..60u32 {
            let ends = start + (step + 1) * 10 * STEP;
            let here = |at: Instant| at < ends && at >= start + step * 10 * STEP;
            let changes = changes.iter().copied().filter(|(at, _)| here(*at)).collect();
            let slices = slices.iter().copied().filter(|slice| here(slice.start)).collect();
            increments.add(changes, slices).unwrap();
            assert!(increments.open.len() < 5, "what is done with is forgotten");
        }
        let (phases, pieces) = increments.attribution().unwrap();
        assert_eq!(phases.iter().map(|phase| phase.label).collect::<Vec<_>>(), ["a", "b"]);
        for (piece, want) in pieces.phases.iter().zip(&whole.phases) {
            assert!(
                (piece.energy.0 - want.energy.0).abs() < 1e-9 && (piece.time.0 - want.time.0).abs() < 1e-9
            );
        }
        for (share, watts) in whole.phases.iter().chain([&whole.rest]).zip([90.0, 40.0, 10.0]) {
            assert!((share.power.0 - watts).abs() < 1e-3 && share.resolved, "{share:?}, not {watts} W");
        }
    }

    #[test]
    fn a_gap_counts_nowhere() {
        let start = Instant::now();
        let change = |at: u32, joules: f64| (start + at * STEP, Joules(joules));
        let mut increments = Increments::default();
        for round in 0..4 {
            let (at, joules) = (round * 100, f64::from(round) * 1000.0);
            let changes =
                vec![change(at, joules), change(at + 5, joules + 1.0), change(at + 10, joules + 2.0)];
            increments.add(changes, vec![slice(start, "a", at, at + 10)]).unwrap();
            increments.cut();
        }
        let (_, found) = increments.attribution().unwrap();
        assert!((found.total.0 - 8.0).abs() < 1e-9, "{found:?}");
        assert!((found.phases[0].time.0 - 0.4).abs() < 1e-9, "{found:?}");
    }
}
