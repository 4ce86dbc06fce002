//! The energy of all devices that the ranks of a run work on, each counted once, whichever of its ranks counted it.

use super::measurement::{Measurement, PaperReading, UPDATES, largest};
use super::report::RunEnergy;
use super::{Identity, Nvml};
use crate::collective::{Group, Launch};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::units::{Bytes, Joules, Seconds, Watts};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What one device took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceEnergy {
    pub host: String,
    /// A GPU by its UUID, the whole of it where ranks have parts; the counters of a processor are those of its machine.
    pub device: String,
    pub ranks: Vec<usize>,
    pub energy_j: Option<Joules>,
}

/// What a rank has counted of its device.
pub trait Counted: Clone + Serialize + DeserializeOwned {
    fn energy(&self) -> Option<Joules>;

    /// What several devices took together in the time of the first; each has a name for what is not known of it.
    fn summed(first: &(String, Self), others: &[(String, Self)]) -> Self;
}

/// What all devices took together, of which this rank's took `ours`, and what each took: nothing is summed, and no device
/// named, for one process. Every rank of `group` asks at once.
pub fn of_devices<T: Counted>(ours: T, device: &Device, group: &Group) -> Result<(T, Vec<DeviceEnergy>)> {
    if group.is_alone() {
        return Ok((ours, Vec::new()));
    }
    // Parts of a GPU have one counter, that of the whole.
    let counted = |uuid: String| Nvml::counted(&Identity { uuid: uuid.clone() }).unwrap_or(uuid);
    let spent = DeviceEnergy {
        host: Launch::read()?.host,
        device: device.uuid().map_or_else(|| device.name(), counted),
        ranks: vec![group.rank()],
        energy_j: ours.energy(),
    };
    let not_json = |e: serde_json::Error| Error::internal(format!("what ranks spent is not JSON: {e}"));
    let texts = group.gather_texts(vec![serde_json::to_string(&(spent, ours)).map_err(not_json)?])?;
    let all: Result<Vec<_>> = texts.iter().map(|text| serde_json::from_str(text).map_err(not_json)).collect();
    let devices = once(all?);
    let labelled =
        |(of, counted): &(DeviceEnergy, T)| (format!("{} of {}", of.device, of.host), counted.clone());
    let all = match &devices.iter().map(labelled).collect::<Vec<_>>()[..] {
        [] => return Err(Error::internal("ranks have counted nothing")),
        [(_, only)] => only.clone(),
        [first, others @ ..] => T::summed(first, others),
    };
    Ok((all, devices.into_iter().map(|(of, _)| of).collect()))
}

/// Each device with what the first of its ranks counted that could.
fn once<T>(all: Vec<(DeviceEnergy, T)>) -> Vec<(DeviceEnergy, T)> {
    let mut devices: Vec<(DeviceEnergy, T)> = Vec::new();
    for (spent, counted) in all {
        let known = devices.iter_mut().find(|(of, _)| (&of.host, &of.device) == (&spent.host, &spent.device));
        match known {
            None => devices.push((spent, counted)),
            Some((of, first)) => {
                of.ranks.extend(spent.ranks);
                if of.energy_j.is_none() && spent.energy_j.is_some() {
                    (of.energy_j, *first) = (spent.energy_j, counted);
                }
            }
        }
    }
    devices
}

fn named(device: &str, why: &str) -> String {
    format!("{device}: {why}")
}

fn source(first: &str, devices: usize) -> String {
    format!("{first}; summed over {devices} devices")
}

impl Counted for Measurement {
    fn energy(&self) -> Option<Joules> {
        self.energy
    }

    /// Powers and energies are sums, what the sensors say otherwise means; the highest temperature and use of memory are
    /// those of one device. Peaks of power are at a moment of each device's own, and have no sum.
    fn summed(first: &(String, Self), others: &[(String, Self)]) -> Self {
        let count = 1 + others.len();
        let each = || std::iter::once(first).chain(others).map(|(_, device)| device);
        let joules = |of: fn(&Measurement) -> Option<Joules>| -> Option<Joules> { each().map(of).sum() };
        let mean = |of: &dyn Fn(&Measurement) -> Option<f64>| {
            each().map(of).sum::<Option<f64>>().map(|sum| sum / count as f64)
        };
        let energy = joules(|device| device.energy);
        let unknown = std::iter::once(first).chain(others).find(|(_, device)| device.energy.is_none());
        let paper =
            |of: fn(&PaperReading) -> f64| each().map(|device| Some(of(&device.paper?))).sum::<Option<f64>>();
        Measurement {
            time: first.1.time,
            energy,
            note: match unknown {
                Some((name, device)) => named(name, &device.note),
                None => source(&first.1.note, count),
            },
            integrated: joules(|device| device.integrated),
            peak_power: None,
            utilisation: mean(&|device| device.utilisation),
            memory: mean(&|device| device.memory.map(|bytes| bytes.0 as f64))
                .map(|bytes| Bytes(bytes as u64)),
            memory_peak: each().map(|device| device.memory_peak).fold(None, largest),
            temperature_peak: each().map(|device| device.temperature_peak).fold(None, largest),
            clock: mean(&|device| device.clock),
            throttled: mean(&|device| device.throttled),
            gpu: each().filter_map(|device| device.gpu.clone()).reduce(|a, b| a.and(&b)),
            paper: paper(|reading| reading.power.0).zip(joules(|device| Some(device.paper?.energy))).map(
                |(power, energy)| PaperReading {
                    power: Watts(power),
                    energy,
                    utilisation: mean(&|device| device.paper?.utilisation),
                    memory: mean(&|device| device.paper?.memory),
                },
            ),
        }
    }
}

impl Counted for RunEnergy {
    fn energy(&self) -> Option<Joules> {
        self.whole.energy
    }

    fn summed(first: &(String, Self), others: &[(String, Self)]) -> Self {
        let mut sum = first.1.clone();
        sum.source = source(&sum.source, 1 + others.len());
        sum.windows
            .values_mut()
            .for_each(|spent| spent.lost = spent.lost.take().map(|why| named(&first.0, &why)));
        for (name, other) in others {
            if other.calibration.update_period > sum.calibration.update_period {
                sum.calibration = other.calibration;
            }
            for (activity, spent) in &other.windows {
                let all = sum.windows.entry(*activity).or_default();
                all.counted += spent.counted;
                all.visits = all.visits.max(spent.visits);
                all.lost = all.lost.take().or(spent.lost.as_ref().map(|why| named(name, why)));
            }
        }
        // A counter that stands still would be a device that takes nothing.
        for (name, device) in std::iter::once(first).chain(others) {
            let counted: Joules = device.windows.values().map(|spent| spent.counted).sum();
            let least = Seconds(UPDATES * device.calibration.update_period.0);
            if counted <= Joules(0.0) && device.whole.time >= least {
                let why = named(name, &device.whole.note);
                sum.windows
                    .values_mut()
                    .for_each(|spent| spent.lost = spent.lost.take().or(Some(why.clone())));
            }
        }
        let sampled = |(name, device): &(String, Self)| (name.clone(), device.whole.clone());
        sum.whole = Measurement::summed(&sampled(first), &others.iter().map(sampled).collect::<Vec<_>>());
        sum.settle();
        sum
    }
}

#[cfg(test)]
mod tests;
