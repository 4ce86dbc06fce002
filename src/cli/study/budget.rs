//! How long a study may run, and how much energy it may take.

use crate::device::Device;
use crate::energy::{self, Meter};
use crate::error::{Error, Result};
use crate::units::Joules;
use std::cell::RefCell;
use std::time::Instant;

/// What [`super::watch::Watch`] gives for a signal when the budget is used up: no signal has this number.
pub const SPENT: i32 = 0;

/// A limit on this process's part of the study.
pub struct Budget {
    start: Instant,
    hours: Option<f64>,
    kwh: Option<f64>,
    /// Counts from its opening; there is one where `kwh` is set.
    meter: Option<RefCell<Box<dyn Meter>>>,
}

impl Budget {
    /// Fails for limits that mean nothing, and for an energy limit where nothing counts energy.
    pub fn new(hours: Option<f64>, kwh: Option<f64>, device: &Device) -> Result<Self> {
        for (flag, limit) in [("--max-hours", hours), ("--max-kwh", kwh)] {
            if limit.is_some_and(|limit| !(limit > 0.0 && limit.is_finite())) {
                return Err(Error::usage(format!("{flag} is {}; it must be above 0", limit.unwrap_or(0.0))));
            }
        }
        let meter = match kwh {
            None => None,
            Some(_) => {
                let mut meter = energy::open(device);
                meter.read().map_err(|why| {
                    Error::Device(format!(
                        "--max-kwh needs an energy counter: {why}; limit the time by --max-hours"
                    ))
                })?;
                Some(RefCell::new(meter))
            }
        };
        Ok(Budget { start: Instant::now(), hours, kwh, meter })
    }

    /// Which limit is reached, if one is.
    pub fn spent(&self) -> Option<String> {
        let hours = self.start.elapsed().as_secs_f64() / 3600.0;
        if self.hours.is_some_and(|most| hours >= most) {
            return Some(format!("the {} hours of --max-hours are over", self.hours.unwrap_or(0.0)));
        }
        let joules = self.meter.as_ref().and_then(|meter| meter.borrow_mut().read().ok());
        let kwh = joules.map(Joules::kwh);
        match (kwh, self.kwh) {
            (Some(kwh), Some(most)) if kwh >= most => Some(format!("the {most} kWh of --max-kwh are used")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_and_reached() {
        let cpu = Device::cpu();
        for limit in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Budget::new(Some(limit), None, &cpu).err().unwrap().exit_code(), 2);
        }
        assert_eq!(Budget::new(Some(1e9), None, &cpu).unwrap().spent(), None);
        assert_eq!(Budget::new(None, None, &cpu).unwrap().spent(), None);
        let over = Budget::new(Some(1e-15), None, &cpu).unwrap().spent();
        assert!(over.unwrap().contains("--max-hours"));
    }
}
