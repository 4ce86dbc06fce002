//! Energy: cumulative counters, sensors, and windows that make a measurement of them.
//!
//! A sensor that is missing, forbidden or too slow for a window gives a reason, never a number.

mod calibration;
mod none;
mod nvml;
mod rapl;
mod sampler;
mod window;

pub use none::NoSensor;
pub use nvml::{Identity, Nvml};
pub use rapl::Rapl;
pub use sampler::Sampler;
pub use window::{Measurement, PaperReading, Window};

use crate::device::Device;
use crate::error::Result;
use crate::units::{Bytes, Joules, Seconds, Watts};
use std::path::Path;

/// A cumulative energy counter, and the sensors beside it.
pub trait Meter: Send {
    /// What is counted, for reports; or why nothing is.
    fn name(&self) -> String;

    /// Energy since the meter was opened.
    fn read(&mut self) -> Result<Joules>;

    /// How far apart in time two values of the counter are.
    fn update_period(&self) -> Seconds;

    /// What the sensors say now.
    fn sample(&mut self) -> Sample {
        Sample::default()
    }
}

/// What a device's sensors say at one moment; absent is what it has no sensor for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    pub power: Option<Watts>,
    /// The driver's own average over about a second.
    pub average_power: Option<Watts>,
    /// Share of the time in which any kernel ran, 0 to 1.
    pub utilisation: Option<f64>,
    pub memory: Option<Bytes>,
    pub memory_total: Option<Bytes>,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
    pub clock_mhz: Option<f64>,
    pub memory_clock_mhz: Option<f64>,
    /// Whether heat or a power limit holds the clocks down.
    pub throttled: bool,
}

/// The meter of what `device` computes on: a GPU's own, else the processor's; it may only say why there is none.
pub fn open(device: &Device) -> Box<dyn Meter> {
    device.uuid().map_or_else(processor, |uuid| gpu(&Identity { uuid }))
}

/// The meter of a GPU.
pub fn gpu(identity: &Identity) -> Box<dyn Meter> {
    or_why(Nvml::open(identity))
}

/// The processor's meter.
pub fn processor() -> Box<dyn Meter> {
    open_at(Path::new(rapl::TREE))
}

/// As [`processor`], with the powercap tree at `tree`.
pub fn open_at(tree: &Path) -> Box<dyn Meter> {
    or_why(Rapl::open(tree))
}

fn or_why<M: Meter + 'static>(opened: Result<M>) -> Box<dyn Meter> {
    match opened {
        Ok(meter) => Box::new(meter),
        Err(why) => Box::new(NoSensor::new(why.to_string())),
    }
}
