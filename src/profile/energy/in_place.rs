//! Energy by phase of steps as they are: what the counter gained is explained by the time in each phase.

use super::Phase;
use crate::energy::{Sampler, Share, attribute, intervals};
use crate::error::Result;
use crate::profile::rows::Key;
use crate::profile::runs::Run;
use crate::trace;
use crate::units::Seconds;
use crate::workload::Workload;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// The energy of a step and of its phases.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct InPlace {
    /// Steps that were run, every launch of them timed.
    pub steps: u64,
    /// Stretches between two changes of the counter.
    pub intervals: usize,
    pub step: Phase,
    pub phases: Vec<Phase>,
    /// What is spent between phases.
    pub rest: Phase,
    /// Energy of the step less that of its phases and of the rest.
    pub residual_j: f64,
}

/// Does `work` for `seconds`, and attributes the energy to `phases`; the reason where the sensor does not
/// allow it.
pub fn in_place(
    work: &mut dyn Workload,
    sampler: &Sampler,
    phases: &[trace::Phase],
    seconds: Seconds,
) -> Result<Result<InPlace, String>> {
    let mut slices: Vec<(usize, Instant, Instant)> = Vec::new();
    sampler.record_changes();
    let began = Instant::now();
    let (mut steps, mut busy) = (0, 0.0);
    while steps == 0 || Seconds::from(began.elapsed()) < seconds {
        let run = Run::of(work)?;
        steps += 1;
        busy += (run.end - run.start).as_secs_f64();
        // A phase lasts to the end of the last of its launches that follow each other.
        for stretch in run.slices.chunk_by(|a, b| a.phase == b.phase) {
            if let Some(phase) = phases.iter().position(|phase| *phase == stretch[0].phase) {
                slices.push((phase, stretch[0].start, stretch[stretch.len() - 1].end));
            }
        }
    }
    let changes = sampler.stop_changes();
    let intervals = intervals(&changes, &slices, phases.len());
    let attribution = match attribute(&intervals, phases.len()) {
        Ok(attribution) => attribution,
        Err(why) => return Ok(Err(why.to_string())),
    };
    // The counter's first and last change are inside of the steps.
    let covered: f64 = intervals.iter().map(|interval| interval.time.0).sum();
    let count = covered / (busy / steps as f64);
    let of = |key: Key, share: &Share| Phase {
        key,
        time_s: share.time.0 / count,
        power_w: share.power.0,
        energy_j: share.energy.0 / count,
        standard_error_j: Some(share.standard_error.0 / count).filter(|error| error.is_finite()),
        above_idle_j: None,
        resolved: share.resolved,
        at_most_j: Some(share.at_most.0 / count).filter(|most| most.is_finite()),
    };
    let named = phases.iter().map(|phase| Key { kernel: None, ..Key::new(*phase, "") });
    let total = attribution.total.0;
    let step = Phase {
        time_s: covered / count,
        power_w: total / covered,
        energy_j: total / count,
        resolved: true,
        ..Phase::default()
    };
    Ok(Ok(InPlace {
        steps,
        intervals: intervals.len(),
        step,
        phases: named.zip(&attribution.phases).map(|(key, share)| of(key, share)).collect(),
        rest: of(Key::default(), &attribution.rest),
        residual_j: attribution.residual.0 / count,
    }))
}
