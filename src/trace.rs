//! Phases: named scopes that label every launch, so that one name serves the timeline, energy and benchmarks.

use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Which half of a training step a launch belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    Forward,
    Backward,
}

impl Pass {
    pub fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        }
    }
}

/// Where in the step a launch happens, for example forward `encoder.attention`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Phase {
    pub label: &'static str,
    pub pass: Pass,
}

/// Label of what ranks do together, which is no launch.
pub const EXCHANGE: &str = "exchange";

/// Calls and host time of one kernel in one phase.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    pub calls: u64,
    pub time: Duration,
}

/// One launch of a kernel on the timeline.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    pub phase: Phase,
    pub kernel: &'static str,
    pub start: Instant,
    pub end: Instant,
}

/// Who hears of phases as they begin and end, such as a tool that draws ranges.
#[derive(Debug, Clone, Copy)]
pub struct Listener {
    pub enter: fn(Phase),
    pub leave: fn(),
}

type Timings = BTreeMap<(Phase, &'static str), Timing>;

thread_local! {
    static CURRENT: Cell<Phase> = const { Cell::new(Phase { label: "other", pass: Pass::Forward }) };
    static TIMINGS: RefCell<Option<Timings>> = const { RefCell::new(None) };
    static TIMELINE: RefCell<Option<Vec<Slice>>> = const { RefCell::new(None) };
    static LISTENER: Cell<Option<Listener>> = const { Cell::new(None) };
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
    let listener = LISTENER.get();
    if let Some(listener) = listener {
        (listener.enter)(phase);
    }
    Guard { outer: CURRENT.replace(phase), listener }
}

/// Restores the outer phase when dropped.
pub struct Guard {
    outer: Phase,
    /// Who heard of the phase, and so hears of its end.
    listener: Option<Listener>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
        if let Some(listener) = self.listener {
            (listener.leave)();
        }
    }
}

/// Tells `listener` alone of the phases of this thread from now on.
pub fn listen(listener: Listener) {
    LISTENER.set(Some(listener));
}

/// Starts collecting host timings on this thread, from nothing.
pub fn start_timing() {
    TIMINGS.set(Some(BTreeMap::new()));
}

/// Ends collecting and returns what was collected.
pub fn stop_timing() -> Timings {
    TIMINGS.take().unwrap_or_default()
}

/// Starts collecting every launch of this thread, from nothing.
pub fn start_timeline() {
    TIMELINE.set(Some(Vec::new()));
}

/// The launches since the last call, in order of their ends; more are collected from now on.
pub fn take_timeline() -> Vec<Slice> {
    TIMELINE.with_borrow_mut(|slices| slices.as_mut().map(std::mem::take)).unwrap_or_default()
}

/// Ends collecting and returns what was not taken yet.
pub fn stop_timeline() -> Vec<Slice> {
    TIMELINE.take().unwrap_or_default()
}

/// Whether timings or launches are collected on this thread.
pub fn is_timing() -> bool {
    TIMINGS.with_borrow(Option::is_some) || TIMELINE.with_borrow(Option::is_some)
}

/// Adds one call of `kernel` in the current phase.
pub fn add(kernel: &'static str, start: Instant, end: Instant) {
    add_in(current(), kernel, start, end);
}

/// Adds one call of `kernel` in `phase`, which may be over.
pub fn add_in(phase: Phase, kernel: &'static str, start: Instant, end: Instant) {
    TIMELINE.with_borrow_mut(|slices| {
        if let Some(slices) = slices {
            slices.push(Slice { phase, kernel, start, end });
        }
    });
    TIMINGS.with_borrow_mut(|timings| {
        if let Some(timings) = timings {
            let entry = timings.entry((phase, kernel)).or_default();
            entry.calls += 1;
            entry.time += end - start;
        }
    });
}

/// Runs `work`, adding its time to `kernel` in the current phase when timing is on.
pub fn timed<R>(kernel: &'static str, work: impl FnOnce() -> R) -> R {
    if !is_timing() {
        return work();
    }
    let start = Instant::now();
    let result = work();
    add(kernel, start, Instant::now());
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

    #[test]
    fn a_listener_hears_every_phase_begin_and_end() {
        thread_local!(static HEARD: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) });
        let before = phase("before");
        listen(Listener {
            enter: |phase| HEARD.with_borrow_mut(|heard| heard.push(phase.label)),
            leave: || HEARD.with_borrow_mut(|heard| heard.push("end")),
        });
        {
            let _encoder = phase("encoder");
            let _attention = phase("encoder.attention");
        }
        drop(before);
        assert_eq!(HEARD.take(), ["encoder", "encoder.attention", "end", "end"], "only what began is ended");
    }

    #[test]
    fn the_timeline_has_every_launch_once_and_in_order() {
        timed("before", || ());
        start_timeline();
        timed("a", || std::thread::sleep(Duration::from_millis(2)));
        let _encoder = phase("encoder");
        timed("b", || ());
        let first = take_timeline();
        timed("c", || ());
        let rest = stop_timeline();
        timed("after", || ());
        let of = |slices: &[Slice]| slices.iter().map(|s| (s.phase.label, s.kernel)).collect::<Vec<_>>();
        assert_eq!(of(&first), [("other", "a"), ("encoder", "b")]);
        assert_eq!(of(&rest), [("encoder", "c")]);
        assert!(first[0].end - first[0].start >= Duration::from_millis(2) && first[1].start >= first[0].end);
    }
}
