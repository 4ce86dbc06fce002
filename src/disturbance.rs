//! Whether other work on the machine, or heat, held up what was measured.

mod gpu;

pub use gpu::{Gpu, Throttle};

use crate::units::percent;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::time::Instant;

/// Share of the processor time it wanted, and of its time at full clocks, below which a measurement is disturbed.
const LEAST: f64 = 0.9;
/// Units of /proc/stat in a second, by the kernel's interface to user space.
const TICKS: f64 = 100.0;

/// In what conditions something was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// CPU time over CPU time and the time for which threads waited for a processor, less what a hypervisor took;
    /// absent where the system does not count it.
    pub processor_share: Option<f64>,
    /// Processors that other processes kept busy, on average.
    pub other_processes: Option<f64>,
    /// The average of the last minute, at the end.
    pub load: Option<f64>,
    /// Share of the samples in which heat or a power limit held the clocks of the device down.
    pub throttled: f64,
    /// What the sensors of a GPU said; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// Why the measurement is not to be relied on; absent where nothing speaks against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disturbed: Option<String>,
}

/// The system's counters at a moment.
#[derive(Debug, Clone, Default)]
struct Counters {
    /// Nanoseconds that each thread of this process ran, and waited to run (/proc/PID/task/TID/schedstat).
    threads: HashMap<String, [u64; 2]>,
    /// Ticks that all processors were busy, and that a hypervisor took (/proc/stat).
    machine: Option<[u64; 2]>,
    /// How often heat held any core down.
    hot: u64,
}

/// Conditions since a moment.
pub struct Watch {
    start: Instant,
    before: Counters,
}

impl Watch {
    pub fn start() -> Self {
        Watch { start: Instant::now(), before: Counters::now() }
    }

    /// The conditions until now.
    pub fn stop(&self) -> Conditions {
        let (seconds, now) = (self.start.elapsed().as_secs_f64(), Counters::now());
        let load = fs::read_to_string("/proc/loadavg").ok();
        let load = load.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Conditions::between(&self.before, &now, seconds, load)
    }
}

impl Counters {
    fn now() -> Self {
        let mut threads = HashMap::new();
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let numbers = fs::read_to_string(task.path().join("schedstat")).ok().and_then(|text| {
                let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
                Some([numbers.next()??, numbers.next()??])
            });
            if let Some(numbers) = numbers {
                threads.insert(task.file_name().to_string_lossy().into_owned(), numbers);
            }
        }
        let machine = fs::read_to_string("/proc/stat").ok().and_then(|text| {
            // user, nice, system, idle, iowait, irq, softirq, steal.
            let line = text.lines().next()?.strip_prefix("cpu ")?;
            let ticks: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
            Some([ticks.get(..3)?.iter().sum(), *ticks.get(7)?])
        });
        let counts = (0..1024).map_while(|core| {
            let file = format!("/sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count");
            fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
        });
        Counters { threads, machine, hot: counts.sum() }
    }
}

impl Conditions {
    fn between(before: &Counters, now: &Counters, seconds: f64, load: Option<f64>) -> Conditions {
        let (mut ran, mut waited) = (0.0, 0.0);
        for (thread, [run, wait]) in &now.threads {
            let [run_before, wait_before] = before.threads.get(thread).copied().unwrap_or_default();
            ran += run.saturating_sub(run_before) as f64 * 1e-9;
            waited += wait.saturating_sub(wait_before) as f64 * 1e-9;
        }
        let machine = now
            .machine
            .zip(before.machine)
            .map(|(now, before)| [0, 1].map(|at| now[at].saturating_sub(before[at]) as f64 / TICKS));
        let stolen =
            machine.map_or(0.0, |[busy, steal]| if steal > 0.0 { steal / (busy + steal) } else { 0.0 });
        let processor_share = (ran > 0.0).then(|| ran / (ran + waited) * (1.0 - stolen));
        let other_processes = machine.map(|[busy, _]| ((busy - ran) / seconds).max(0.0));
        let mut reasons = Vec::new();
        if let Some(share) = processor_share.filter(|share| *share < LEAST) {
            let others = other_processes.map_or(String::new(), |n| format!("; other processes used {n:.1}"));
            reasons.push(format!("it got {} of the processor time that it wanted{others}", percent(share)));
        }
        if now.hot > before.hot {
            reasons.push("heat held the processor's clocks down".into());
        }
        let disturbed = (!reasons.is_empty()).then(|| reasons.join("; "));
        Conditions { processor_share, other_processes, load, disturbed, ..Conditions::default() }
    }

    /// With what the device's sensors say: the share of the samples in which its clocks were held down, and the rest.
    pub fn sensed(mut self, throttled: f64, gpu: Option<&Gpu>) -> Self {
        self.throttled = throttled;
        if throttled > 1.0 - LEAST {
            let by = gpu.map(Gpu::throttles).filter(|by| !by.is_empty());
            let by = by.unwrap_or_else(|| "heat or a power limit".into());
            let of = percent(throttled);
            self.add(&format!("{by} held the device's clocks down in {of} of the samples"));
        }
        if let Some(why) = gpu.and_then(Gpu::others) {
            self.add(&why);
        }
        self.gpu = gpu.cloned();
        self
    }

    /// Both together: the smaller share, and all that speaks against either.
    pub fn and(mut self, other: &Conditions) -> Self {
        let least = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::min);
        let most = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        self.processor_share = least(self.processor_share, other.processor_share);
        self.other_processes = most(self.other_processes, other.other_processes);
        self.load = most(self.load, other.load);
        self.throttled = self.throttled.max(other.throttled);
        self.gpu = match (self.gpu, &other.gpu) {
            (Some(one), Some(two)) => Some(one.and(two)),
            (one, two) => one.or_else(|| two.clone()),
        };
        other.disturbed.iter().for_each(|why| self.add(why));
        self
    }

    /// A line for whoever measured it, with what to do.
    pub fn warning(&self) -> Option<String> {
        let why = self.disturbed.as_ref()?;
        Some(format!(
            "measured on a disturbed machine: {why}; end other work, let it cool, and measure again"
        ))
    }

    fn add(&mut self, why: &str) {
        self.disturbed = Some(match self.disturbed.take() {
            Some(before) => format!("{before}; {why}"),
            None => why.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(threads: &[(&str, u64, u64)], machine: [u64; 2]) -> Counters {
        let of = |&(name, run, wait): &(&str, u64, u64)| (name.to_string(), [run, wait]);
        Counters { threads: threads.iter().map(of).collect(), machine: Some(machine), hot: 0 }
    }

    #[test]
    fn waiting_for_a_processor_is_a_disturbance_and_idling_is_none() {
        const SECOND: u64 = 1_000_000_000;
        let before = counters(&[("1", 5 * SECOND, SECOND)], [1000, 50]);
        // One thread ran for 2 s of the 4 s and waited for none; other processes used half a processor.
        let idle = counters(&[("1", 7 * SECOND, SECOND)], [1400, 50]);
        let found = Conditions::between(&before, &idle, 4.0, Some(1.5));
        assert_eq!((found.processor_share, found.other_processes), (Some(1.0), Some(0.5)));
        assert_eq!((found.load, found.disturbed), (Some(1.5), None));
        // Two threads ran for 3 s and waited for 1 s; a second one is new.
        let held_up = counters(&[("1", 7 * SECOND, 2 * SECOND), ("2", SECOND, 0)], [1900, 50]);
        let found = Conditions::between(&before, &held_up, 4.0, None);
        assert_eq!(found.processor_share, Some(0.75));
        assert!(found.disturbed.unwrap().contains("75.0 %"));
        // A hypervisor took a fifth of what the machine had to give.
        let stolen = counters(&[("1", 7 * SECOND, SECOND)], [1400, 150]);
        let found = Conditions::between(&before, &stolen, 4.0, None);
        assert!((found.processor_share.unwrap() - 0.8).abs() < 1e-12 && found.disturbed.is_some());
    }

    #[test]
    fn held_down_clocks_are_a_disturbance_of_their_own() {
        let still = counters(&[("1", 5, 0)], [0, 0]);
        let quiet = Conditions::between(&still, &still, 1.0, None);
        assert_eq!((quiet.processor_share, quiet.warning()), (None, None), "nothing ran");
        let found = quiet.clone().sensed(0.25, None);
        assert!(found.disturbed.as_ref().unwrap().contains("25.0 % of the samples"));
        let cap = Gpu { throttled_by: [(Throttle::PowerCap, 0.25)].into(), ..Gpu::default() };
        let capped = quiet.clone().sensed(0.25, Some(&cap));
        assert!(capped.disturbed.unwrap().starts_with("its power limit held"));
        assert_eq!(capped.gpu, Some(cap));
        let hot = Counters { hot: 1, ..still.clone() };
        let hot = Conditions::between(&still, &hot, 1.0, None);
        assert!(hot.disturbed.is_some() && quiet.clone().sensed(0.0, None) == quiet);
        let both = hot.and(&found);
        assert!(both.throttled == 0.25 && both.disturbed.unwrap().contains("; heat or a power limit"));
    }
}
