//! Energy: cumulative counters, and windows that make a measurement of two readings.
//!
//! A sensor that is missing, forbidden or too slow for a window gives a reason, never a number.

mod none;
mod rapl;
mod window;

pub use none::NoSensor;
pub use rapl::Rapl;
pub use window::{Measurement, Window};

use crate::error::Result;
use crate::units::{Joules, Seconds};
use std::path::Path;

/// A cumulative energy counter.
pub trait Meter {
    /// What is counted, for reports; or why nothing is.
    fn name(&self) -> String;

    /// Energy since the meter was opened.
    fn read(&mut self) -> Result<Joules>;

    /// How far apart in time two values of the counter are.
    fn update_period(&self) -> Seconds;
}

/// The best meter of this machine, which may be one that only says why there is none.
pub fn open() -> Box<dyn Meter> {
    open_at(Path::new(rapl::TREE))
}

/// As [`open`], with the powercap tree at `tree`.
pub fn open_at(tree: &Path) -> Box<dyn Meter> {
    match Rapl::open(tree) {
        Ok(rapl) => Box::new(rapl),
        Err(why) => Box::new(NoSensor::new(why.to_string())),
    }
}
