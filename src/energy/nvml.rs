//! NVML: the energy counter and the sensors of an NVIDIA GPU.
//!
//! NVIDIA Management Library reference, `nvmlDeviceGetTotalEnergyConsumption` (millijoules since the driver was
//! loaded, on Volta and newer; on data-centre parts it moves about every 100 ms) and `nvmlDeviceGetFieldValues`.

use super::calibration::{Calibration, calibrate};
use super::{Meter, Sample};
use crate::disturbance::Throttle;
use crate::error::{Error, Result};
use crate::units::{Bytes, Joules, Seconds, Watts};
use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::{NVML_FI_DEV_POWER_AVERAGE, NVML_FI_DEV_POWER_INSTANT};
use std::path::Path;

/// Where the dynamic linker finds it.
const LIBRARY: &str = if cfg!(windows) { "nvml.dll" } else { "libnvidia-ml.so.1" };

/// The GPU that a CUDA device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As the CUDA driver gives it: NVML writes `GPU-` or, for a part of a GPU, `MIG-` before it.
    pub uuid: String,
}

/// One GPU.
pub struct Nvml {
    library: nvml_wrapper::Nvml,
    /// In NVML's own order, which is not CUDA's; found by UUID.
    index: u32,
    name: String,
    calibration: Calibration,
    /// Millijoules at the last reading and when the meter was opened.
    last: u64,
    first: u64,
    /// Whether the counter has gone backwards: what it says of the time before is lost.
    reset: bool,
    /// The end of the last stretch for which the driver told the work of other processes; microseconds of its own.
    told_until: u64,
}

impl Nvml {
    /// Opens the GPU of `identity`, the whole of it where that is a MIG instance, and learns how its counter moves.
    pub fn open(identity: &Identity) -> Result<Self> {
        Self::open_in(Path::new(LIBRARY), identity)
    }

    /// The UUID of the GPU whose counter is read for `identity`: of the whole of it, where that is a MIG instance.
    pub fn counted(identity: &Identity) -> Result<String> {
        Self::counted_in(Path::new(LIBRARY), identity)
    }

    /// As [`Nvml::counted`], with the NVML library at `library`.
    pub fn counted_in(library: &Path, identity: &Identity) -> Result<String> {
        let library = load(library)?;
        let (device, _) = find(&library, identity)?;
        let uuid = device.uuid().map_err(|e| refused(&e, "ask for the GPU's UUID"))?;
        Ok(uuid.trim_start_matches("GPU-").to_lowercase())
    }

    /// As [`Nvml::open`], with the NVML library at `library`.
    pub fn open_in(library: &Path, identity: &Identity) -> Result<Self> {
        let library = load(library)?;
        let (index, name) = {
            let (device, part) = find(&library, identity)?;
            let whole = if part { ", all of it, of which this instance is a part" } else { "" };
            let name = device.name().map_err(|e| refused(&e, "ask for the GPU's name"))?;
            (device.index().map_err(|e| refused(&e, "ask for the GPU's index"))?, format!("{name}{whole}"))
        };
        let mut meter = Nvml {
            library,
            index,
            name,
            calibration: Calibration::default(),
            last: 0,
            first: 0,
            reset: false,
            told_until: 0,
        };
        meter.first = meter.counter()?;
        meter.last = meter.first;
        meter.calibration = calibrate(&mut meter)?;
        Ok(meter)
    }

    fn device(&self) -> Result<Device<'_>> {
        self.library.device_by_index(self.index).map_err(|e| refused(&e, "find the GPU again"))
    }

    fn counter(&self) -> Result<u64> {
        self.device()?.total_energy_consumption().map_err(|e| refused(&e, "read the GPU's energy counter"))
    }
}

fn load(library: &Path) -> Result<nvml_wrapper::Nvml> {
    let loaded = nvml_wrapper::Nvml::builder().lib_path(library.as_os_str()).init();
    loaded.map_err(|e| refused(&e, "open NVML"))
}

/// The GPU, and whether `identity` is a part of it.
fn find<'a>(library: &'a nvml_wrapper::Nvml, identity: &Identity) -> Result<(Device<'a>, bool)> {
    let uuid = &identity.uuid;
    match library.device_by_uuid(format!("GPU-{uuid}")) {
        Ok(device) => return Ok((device, false)),
        Err(NvmlError::NotFound | NvmlError::InvalidArg) => {}
        Err(error) => return Err(refused(&error, "find the GPU")),
    }
    let part = library.device_by_uuid(format!("MIG-{uuid}")).map_err(|e| refused(&e, "find the GPU"))?;
    let whole = part.mig_parent_device().map_err(|e| refused(&e, "find the GPU of a MIG instance"))?;
    Ok((whole, true))
}

impl Meter for Nvml {
    fn name(&self) -> String {
        format!("NVML energy counter of {}; {}", self.name, self.calibration)
    }

    fn read(&mut self) -> Result<Joules> {
        let now = self.counter()?;
        self.reset |= now < self.last;
        self.last = now;
        if self.reset {
            let what =
                "the GPU's energy counter went backwards: the driver was loaded anew, or the counter wrapped";
            return Err(Error::Device(what.into()));
        }
        Ok(Joules((now - self.first) as f64 * 1e-3))
    }

    fn update_period(&self) -> Seconds {
        self.calibration.update_period
    }

    fn calibration(&self) -> Calibration {
        self.calibration
    }

    fn sample(&mut self) -> Sample {
        let told_until = self.told_until;
        let Ok(device) = self.device() else { return Sample::default() };
        let (others, told_until) = Others::of(&device, told_until);
        let throttled_by = device.current_throttle_reasons().ok().and_then(throttle);
        let [instant, average] = powers(&device);
        let memory = device.memory_info().ok();
        let clock = |kind| device.clock_info(kind).ok().map(f64::from);
        let sample = Sample {
            power: instant.or_else(|| device.power_usage().ok().map(watts)),
            average_power: average,
            utilisation: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
            memory: memory.as_ref().map(|memory| Bytes(memory.used)),
            memory_total: memory.as_ref().map(|memory| Bytes(memory.total)),
            temperature: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            clock_mhz: clock(Clock::SM),
            memory_clock_mhz: clock(Clock::Memory),
            throttled: throttled_by.is_some(),
            throttled_by,
            max_clock_mhz: device.max_clock_info(Clock::SM).ok().map(f64::from),
            power_limit: device.enforced_power_limit().ok().map(watts),
            default_power_limit: device.power_management_limit_default().ok().map(watts),
            other_processes: others.count,
            others_utilisation: others.utilisation,
        };
        self.told_until = told_until;
        sample
    }
}

/// What other processes do on the GPU; absent is what the driver does not report.
#[derive(Default)]
struct Others {
    count: Option<u32>,
    utilisation: Option<f64>,
}

impl Others {
    /// Since `told_until`, and until when.
    ///
    /// This process computes on the GPU, so one of those listed is this one, and a list without any is no list. In a
    /// container it has another number there, and whose work is whose is not known.
    fn of(device: &Device, told_until: u64) -> (Self, u64) {
        let all = device.running_compute_processes().unwrap_or_default();
        let Some(count) = all.len().checked_sub(1) else { return (Self::default(), told_until) };
        let own = std::process::id();
        let (utilisation, told_until) = match (count, all.iter().any(|process| process.pid == own)) {
            (0, _) => (Some(0.0), told_until),
            (_, false) => (None, told_until),
            (_, true) => match device.process_utilization_stats(told_until) {
                Ok(samples) => {
                    let others = samples.iter().filter(|sample| sample.pid != own);
                    let percent: f64 = others.map(|sample| f64::from(sample.sm_util)).sum();
                    let last = samples.iter().map(|sample| sample.timestamp).max();
                    (Some((percent / 100.0).min(1.0)), last.unwrap_or(told_until))
                }
                // No process has done anything since.
                Err(NvmlError::NotFound) => (Some(0.0), told_until),
                Err(_) => (None, told_until),
            },
        };
        (Others { count: u32::try_from(count).ok(), utilisation }, told_until)
    }
}

/// What makes the clocks lower than the work would have them, the gravest where it is several things.
fn throttle(reasons: ThrottleReasons) -> Option<Throttle> {
    let heat = ThrottleReasons::SW_THERMAL_SLOWDOWN | ThrottleReasons::HW_THERMAL_SLOWDOWN;
    let all = [
        (heat, Throttle::Heat),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, Throttle::PowerBrake),
        (ThrottleReasons::SW_POWER_CAP, Throttle::PowerCap),
        (ThrottleReasons::HW_SLOWDOWN, Throttle::Slowdown),
    ];
    all.into_iter().find(|(flags, _)| reasons.intersects(*flags)).map(|(_, throttle)| throttle)
}

/// Power now, and the driver's average over a second; what a GPU does not report is absent.
fn powers(device: &Device) -> [Option<Watts>; 2] {
    let ids = [NVML_FI_DEV_POWER_INSTANT, NVML_FI_DEV_POWER_AVERAGE];
    let Ok(values) = device.field_values_for(&ids.map(FieldId)) else { return [None; 2] };
    let value = |at: usize| match values.get(at)?.as_ref().ok()?.value.as_ref().ok()? {
        SampleValue::U32(milliwatts) => Some(watts(*milliwatts)),
        _ => None,
    };
    [value(0), value(1)]
}

fn watts(milliwatts: u32) -> Watts {
    Watts(f64::from(milliwatts) * 1e-3)
}

fn refused(error: &NvmlError, what: &str) -> Error {
    Error::Device(match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            "no sensor: libnvidia-ml.so.1 is not here; it comes with NVIDIA's driver".into()
        }
        NvmlError::NotSupported => format!("no sensor: cannot {what}: this GPU does not support it"),
        NvmlError::NoPermission => format!("no permission to {what}: ask the machine's administrator"),
        NvmlError::GpuLost => format!("cannot {what}: the GPU is lost; restart the machine"),
        NvmlError::DriverNotLoaded => format!("cannot {what}: NVIDIA's driver is not loaded"),
        other => format!("cannot {what}: {other}"),
    })
}
