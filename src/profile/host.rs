//! The time of a run in which no launch runs: what its host does between them.

use super::rows::{Key, Row};
use super::runs::{Run, Runs};
use crate::device::repeater::Step;
use crate::stats::quantiles;

/// Seconds of one traced run outside of launches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gaps {
    /// From one launch to the next of the same step: shapes, memory, the tape.
    launches: f64,
    /// Before, between and after steps: batches, what is read back, what is chosen from it.
    steps: f64,
}

impl Gaps {
    /// What the host did in `run`, whose launches are those of `steps`.
    pub fn of(run: &Run, steps: &[Step]) -> Self {
        let mut first = vec![0];
        for step in steps {
            first.push(first[first.len() - 1] + step.launches.len());
        }
        let mut gaps = Gaps::default();
        let mut end = run.start;
        for (number, slice) in run.slices.iter().enumerate() {
            let gap = slice.start.saturating_duration_since(end).as_secs_f64();
            *if first.contains(&number) { &mut gaps.steps } else { &mut gaps.launches } += gap;
            end = end.max(slice.end);
        }
        gaps.steps += run.end.saturating_duration_since(end).as_secs_f64();
        // They lie between steps, and are no work of the host.
        let exchanges = run.exchanges.iter().map(|of| (of.end - of.start).as_secs_f64()).sum::<f64>();
        gaps.steps = (gaps.steps - exchanges).max(0.0);
        gaps
    }
}

/// The rows of all traced runs, less what tracing itself took: it makes the gaps between launches longer.
pub fn rows(gaps: &[Gaps], runs: &Runs) -> [Row; 2] {
    let median = |seconds: &[f64]| quantiles(seconds).map_or(0.0, |q| q.median_s);
    let tracing = (median(&runs.traced_s) - median(&runs.untraced_s)).max(0.0);
    let row = |place: &str, of: &dyn Fn(&Gaps) -> f64| Row {
        key: Key::host(place),
        seconds: gaps.iter().map(of).collect(),
        ..Row::default()
    };
    [
        row("between launches", &|gaps| (gaps.launches - tracing).max(0.0)),
        row("between steps", &|gaps| gaps.steps),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::repeater::Launched;
    use crate::trace::{Pass, Phase, Slice};
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    #[test]
    fn time_outside_of_launches_is_that_of_the_host() {
        let zero = Instant::now();
        let at = |milli: u64| zero + Duration::from_millis(milli);
        let phase = Phase { label: "head", pass: Pass::Forward };
        let slice = |[from, to]: [u64; 2]| Slice { phase, kernel: "cast", start: at(from), end: at(to) };
        let slices = [[10, 20], [25, 30], [100, 110]].map(slice).to_vec();
        let launched = Launched { kernel: "cast", phase, cost: Default::default(), live: 0 };
        let step = |launches| Step { layout: Rc::default(), launches: vec![launched; launches] };
        let run = Run { start: at(0), end: at(113), slices, exchanges: Vec::new() };
        let gaps = Gaps::of(&run, &[step(2), step(1)]);
        // 10 ms before the first step, 70 ms between the two and 3 ms after the last.
        assert!((gaps.launches - 0.005).abs() < 1e-9 && (gaps.steps - 0.083).abs() < 1e-9, "{gaps:?}");
        let exchanges = vec![slice([40, 80])];
        let shared = Gaps::of(&Run { exchanges, ..run }, &[step(2), step(1)]);
        assert!((shared.steps - 0.043).abs() < 1e-9 && shared.launches == gaps.launches, "{shared:?}");
        let of = |untraced: f64| rows(&[gaps], &Runs { untraced_s: vec![untraced], traced_s: vec![0.113] });
        let near = |rows: [Row; 2], want: [f64; 2]| {
            rows.iter().zip(want).all(|(row, want)| row.key.is_host() && (row.time().0 - want).abs() < 1e-9)
        };
        assert!(near(of(0.113), [0.005, 0.083]) && near(of(0.2), [0.005, 0.083]));
        assert!(near(of(0.111), [0.003, 0.083]), "2 ms were the tracing's");
        assert!(near(of(0.05), [0.0, 0.083]));
    }
}
