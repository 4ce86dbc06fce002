//! The meter of a machine without a usable sensor.

use super::Meter;
use crate::error::{Error, Result};
use crate::units::{Joules, Seconds};

/// Counts nothing and says why.
pub struct NoSensor {
    why: String,
}

impl NoSensor {
    pub fn new(why: String) -> Self {
        NoSensor { why }
    }
}

impl Meter for NoSensor {
    fn name(&self) -> String {
        self.why.clone()
    }

    fn read(&mut self) -> Result<Joules> {
        Err(Error::Device(self.why.clone()))
    }

    fn update_period(&self) -> Seconds {
        Seconds(0.0)
    }
}
