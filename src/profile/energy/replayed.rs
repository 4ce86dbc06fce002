//! Each phase launched again and again for seconds: its power is that of the time, its energy power times the
//! time that a step spends in it.

use super::Phase;
use crate::device::Device;
use crate::device::repeater::{Repeater, Step, Target};
use crate::energy::{Sampler, Window};
use crate::error::{Error, Result};
use crate::profile::rows::{Key, Row};
use crate::trace;
use crate::units::{Bytes, Seconds, Watts};
use crate::workload::Workload;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Repetition {
    /// Length of one trial.
    pub seconds: Seconds,
    pub trials: usize,
    /// Between trials.
    pub cooldown: Seconds,
}

/// The energy of a step and of its phases.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Replayed {
    pub seconds: f64,
    pub trials: usize,
    /// Power when nothing runs, before and after all trials.
    pub idle_before_w: f64,
    pub idle_after_w: f64,
    /// Whole steps, one after the other.
    pub step: Phase,
    pub phases: Vec<Phase>,
    /// Energy of the step less that of its phases.
    pub residual_j: f64,
}

/// Work to give the device between two looks whether it is done, and how often it is done at most for that.
const TOGETHER: Seconds = Seconds(0.01);
const MOST: f64 = 1000.0;

/// Measures `work`, whose steps and rows by phase are known; the reason where the sensor or the memory does
/// not allow it.
///
/// A phase that several steps have is repeated as the middle one of them has it. The optimizer goes last:
/// repeated, it moves the weights as often. The host's work between launches is repeated as steps that launch nothing.
pub fn replayed(
    work: &mut dyn Workload,
    replay: &Rc<Repeater>,
    sampler: &Rc<Sampler>,
    known: (&[Step], &[Row], Seconds),
    how: Repetition,
    progress: &mut dyn FnMut(&str),
) -> Result<Result<Replayed, String>> {
    let (steps, rows, step_time) = known;
    let device = Device::new(replay.clone());
    if let Err(why) = fits(&device, steps) {
        return Ok(Err(why));
    }
    let targets = targets(steps);
    let mut idle = vec![idle_power(sampler, how)];
    let (mut whole, mut host) = (Vec::new(), Vec::new());
    let mut powers: Vec<Vec<Watts>> = vec![Vec::new(); targets.len()];
    let outcome = (|| -> Result<Result<(), String>> {
        for trial in 0..how.trials {
            progress(&format!("trial {} of {}: whole steps", trial + 1, how.trials));
            match repeat(&device, sampler, how, &mut |times| (0..times).try_for_each(|_| work.run()))? {
                Ok(power) => whole.push(power),
                Err(why) => return Ok(Err(why)),
            }
        }
        replay.keep_apart(true);
        // What steps without launches then read is this one's.
        work.run()?;
        for trial in 0..how.trials {
            progress(&format!("trial {} of {}: the host alone", trial + 1, how.trials));
            replay.launch_nothing(true);
            let power = repeat(&device, sampler, how, &mut |times| (0..times).try_for_each(|_| work.run()));
            replay.launch_nothing(false);
            match power? {
                Ok(power) => host.push(power),
                Err(why) => return Ok(Err(format!("the host: {why}"))),
            }
        }
        let is_last = |target: &Target| target.phase.label == "optimizer";
        for last in [false, true] {
            for trial in 0..how.trials {
                for (target, powers) in targets.iter().zip(&mut powers).filter(|(t, _)| is_last(t) == last) {
                    let name = format!("{} {}", target.phase.pass.name(), target.phase.label);
                    progress(&format!("trial {} of {}: {name}", trial + 1, how.trials));
                    match repeat_phase(work, replay, sampler, *target, how)? {
                        Ok(power) => powers.push(power),
                        Err(why) => return Ok(Err(format!("{name}: {why}"))),
                    }
                }
            }
        }
        Ok(Ok(()))
    })();
    replay.keep_apart(false);
    if let Err(why) = outcome? {
        return Ok(Err(why));
    }
    idle.push(idle_power(sampler, how));
    let [before, after] = match idle.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(idle) => [idle[0], idle[1]],
        Err(why) => return Ok(Err(format!("the idle power: {why}"))),
    };
    let idle = Watts((before.0 + after.0) / 2.0);
    let step = phase(Key::default(), step_time, &whole, idle);
    let keys = targets.iter().map(|target| Key::new(target.phase, "")).chain([Key::host("")]);
    let phases: Vec<Phase> = keys
        .zip(powers.iter().chain([&host]))
        .map(|(key, powers)| {
            let key = key.phase();
            let time = rows.iter().find(|row| row.key == key).map_or(Seconds(0.0), Row::time);
            phase(key, time, powers, idle)
        })
        .collect();
    let sum: f64 = phases.iter().map(|phase| phase.energy_j).sum();
    Ok(Ok(Replayed {
        seconds: how.seconds.0,
        trials: how.trials,
        idle_before_w: before.0,
        idle_after_w: after.0,
        residual_j: step.energy_j - sum,
        step,
        phases,
    }))
}

/// Whether there is memory for the blocks of the largest step beside each other.
fn fits(device: &Device, steps: &[Step]) -> Result<(), String> {
    let needed = steps.iter().map(|step| step.layout.apart().peak()).max().unwrap_or(0);
    let free = device.free().map(|free| free + device.used().arena);
    match free {
        Some(free) if free < needed => Err(format!(
            "repeating a phase needs {} for the tensors of a whole step, and {} is free: choose a smaller batch, \
             or --energy in-place",
            Bytes(needed as u64),
            Bytes(free as u64)
        )),
        _ => Ok(()),
    }
}

/// Every phase, in order of its first launch, in the middle one of the steps that have it.
fn targets(steps: &[Step]) -> Vec<Target> {
    let mut found: Vec<(trace::Phase, Vec<usize>)> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        for launched in &step.launches {
            match found.iter_mut().find(|(phase, _)| *phase == launched.phase) {
                Some((_, steps)) if steps.last() == Some(&number) => {}
                Some((_, steps)) => steps.push(number),
                None => found.push((launched.phase, vec![number])),
            }
        }
    }
    found.into_iter().map(|(phase, steps)| Target { step: steps[steps.len() / 2], phase }).collect()
}

fn idle_power(sampler: &Sampler, how: Repetition) -> Result<Watts, String> {
    thread::sleep(duration(how.cooldown));
    let window = Window::start(sampler);
    thread::sleep(duration(how.seconds));
    let measured = window.stop();
    measured.power().ok_or(measured.note)
}

fn duration(seconds: Seconds) -> Duration {
    Duration::try_from_secs_f64(seconds.0).unwrap_or_default()
}

/// Runs a whole step, then the launches of `target` in it again and again.
fn repeat_phase(
    work: &mut dyn Workload,
    replay: &Rc<Repeater>,
    sampler: &Rc<Sampler>,
    target: Target,
    how: Repetition,
) -> Result<Result<Watts, String>> {
    let found = Rc::new(RefCell::new(None));
    let (device, sampler, power) = (Device::new(replay.clone()), sampler.clone(), found.clone());
    let act = move |phase: &dyn Fn(usize) -> Result<()>| {
        power.replace(Some(repeat(&device, &sampler, how, &mut |times| phase(times))?));
        Ok(())
    };
    replay.arm(target, Box::new(act));
    work.run()?;
    replay.finish()?;
    found.take().ok_or_else(|| Error::internal("a phase was repeated and not measured"))
}

/// Mean power while `work` is done again and again, or why it is not known.
fn repeat(
    device: &Device,
    sampler: &Sampler,
    how: Repetition,
    work: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Result<Watts, String>> {
    thread::sleep(duration(how.cooldown));
    let mut timed = |times| -> Result<Seconds> {
        let start = Instant::now();
        work(times)?;
        device.synchronize()?;
        Ok(start.elapsed().into())
    };
    // The first runs load kernels and record graphs.
    timed(1)?;
    let once = timed(1)?;
    let times = (TOGETHER.0 / once.0).clamp(1.0, MOST) as usize;
    for _ in 0..if times > 1 { 2 } else { 0 } {
        timed(times)?;
    }
    let window = Window::start(sampler);
    let start = Instant::now();
    while Seconds::from(start.elapsed()) < how.seconds {
        timed(times)?;
    }
    let measured = window.stop();
    Ok(measured.power().ok_or(measured.note))
}

/// The figures of one phase from the power of its trials.
fn phase(key: Key, time: Seconds, trials: &[Watts], idle: Watts) -> Phase {
    let count = trials.len() as f64;
    let mean = trials.iter().map(|power| power.0).sum::<f64>() / count;
    let spread = trials.iter().map(|power| (power.0 - mean).powi(2)).sum::<f64>();
    // One trial says nothing of the spread.
    let standard_error_j = (trials.len() > 1).then(|| (spread / (count - 1.0) / count).sqrt() * time.0);
    let energy_j = mean * time.0;
    Phase {
        key,
        time_s: time.0,
        power_w: mean,
        energy_j,
        standard_error_j,
        above_idle_j: Some((mean - idle.0) * time.0),
        resolved: energy_j > 2.0 * standard_error_j.unwrap_or(0.0),
        at_most_j: standard_error_j.map(|error| energy_j + 2.0 * error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cost;
    use crate::device::repeater::Launched;
    use crate::trace::Pass;

    #[test]
    fn every_phase_is_repeated_where_it_is_in_the_middle() {
        let step = |labels: &[&'static str]| Step {
            layout: Rc::default(),
            launches: labels
                .iter()
                .map(|&label| Launched {
                    kernel: "k",
                    phase: trace::Phase { label, pass: Pass::Forward },
                    cost: Cost::default(),
                    live: 0,
                })
                .collect(),
        };
        let steps = [
            step(&["encoder", "encoder"]),
            step(&["decoder"]),
            step(&["decoder", "head"]),
            step(&["decoder"]),
        ];
        let found: Vec<_> = targets(&steps).iter().map(|t| (t.phase.label, t.step)).collect();
        assert_eq!(found, [("encoder", 0), ("decoder", 2), ("head", 2)]);
    }
}
