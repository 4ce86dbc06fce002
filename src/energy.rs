//! Energy: cumulative counters, sensors, and windows that make a measurement of them.
//!
//! A sensor that is missing, forbidden or too slow for a window gives a reason, never a number.

mod activity;
mod attribution;
mod calibration;
mod choice;
mod devices;
mod increments;
mod ledger;
mod measurement;
mod none;
mod nvml;
mod rapl;
mod recorder;
mod replay;
mod report;
mod sampler;
mod steps;
mod window;

pub use activity::Activity;
pub use attribution::{Attribution, Equations, Interval, Share, attribute};
pub use calibration::Calibration;
pub use choice::{Choice, HELP};
pub use devices::{DeviceEnergy, of_devices};
pub use increments::{Increments, intervals};
pub use ledger::Ledger;
pub use measurement::{Measurement, PaperReading};
pub use none::NoSensor;
pub use nvml::{Identity, Nvml};
pub use rapl::Rapl;
pub use recorder::Recorder;
pub use replay::Replay;
pub use report::{Efficiency, PaperEfficiency, PhaseEnergy, RunEnergy, Spent, Work, phase_table};
pub use sampler::Sampler;
pub use steps::StepPhases;
pub use window::Window;

use crate::device::Device;
use crate::disturbance::Throttle;
use crate::error::Result;
use crate::units::{Bytes, Joules, Seconds, Watts};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A cumulative energy counter, and the sensors beside it.
pub trait Meter: Send {
    /// What is counted, for reports; or why nothing is.
    fn name(&self) -> String;

    /// Energy since the meter was opened.
    fn read(&mut self) -> Result<Joules>;

    /// How far apart in time two values of the counter are.
    fn update_period(&self) -> Seconds;

    /// What is known of the counter.
    fn calibration(&self) -> Calibration {
        Calibration { update_period: self.update_period(), ratio: None }
    }

    /// What the sensors say now.
    fn sample(&mut self) -> Sample {
        Sample::default()
    }
}

/// What a device's sensors say at one moment; absent is what it has no sensor for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    #[serde(rename = "power_w", skip_serializing_if = "Option::is_none")]
    pub power: Option<Watts>,
    /// The driver's own average over about a second.
    #[serde(rename = "average_power_w", skip_serializing_if = "Option::is_none")]
    pub average_power: Option<Watts>,
    /// Share of the time in which any kernel ran, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation: Option<f64>,
    #[serde(rename = "memory_bytes", skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    #[serde(rename = "memory_total_bytes", skip_serializing_if = "Option::is_none")]
    pub memory_total: Option<Bytes>,
    /// Degrees Celsius.
    #[serde(rename = "temperature_c", skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_mhz: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_clock_mhz: Option<f64>,
    /// Whether heat or a power limit holds the clocks down.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub throttled: bool,
    /// Which of them, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_by: Option<Throttle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_clock_mhz: Option<f64>,
    /// The power limit in force, and the one that the device comes with.
    #[serde(rename = "power_limit_w", skip_serializing_if = "Option::is_none")]
    pub power_limit: Option<Watts>,
    #[serde(rename = "default_power_limit_w", skip_serializing_if = "Option::is_none")]
    pub default_power_limit: Option<Watts>,
    /// Other processes that compute on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_processes: Option<u32>,
    /// Share of the time since the sample before in which their kernels ran, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others_utilisation: Option<f64>,
}

/// The meter of what `device` computes on, a GPU's own, else the processor's; it may only say why there is none.
///
/// The environment may choose another one, and choose wrongly: see [`Choice`].
pub fn choose(device: &Device) -> Result<Box<dyn Meter>> {
    Choice::read()?.open(|| device.uuid().map_or_else(processor, |uuid| gpu(&Identity { uuid })))
}

/// As [`choose`]; a wrong choice is one more reason why there is no meter.
pub fn open(device: &Device) -> Box<dyn Meter> {
    match choose(device) {
        Ok(meter) => meter,
        Err(why) => Box::new(NoSensor::new(why.to_string())),
    }
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
