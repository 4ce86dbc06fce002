//! Phases: named scopes that label every launch, so that one name serves the timeline, energy and benchmarks.

use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

/// Which half of a training step a launch belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    Forward,
    Backward,
}

/// Where in the step a launch happens, for example forward `encoder.attention`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Phase {
    pub label: &'static str,
    pub pass: Pass,
}

/// Calls and host time of one kernel in one phase.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    pub calls: u64,
    pub time: Duration,
}

type Timings = BTreeMap<(Phase, &'static str), Timing>;

thread_local! {
    static CURRENT: Cell<Phase> = const { Cell::new(Phase { label: "other", pass: Pass::Forward }) };
    static TIMINGS: RefCell<Option<Timings>> = const { RefCell::new(None) };
}

/// The phase that launches are labelled with now.
pub fn current() -> Phase {
    CURRENT.get()
}

/// Enters the phase `label` of the current pass until the guard is dropped.
///
/// What the backward pass computes again thus belongs to the backward pass.
#[must_use = "the phase ends when the guard is dropped"]
pub fn phase(label: &'static str) -> Guard {
    enter(Phase { label, pass: current().pass })
}

/// Enters `phase` until the guard is dropped.
#[must_use = "the phase ends when the guard is dropped"]
pub fn enter(phase: Phase) -> Guard {
    Guard { outer: CURRENT.replace(phase) }
}

/// Restores the outer phase when dropped.
pub struct Guard {
    outer: Phase,
}

impl Drop for Guard {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

/// Starts collecting host timings on this thread, from nothing.
pub fn start_timing() {
    TIMINGS.set(Some(BTreeMap::new()));
}

/// Ends collecting and returns what was collected.
pub fn stop_timing() -> Timings {
    TIMINGS.take().unwrap_or_default()
}

/// Whether timings are collected on this thread.
pub fn is_timing() -> bool {
    TIMINGS.with_borrow(Option::is_some)
}

/// Adds one call of `kernel` to the current phase.
pub fn add(kernel: &'static str, time: Duration) {
    TIMINGS.with_borrow_mut(|timings| {
        if let Some(timings) = timings {
            let entry = timings.entry((current(), kernel)).or_default();
            entry.calls += 1;
            entry.time += time;
        }
    });
}

/// Runs `work`, adding its time to `kernel` in the current phase when timing is on.
pub fn timed<R>(kernel: &'static str, work: impl FnOnce() -> R) -> R {
    if !is_timing() {
        return work();
    }
    let start = std::time::Instant::now();
    let result = work();
    add(kernel, start.elapsed());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_nest_and_timings_carry_the_innermost() {
        start_timing();
        {
            let _encoder = phase("encoder");
            {
                let _attention = phase("encoder.attention");
                timed("k", || ());
            }
            timed("k", || ());
            timed("k", || ());
        }
        let timings = stop_timing();
        let calls: Vec<_> = timings.iter().map(|((p, k), t)| (p.label, *k, t.calls)).collect();
        assert_eq!(calls, [("encoder", "k", 2), ("encoder.attention", "k", 1)]);
        assert_eq!(current().label, "other");
    }
}
