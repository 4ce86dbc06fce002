//! What the ranks of a command came to together: their pace, and the joules of all devices.

use crate::collective::{Group, Launch};
use crate::device::Device;
use crate::energy::Work;
use crate::error::{Error, Result};
use crate::units::{Joules, Seconds, counted};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What the ranks of a run came to together, in this attempt.
#[derive(Serialize)]
pub struct Together {
    world_size: usize,
    /// Seconds that the first rank has spent in exchanges with the others, waits for them included.
    exchange_runtime: Seconds,
    /// Energy of all devices; absent where that of any is.
    energy_j: Option<Joules>,
    devices: Vec<Spent>,
}

/// What a device took, whichever of its ranks counted it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Spent {
    host: String,
    /// A GPU by its UUID; the counters of a processor are those of its machine.
    device: String,
    ranks: Vec<usize>,
    energy_j: Option<Joules>,
}

impl Together {
    /// None of one process. `energy` is what this rank has counted.
    pub fn of(group: &Group, device: &Device, energy: Option<Joules>) -> Result<Option<Self>> {
        Self::since(Seconds(0.0), group, device, energy)
    }

    /// The same without the exchanges that took `before`.
    pub fn since(
        before: Seconds,
        group: &Group,
        device: &Device,
        energy: Option<Joules>,
    ) -> Result<Option<Self>> {
        if group.is_alone() {
            return Ok(None);
        }
        let (host, name) = place(device)?;
        let spent = Spent { host, device: name, ranks: vec![group.rank()], energy_j: energy };
        let devices = by_device(of_all(group, &spent)?);
        Ok(Some(Together {
            world_size: group.size(),
            exchange_runtime: Seconds(group.spent().0 - before.0),
            energy_j: devices.iter().map(|of| of.energy_j).sum(),
            devices,
        }))
    }

    /// Energy of all devices.
    pub fn energy(&self) -> Option<Joules> {
        self.energy_j
    }

    /// One line.
    pub fn text(&self) -> String {
        let Together { world_size, exchange_runtime, energy_j, devices } = self;
        let joules = energy_j.map_or("energy n/a".to_string(), |joules| joules.to_string());
        let devices = counted(devices.len(), "device");
        format!("{world_size} ranks on {devices}: {joules}, {exchange_runtime} in exchanges")
    }
}

/// What the ranks of this rank's device have done of a work, this one `own`: what the device's joules are of.
pub fn work_of_device(group: &Group, device: &Device, own: Work) -> Result<Work> {
    if group.is_alone() {
        return Ok(own);
    }
    let place = place(device)?;
    let mut sum = Work { samples: 0, tokens: 0 };
    for (of, samples, tokens) in of_all(group, &(place.clone(), own.samples, own.tokens))? {
        if of == place {
            sum = Work { samples: sum.samples + samples, tokens: sum.tokens + tokens };
        }
    }
    Ok(sum)
}

/// The machine, and the device on it.
fn place(device: &Device) -> Result<(String, String)> {
    Ok((Launch::read()?.host, device.uuid().unwrap_or_else(|| device.name())))
}

/// What every rank says, in the order of the ranks.
fn of_all<T: Serialize + DeserializeOwned>(group: &Group, ours: &T) -> Result<Vec<T>> {
    let not_json = |e: serde_json::Error| Error::internal(format!("what ranks spent is not JSON: {e}"));
    let all = group.gather_texts(vec![serde_json::to_string(ours).map_err(not_json)?])?;
    all.iter().map(|text| serde_json::from_str(text).map_err(not_json)).collect()
}

/// Ranks of one device have counted the same joules, the one that was there the longest all of them.
fn by_device(all: Vec<Spent>) -> Vec<Spent> {
    let mut devices: Vec<Spent> = Vec::new();
    for spent in all {
        match devices.iter_mut().find(|of| (&of.host, &of.device) == (&spent.host, &spent.device)) {
            None => devices.push(spent),
            Some(of) => {
                of.ranks.extend(spent.ranks);
                let more = |(a, b): (Joules, Joules)| if a > b { a } else { b };
                of.energy_j = of.energy_j.zip(spent.energy_j).map(more).or(of.energy_j).or(spent.energy_j);
            }
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_counted_once_however_many_ranks_have_it() {
        let spent = |host: &str, device: &str, rank: usize, joules: Option<f64>| Spent {
            host: host.into(),
            device: device.into(),
            ranks: vec![rank],
            energy_j: joules.map(Joules),
        };
        let all = vec![
            spent("a", "cpu", 0, Some(5.0)),
            spent("a", "cpu", 1, Some(7.0)),
            spent("b", "cpu", 2, Some(11.0)),
            spent("b", "GPU-1", 3, None),
        ];
        let devices = by_device(all);
        let of: Vec<_> = devices.iter().map(|of| (of.ranks.clone(), of.energy_j.map(|j| j.0))).collect();
        assert_eq!(of, [(vec![0, 1], Some(7.0)), (vec![2], Some(11.0)), (vec![3], None)]);
        assert_eq!(devices.iter().map(|of| of.energy_j).sum::<Option<Joules>>(), None);
    }
}
