//! What a GPU's sensors say of the conditions of a measurement: who else computes on it, its clocks and power caps, and
//! what held the clocks down.

use super::LEAST;
use crate::units::{Watts, percent};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What holds the clocks of a GPU down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Throttle {
    /// The limit that its driver is set to.
    PowerCap,
    Heat,
    /// A signal of the machine's power supply.
    PowerBrake,
    /// The GPU slows itself down and gives no further reason.
    Slowdown,
}

impl Throttle {
    const fn name(self) -> &'static str {
        match self {
            Throttle::PowerCap => "its power limit",
            Throttle::Heat => "heat",
            Throttle::PowerBrake => "the machine's power supply",
            Throttle::Slowdown => "a slowdown of the hardware",
        }
    }
}

/// A GPU during a measurement; absent is what it does not report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// Mean clock of the multiprocessors, and the highest that they can have.
    pub clock_mhz: Option<f64>,
    pub max_clock_mhz: Option<f64>,
    /// The power limit that was in force, the smallest at any time, and the one that the GPU comes with.
    pub power_limit_w: Option<Watts>,
    pub default_power_limit_w: Option<Watts>,
    /// Other processes that computed on it at once, at the most.
    pub other_processes: Option<u32>,
    /// Share of the time in which their kernels ran, 0 to 1.
    pub others_utilisation: Option<f64>,
    /// Share of the samples in which each of these held the clocks down, 0 to 1.
    pub throttled_by: BTreeMap<Throttle, f64>,
}

impl Gpu {
    /// Why a measurement beside other work on the GPU is not to be relied on.
    pub(super) fn others(&self) -> Option<String> {
        let count = self.other_processes.filter(|count| *count > 0)?;
        let (who, compute) = match count {
            1 => ("1 other process".to_string(), "computes"),
            many => (format!("{many} other processes"), "compute"),
        };
        match self.others_utilisation {
            Some(share) if share <= 1.0 - LEAST => None,
            Some(share) => {
                Some(format!("{who} {compute} on the GPU and had it for {} of the time", percent(share)))
            }
            None => Some(format!("{who} {compute} on the GPU, and it does not report how much")),
        }
    }

    /// What held the clocks down, the most frequent first; empty where that is not known.
    pub(super) fn throttles(&self) -> String {
        let mut all: Vec<_> = self.throttled_by.iter().filter(|(_, share)| **share > 0.0).collect();
        all.sort_by(|a, b| b.1.total_cmp(a.1));
        all.iter().map(|(throttle, _)| throttle.name()).collect::<Vec<_>>().join(" and ")
    }

    /// Both stretches together: means of what is a mean, and of all others what is less favourable.
    pub fn and(&self, other: &Gpu) -> Gpu {
        fn both<T>(a: Option<T>, b: Option<T>, of: impl Fn(T, T) -> T) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(of(a, b)),
                (a, b) => a.or(b),
            }
        }
        let mut throttled_by = self.throttled_by.clone();
        for (throttle, share) in &other.throttled_by {
            let most = throttled_by.entry(*throttle).or_insert(*share);
            *most = most.max(*share);
        }
        let limit = |a: Option<Watts>, b| both(a, b, |a: Watts, b: Watts| Watts(a.0.min(b.0)));
        Gpu {
            clock_mhz: both(self.clock_mhz, other.clock_mhz, |a, b| (a + b) / 2.0),
            max_clock_mhz: both(self.max_clock_mhz, other.max_clock_mhz, f64::max),
            power_limit_w: limit(self.power_limit_w, other.power_limit_w),
            default_power_limit_w: limit(self.default_power_limit_w, other.default_power_limit_w),
            other_processes: both(self.other_processes, other.other_processes, u32::max),
            others_utilisation: both(self.others_utilisation, other.others_utilisation, f64::max),
            throttled_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_processes_disturb_by_what_they_compute() {
        let of = |other_processes, others_utilisation| {
            Gpu { other_processes, others_utilisation, ..Gpu::default() }.others()
        };
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some(0), None), None);
        assert_eq!(of(Some(1), Some(0.05)), None, "one that rests");
        assert!(of(Some(1), Some(0.4)).unwrap().contains("40.0 %"));
        assert!(of(Some(3), None).unwrap().starts_with("3 other processes"));
    }

    #[test]
    fn two_stretches_have_the_less_favourable_of_each() {
        let by = |share| BTreeMap::from([(Throttle::Heat, share)]);
        let a = Gpu {
            clock_mhz: Some(1000.0),
            power_limit_w: Some(Watts(300.0)),
            other_processes: Some(1),
            throttled_by: by(0.5),
            ..Gpu::default()
        };
        let b = Gpu {
            clock_mhz: Some(2000.0),
            power_limit_w: Some(Watts(400.0)),
            throttled_by: by(0.25),
            ..Gpu::default()
        };
        let both = a.and(&b);
        assert_eq!((both.clock_mhz, both.power_limit_w), (Some(1500.0), Some(Watts(300.0))));
        assert_eq!((both.other_processes, both.throttles()), (Some(1), "heat".to_string()));
        assert_eq!(both.throttled_by, by(0.5));
    }
}
