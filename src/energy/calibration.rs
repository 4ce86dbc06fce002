//! How a counter moves, learnt before it is trusted.

use super::Meter;
use crate::error::{Error, Result};
use crate::units::{Joules, Seconds, Watts};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// Time to spend at most, changes of the counter to see, and time between two looks at it.
const LONGEST: Duration = Duration::from_millis(1500);
const CHANGES: usize = 6;
const LOOK: Duration = Duration::from_millis(2);

/// What was learnt about a counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// How far apart in time two values of the counter are.
    #[serde(rename = "update_period_s")]
    pub update_period: Seconds,
    /// Energy counted over energy integrated from the power sensor; absent without one.
    #[serde(rename = "counter_over_integrated")]
    pub ratio: Option<f64>,
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "counter every {}, ", self.update_period)?;
        match self.ratio {
            Some(ratio) => write!(f, "counter/integrated {ratio:.2}"),
            None => write!(f, "no power sensor"),
        }
    }
}

/// Watches `meter` from one change of its counter to another.
pub fn calibrate(meter: &mut dyn Meter) -> Result<Calibration> {
    let start = Instant::now();
    let mut last = meter.read()?;
    let mut changes: Vec<(Instant, Joules)> = Vec::with_capacity(CHANGES + 1);
    let mut integral = Joules(0.0);
    let mut power: Option<(Instant, Watts)> = None;
    while changes.len() <= CHANGES && start.elapsed() < LONGEST {
        thread::sleep(LOOK);
        let (now, at) = (meter.read()?, Instant::now());
        let sampled = meter.sample().power.map(|power| (at, power));
        if let (Some((before, old)), Some((_, new)), false) = (power, sampled, changes.is_empty()) {
            integral += Joules((old.0 + new.0) / 2.0 * at.duration_since(before).as_secs_f64());
        }
        power = sampled;
        if now != last {
            changes.push((at, now));
            last = now;
        }
    }
    let longest = changes.windows(2).map(|pair| pair[1].0.duration_since(pair[0].0)).max();
    let (Some(longest), Some(first), Some(end)) = (longest, changes.first(), changes.last()) else {
        let waited = Seconds::from(start.elapsed());
        return Err(Error::Device(format!("no sensor: the energy counter did not move in {waited}")));
    };
    let counted = end.1.0 - first.1.0;
    let ratio = (integral.0 > 0.0).then(|| counted / integral.0);
    Ok(Calibration { update_period: longest.into(), ratio })
}
