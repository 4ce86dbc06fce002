//! The same launches again and again: for how long, with cold caches, and what the times say of the machine.

use crate::device::{Device, Layout};
use crate::disturbance::{Conditions, Watch};
use crate::energy::{Sampler, Window};
use crate::error::Result;
use crate::shape::DType;
use crate::stats::{outliers, quantiles};
use crate::tensor::Tensor;
use crate::tensor::cast::cast;
use crate::trace::{self, Pass};
use crate::units::counted;
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// For how long.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    pub warm_up: Duration,
    /// Times of the counted runs; there are at least [`LEAST`].
    pub time: Duration,
}

/// Counted runs, however long they take.
pub const LEAST: usize = 3;
/// Fewer runs say little about their spread.
const ENOUGH: usize = 8;
/// Share of the runs outside of the fences from which the machine is not quiet.
const RESTLESS: f64 = 0.1;
/// Ratio of the second half's median to the first's from which a device has slowed down.
const SLOWED: f64 = 1.05;

/// Label of the launches that only clear the caches.
const FLUSH: &str = "cache flush";

/// The seconds of all launches of a pass, one value a run: on a GPU by its events, elsewhere by the host's
/// clock.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    pub forward: Vec<f64>,
    pub backward: Vec<f64>,
    pub conditions: Conditions,
}

/// Times that work is measured at most while other work disturbs it. `WATTENTION_BENCH_TRIES=1` takes what comes, for
/// whoever counts launches or shares a machine on purpose.
fn tries() -> usize {
    let asked = std::env::var("WATTENTION_BENCH_TRIES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(3)
}

/// Measures until nothing disturbs it, as often as [`tries`] says; of disturbed measurements the one with the largest
/// share of the processors.
pub(super) fn undisturbed<T>(
    mut measure: impl FnMut() -> Result<T>,
    conditions: impl Fn(&T) -> &Conditions,
) -> Result<T> {
    let mut best = measure()?;
    for _ in 1..tries() {
        if conditions(&best).disturbed.is_none() {
            break;
        }
        let again = measure()?;
        let (now, before) = (conditions(&again), conditions(&best));
        // Ranks agree on what was disturbed and not on shares, and all of them have to stop together.
        if now.disturbed.is_none() || now.processor_share >= before.processor_share {
            best = again;
        }
    }
    Ok(best)
}

/// Runs `run` for as long as `schedule` says, each time as one step on `device`, whose arena has `layout`; `sampler` sees
/// what the device's sensors say meanwhile.
pub fn repeat(
    device: &Device,
    layout: &Rc<Layout>,
    schedule: Schedule,
    sampler: &Sampler,
    run: impl Fn() -> Result<()>,
) -> Result<Samples> {
    let timed = || -> Result<(f64, f64)> {
        trace::start_timing();
        let outcome = step(device, layout, &run);
        let timings = trace::stop_timing();
        outcome?;
        let of = |pass: Pass| -> f64 {
            let own = timings.iter().filter(|((phase, _), _)| phase.pass == pass && phase.label != FLUSH);
            own.map(|(_, timing)| timing.time.as_secs_f64()).sum()
        };
        Ok((of(Pass::Forward), of(Pass::Backward)))
    };
    let start = Instant::now();
    timed()?;
    while start.elapsed() < schedule.warm_up {
        timed()?;
    }
    let measure = || {
        let mut samples = Samples::default();
        let (start, window, watch) = (Instant::now(), Window::start(sampler), Watch::start());
        while samples.forward.len() < LEAST || start.elapsed() < schedule.time {
            let (forward, backward) = timed()?;
            samples.forward.push(forward);
            samples.backward.push(backward);
        }
        samples.conditions = window.stop().judge(watch.stop());
        Ok(samples)
    };
    undisturbed(measure, |samples| &samples.conditions)
}

/// Runs `run` as one step, and waits for it.
pub(super) fn step(device: &Device, layout: &Rc<Layout>, run: impl Fn() -> Result<()>) -> Result<()> {
    device.begin_step(layout)?;
    match run() {
        Ok(()) => device.end_step()?,
        Err(error) => {
            device.abandon_step();
            return Err(error);
        }
    }
    device.synchronize()
}

/// Memory larger than any cache, rewritten between runs, so that each finds its operands in memory.
pub struct Flush {
    from: Tensor,
    to: Tensor,
}

impl Flush {
    /// None on the simulator, which has no cache of its own.
    pub fn new(device: &Device) -> Result<Option<Self>> {
        if device.name() == "sim" {
            return Ok(None);
        }
        let floats = largest_cache().max(64 << 20) * 2 / size_of::<f32>();
        let of = || Tensor::persistent(device, [floats], DType::F32);
        let flush = Flush { from: of()?, to: of()? };
        // Pages that nobody has written are one page.
        flush.from.write(&vec![1.0f32; floats])?;
        Ok(Some(flush))
    }

    /// Replaces what the caches hold; what it launches is counted nowhere.
    pub fn run(&self) -> Result<()> {
        let _phase = trace::phase(FLUSH);
        cast(&self.to, &self.from)
    }
}

/// Bytes of this processor's last level of cache, 0 where the system does not tell.
fn largest_cache() -> usize {
    let size = |index: usize| -> Option<usize> {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = fs::read_to_string(path).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok().map(|kib| kib << 10)
    };
    (0..8).filter_map(size).max().unwrap_or(0)
}

/// What makes `seconds` a poor measurement, each with what to do about it.
pub fn warnings(seconds: &[f64], conditions: &Conditions) -> Vec<String> {
    let mut warnings: Vec<String> = conditions.warning().into_iter().collect();
    if seconds.len() < ENOUGH {
        let runs = counted(seconds.len(), "run");
        let say = if seconds.len() == 1 { "says" } else { "say" };
        warnings.push(format!("{runs} {say} little about the spread: give it longer with --seconds"));
        return warnings;
    }
    let share = outliers(seconds) as f64 / seconds.len() as f64;
    if share > RESTLESS {
        warnings.push(format!(
            "{:.0} % of the runs are outliers: end other work on this machine, or \
             measure longer with --seconds",
            100.0 * share
        ));
    }
    let halves = seconds.split_at(seconds.len() / 2);
    if let (Some(first), Some(second)) = (quantiles(halves.0), quantiles(halves.1))
        && second.median_s > SLOWED * first.median_s
        && second.p20_s > first.p80_s
    {
        warnings.push(format!(
            "the second half of the runs took {:.0} % longer than the first, as when clocks fall: let the \
             device cool down, fix its clocks (on a GPU `nvidia-smi -lgc`), or end other work",
            100.0 * (second.median_s / first.median_s - 1.0)
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::NoSensor;

    #[test]
    fn a_quiet_device_gives_no_warning_and_each_trouble_its_own() {
        let quiet: Vec<f64> = (0..20).map(|i| 1.0 + 0.001 * f64::from(i % 4)).collect();
        let alone = Conditions::default();
        assert!(warnings(&quiet, &alone).is_empty(), "{:?}", warnings(&quiet, &alone));
        let says = |seconds: &[f64], part: &str| {
            let warnings = warnings(seconds, &alone);
            assert!(warnings.len() == 1 && warnings[0].contains(part), "{warnings:?}");
        };
        says(&quiet[..5], "5 runs");
        let mut restless = quiet.clone();
        restless.iter_mut().step_by(6).for_each(|second| *second = 3.0);
        says(&restless, "20 % of the runs are outliers");
        let slowing: Vec<f64> = (0..20).map(|i| if i < 10 { 1.0 } else { 1.2 }).collect();
        says(&slowing, "took 20 % longer");
        let hot = warnings(&quiet, &alone.clone().sensed(0.25, None));
        assert!(hot.len() == 1 && hot[0].contains("25.0 %"), "{hot:?}");
    }

    #[test]
    fn a_disturbed_measurement_is_taken_again_and_the_best_is_kept() {
        let tried = |shares: &[f64]| {
            let (mut left, mut tries) = (shares.iter(), 0);
            let measure = || {
                tries += 1;
                let share = *left.next().unwrap();
                let disturbed = (share < 0.9).then(|| "other work".to_string());
                Ok(Conditions { processor_share: Some(share), disturbed, ..Conditions::default() })
            };
            let found = undisturbed(measure, |conditions| conditions).unwrap();
            (found.processor_share.unwrap(), tries)
        };
        assert_eq!(tried(&[0.95]), (0.95, 1));
        assert_eq!(tried(&[0.5, 0.99]), (0.99, 2));
        assert_eq!(tried(&[0.5, 0.7, 0.6]), (0.7, 3));
    }

    /// It ends this rank's measurements with the others', though by its own share the first was the better one.
    #[test]
    fn of_a_rank_that_only_others_disturbed_the_first_quiet_measurement_counts() {
        let mut tries = 0;
        let measure = || {
            tries += 1;
            let (share, disturbed) = match tries {
                1 => (1.0, Some("another rank was disturbed".to_string())),
                _ => (0.95, None),
            };
            Ok(Conditions { processor_share: Some(share), disturbed, ..Conditions::default() })
        };
        let found = undisturbed(measure, |conditions| conditions).unwrap();
        assert_eq!((found.processor_share, found.disturbed, tries), (Some(0.95), None, 2));
    }

    #[test]
    fn runs_go_on_for_the_time_and_at_least_three_times() {
        let device = Device::cpu();
        let layout = Rc::new(Layout::default());
        let sampler = Sampler::start(Box::new(NoSensor::new("none".into()))).unwrap();
        let none = Schedule { warm_up: Duration::ZERO, time: Duration::ZERO };
        let (x, y) = (
            Tensor::persistent(&device, [1000], DType::F32).unwrap(),
            Tensor::persistent(&device, [1000], DType::F32).unwrap(),
        );
        let samples = repeat(&device, &layout, none, &sampler, || cast(&y, &x)).unwrap();
        assert_eq!((samples.forward.len(), samples.backward.len()), (LEAST, LEAST));
        assert!(samples.forward.iter().all(|&s| s > 0.0) && samples.backward.iter().all(|&s| s == 0.0));
        let flushed = repeat(&device, &layout, none, &sampler, || {
            let _phase = trace::phase(FLUSH);
            cast(&y, &x)
        });
        assert!(flushed.unwrap().forward.iter().all(|&s| s == 0.0), "a flush is counted nowhere");
        let long = Schedule { time: Duration::from_millis(20), ..none };
        let samples = repeat(&device, &layout, long, &sampler, || cast(&y, &x)).unwrap();
        assert!(samples.forward.len() > LEAST);
    }
}
