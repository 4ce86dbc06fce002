//! Runs of a workload, whole and launch by launch.

use crate::error::Result;
use crate::trace::{self, EXCHANGE, Slice};
use crate::workload::Workload;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// One traced run.
#[derive(Debug, Clone)]
pub struct Run {
    pub start: Instant,
    pub end: Instant,
    /// Launches.
    pub slices: Vec<Slice>,
    /// What this rank did together with the others, waits for them included.
    pub exchanges: Vec<Slice>,
}

impl Run {
    /// Does `work` once, launch by launch.
    pub fn of(work: &mut dyn Workload) -> Result<Self> {
        trace::start_timeline();
        let start = Instant::now();
        let outcome = work.run();
        let end = Instant::now();
        let slices = trace::stop_timeline();
        outcome?;
        let (exchanges, slices) = slices.into_iter().partition(|slice| slice.phase.label == EXCHANGE);
        Ok(Run { start, end, slices, exchanges })
    }
}

/// Whole runs, seconds each.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Runs {
    /// As they are without a profiler.
    pub untraced_s: Vec<f64>,
    /// With every launch timed.
    pub traced_s: Vec<f64>,
}

#[cfg(test)]
mod tests;
