//! The conditions on a GPU, summed up over the samples of a window.

use super::Mean;
use crate::disturbance::{Gpu, Throttle};
use crate::energy::Sample;
use std::collections::BTreeMap;

/// What a GPU said of its conditions.
#[derive(Default)]
pub(super) struct Card {
    seen: Gpu,
    others: Mean,
    samples: u64,
    throttled: BTreeMap<Throttle, u64>,
}

impl Card {
    pub fn add(&mut self, sample: &Sample) {
        self.samples += 1;
        self.others.add(sample.others_utilisation);
        if let Some(by) = sample.throttled_by {
            *self.throttled.entry(by).or_default() += 1;
        }
        self.seen = self.seen.and(&Gpu {
            max_clock_mhz: sample.max_clock_mhz,
            power_limit_w: sample.power_limit,
            default_power_limit_w: sample.default_power_limit,
            other_processes: sample.other_processes,
            ..Gpu::default()
        });
    }

    /// None where the sensors are no GPU's.
    pub fn conditions(&self, clock_mhz: Option<f64>) -> Option<Gpu> {
        let share = |count: &u64| *count as f64 / self.samples as f64;
        let throttled_by = self.throttled.iter().map(|(by, count)| (*by, share(count))).collect();
        let others_utilisation = self.others.value();
        let found = Gpu { clock_mhz, others_utilisation, throttled_by, ..self.seen.clone() };
        (found != Gpu::default()).then_some(found)
    }
}
