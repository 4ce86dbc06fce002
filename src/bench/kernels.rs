//! The time of every kernel on the cases that the tests use, with what each launch computes and moves.

use super::repeat;
use crate::cases::Case;
use crate::cases::trial::Trial;
use crate::device::plan::{Plan, Recording};
use crate::device::{Cost, Device};
use crate::disturbance::{Conditions, Watch};
use crate::energy::{Sampler, Window};
use crate::error::{Error, Result};
use crate::stats::{Quantiles, quantiles};
use crate::tensor::Tensor;
use crate::trace;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One kernel in one case, forward and backward together.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    pub op: &'static str,
    pub case: String,
    pub kernel: &'static str,
    pub calls: u64,
    /// Times of all calls of one run.
    #[serde(flatten)]
    pub quantiles: Quantiles,
    pub runs: usize,
    /// As the plan counts them, of one run.
    pub flops: u64,
    pub bytes: u64,
    pub exponentials: u64,
    /// Of the case.
    pub conditions: Conditions,
}

/// Runs `case` forward and backward for at least `warm_up`, then for at least `time`; `sampler` sees what the device's
/// sensors say meanwhile.
pub fn measure(
    case: &Case,
    device: &Device,
    warm_up: Duration,
    time: Duration,
    sampler: &Sampler,
) -> Result<Vec<Measured>> {
    let recording = plan(case, device)?;
    let trial = Trial::new(case, device, device.precision())?;
    let upstream = trial.upstream(&trial.forward()?.1)?;
    let step = || repeat::step(device, &recording.layout, || run(&trial, &upstream));
    let start = Instant::now();
    step()?;
    while start.elapsed() < warm_up {
        step()?;
    }
    let mut seconds: BTreeMap<&'static str, (u64, Vec<f64>)> = BTreeMap::new();
    let (window, watch) = (Window::start(sampler), Watch::start());
    let (start, mut runs) = (Instant::now(), 0);
    while runs == 0 || start.elapsed() < time {
        trace::start_timing();
        let outcome = step();
        let timings = trace::stop_timing();
        outcome?;
        runs += 1;
        let mut of_run: BTreeMap<&'static str, (u64, f64)> = BTreeMap::new();
        for ((_, kernel), timing) in timings {
            let sum = of_run.entry(kernel).or_default();
            sum.0 += timing.calls;
            sum.1 += timing.time.as_secs_f64();
        }
        for (kernel, (calls, sum)) in of_run {
            let all = seconds.entry(kernel).or_default();
            all.0 = calls;
            all.1.push(sum);
        }
    }
    let conditions = window.stop().judge(watch.stop());
    let costs = costs(&recording);
    let measured = seconds.into_iter().map(|(kernel, (calls, seconds))| {
        let cost = costs.get(kernel).copied().unwrap_or_default();
        Ok(Measured {
            op: case.op,
            case: case.name.clone(),
            kernel,
            calls,
            quantiles: quantiles(&seconds).ok_or_else(|| Error::internal("no run was measured"))?,
            runs,
            flops: cost.flops.0,
            bytes: cost.bytes.0,
            exponentials: cost.exponentials,
            conditions: conditions.clone(),
        })
    });
    measured.collect()
}

/// The case's step on the plan executor.
fn plan(case: &Case, device: &Device) -> Result<Recording> {
    let plan = Plan::new(device.precision());
    let twin = Device::new(plan.clone());
    let trial = Trial::new(case, &twin, device.precision())?;
    let upstream = trial.upstream(&trial.forward()?.1)?;
    plan.record();
    let outcome = run(&trial, &upstream);
    let recording = plan.finish()?;
    outcome?;
    Ok(recording)
}

fn run(trial: &Trial, upstream: &[Tensor]) -> Result<()> {
    let (tape, outputs) = trial.forward()?;
    trial.backward(tape, outputs, upstream.to_vec(), &mut trial.gradients()?)?;
    Ok(())
}

fn costs(recording: &Recording) -> BTreeMap<&'static str, Cost> {
    let mut costs: BTreeMap<&'static str, Cost> = BTreeMap::new();
    for launch in &recording.launches {
        *costs.entry(launch.kernel).or_default() += launch.cost;
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use crate::energy::NoSensor;

    #[test]
    fn every_case_is_measured_and_every_kernel_has_the_cost_of_the_plan() {
        let device = Device::cpu();
        let sampler = Sampler::start(Box::new(NoSensor::new("none".into()))).unwrap();
        for case in cases::all() {
            let measured = measure(&case, &device, Duration::ZERO, Duration::ZERO, &sampler).unwrap();
            let planned = costs(&plan(&case, &device).unwrap());
            let names: Vec<&str> = measured.iter().map(|m| m.kernel).collect();
            assert_eq!(names, planned.keys().copied().collect::<Vec<_>>(), "{}: {}", case.op, case.name);
            assert!(measured.iter().all(|m| m.bytes > 0 && m.calls > 0), "{}: {}", case.op, case.name);
        }
    }
}
