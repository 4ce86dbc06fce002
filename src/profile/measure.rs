//! The time of work, whole and launch by launch.

use super::host::{self, Gaps};
use super::rows::{self, Key, Row};
use super::runs::{Run, Runs};
use crate::device::Device;
use crate::device::plan::{Launch, Recording};
use crate::device::repeater::{Launched, Repeater, Step};
use crate::disturbance::{Conditions, Watch};
use crate::energy::{Sampler, Window};
use crate::error::Result;
use crate::limits::Limits;
use crate::units::Seconds;
use crate::workload::Workload;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

/// Fewest runs of each kind, whatever time they take; and the most.
const LEAST: usize = 3;
const MOST: usize = 200;

/// Traced runs whose launches are kept.
const KEPT: usize = 3;

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Runs before the counted ones.
    pub warmup: usize,
    /// Time of the counted ones together.
    pub seconds: Seconds,
}

/// Whether the launches were those of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub launches: usize,
    /// What differs; absent where the plan has the same kernels in the same order, at the same cost when they
    /// first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
}

/// What was found.
pub struct Measured {
    pub runs: Runs,
    /// By phase and kernel, in order of the first launch; then the host's.
    pub rows: Vec<Row>,
    pub planned: Planned,
    pub conditions: Conditions,
    /// What every run launches, in order.
    pub steps: Vec<Step>,
    /// A few runs, for a timeline.
    pub kept: Vec<Run>,
}

impl Measured {
    pub fn launches(&self) -> impl Iterator<Item = &Launched> {
        self.steps.iter().flat_map(|step| &step.launches)
    }
}

/// Does `work`, whose device is `replay`, with and without tracing in turn; `between` is called after every
/// pair. `sampler` sees what the device's sensors say meanwhile.
pub fn measure(
    work: &mut dyn Workload,
    replay: &Rc<Repeater>,
    budget: Budget,
    limits: Option<&Limits>,
    sampler: &Sampler,
    between: &mut dyn FnMut(),
) -> Result<Measured> {
    replay.record();
    let first = work.run();
    let steps = replay.recorded();
    first?;
    for _ in 1..budget.warmup {
        work.run()?;
    }
    let precision = Device::new(replay.clone()).precision();
    let launches = || steps.iter().flat_map(|step| &step.launches);
    let mut rows = rows::of_launches(launches(), limits, precision);
    let places: HashMap<Key, usize> =
        rows.iter().enumerate().map(|(place, row)| (row.key.clone(), place)).collect();
    let mut difference = unlike_the_plan(&steps, &work.recordings());
    let mut runs = Runs::default();
    let (mut kept, mut gaps, mut exchanges) = (Vec::new(), Vec::new(), Vec::new());
    let (began, window, watch) = (Instant::now(), Window::start(sampler), Watch::start());
    while runs.traced_s.len() < LEAST
        || (runs.traced_s.len() < MOST && work.any(Seconds::from(began.elapsed()) < budget.seconds))
    {
        let start = Instant::now();
        work.run()?;
        runs.untraced_s.push(start.elapsed().as_secs_f64());
        let run = Run::of(work)?;
        runs.traced_s.push((run.end - run.start).as_secs_f64());
        let same = run.slices.iter().map(|s| (s.phase, s.kernel));
        if difference.is_none() && !same.eq(launches().map(|l| (l.phase, l.kernel))) {
            difference = Some("a run launched other kernels than the one before".into());
        }
        rows.iter_mut().for_each(|row| row.seconds.push(0.0));
        for slice in &run.slices {
            let sum = places.get(&Key::new(slice.phase, slice.kernel));
            if let Some(sum) = sum.and_then(|&place| rows[place].seconds.last_mut()) {
                *sum += (slice.end - slice.start).as_secs_f64();
            }
        }
        gaps.push(Gaps::of(&run, &steps));
        exchanges.push(run.exchanges.clone());
        if kept.len() < KEPT {
            kept.push(run);
        }
        between();
    }
    let conditions = window.stop().judge(watch.stop());
    rows.extend(rows::of_exchanges(&exchanges));
    rows.extend(host::rows(&gaps, &runs));
    let planned = Planned { launches: launches().count(), difference };
    Ok(Measured { runs, rows, planned, conditions, steps, kept })
}

/// The first difference between what ran and what was planned.
fn unlike_the_plan(steps: &[Step], recordings: &[&Recording]) -> Option<String> {
    for (number, step) in steps.iter().enumerate() {
        let Some(plan) = recordings.iter().find(|recording| Rc::ptr_eq(&recording.layout, &step.layout))
        else {
            return Some(format!("step {number} has no plan"));
        };
        let [ran, planned] = [step.launches.len(), plan.launches.len()];
        if ran != planned {
            return Some(format!("step {number} launched {ran} kernels where {planned} were planned"));
        }
        // A decoding step is planned once, and costs more the more tokens it follows.
        let again = steps[..number].iter().any(|before| Rc::ptr_eq(&before.layout, &step.layout));
        let other = |(l, p): &(&Launched, &Launch)| {
            (l.kernel, l.phase) != (p.kernel, p.phase) || (!again && l.cost != p.cost)
        };
        if let Some((l, p)) = step.launches.iter().zip(&plan.launches).find(other) {
            return Some(format!(
                "step {number} launched {} in {} where {} in {} was planned, or at another cost",
                l.kernel, l.phase.label, p.kernel, p.phase.label
            ));
        }
    }
    None
}
