//! What the ranks of a command came to together: their pace, and the joules of all devices.

use crate::collective::Group;
use crate::energy::DeviceEnergy;
use crate::units::{Joules, Seconds, counted};
use serde::Serialize;

/// What the ranks of a run came to together, in this attempt.
#[derive(Serialize)]
pub struct Together {
    world_size: usize,
    /// Seconds that the first rank has spent in exchanges with the others, waits for them included.
    exchange_runtime: Seconds,
    /// Energy of all devices; absent where that of any is.
    energy_j: Option<Joules>,
    devices: Vec<DeviceEnergy>,
}

impl Together {
    /// None of one process. `devices` are those of [`crate::energy::of_devices`].
    pub fn of(group: &Group, devices: Vec<DeviceEnergy>) -> Option<Self> {
        Self::since(Seconds(0.0), group, devices)
    }

    /// The same without the exchanges that took `before`.
    pub fn since(before: Seconds, group: &Group, devices: Vec<DeviceEnergy>) -> Option<Self> {
        (!group.is_alone()).then(|| Together {
            world_size: group.size(),
            exchange_runtime: Seconds(group.spent().0 - before.0),
            energy_j: devices.iter().map(|of| of.energy_j).sum(),
            devices,
        })
    }

    /// One line.
    pub fn text(&self) -> String {
        let Together { world_size, exchange_runtime, energy_j, devices } = self;
        let joules = energy_j.map_or("energy n/a".to_string(), |joules| joules.to_string());
        let devices = counted(devices.len(), "device");
        format!("{world_size} ranks on {devices}: {joules}, {exchange_runtime} in exchanges")
    }
}
