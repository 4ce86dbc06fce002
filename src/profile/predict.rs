//! The profile that the limits of a device allow at best, from the plan alone.

use super::energy::Energy;
use super::report::{Origin, Profile};
use super::rows;
use super::runs::Runs;
use crate::device::Precision;
use crate::device::plan::Recording;
use crate::device::repeater::Launched;
use crate::disturbance::Conditions;
use crate::limits::Limits;
use serde_json::{Map, Value};

/// What the launches of `recordings`, each run once, take at least.
pub fn predict(
    recordings: &[Recording],
    limits: Limits,
    precision: Precision,
    work: Map<String, Value>,
) -> Profile {
    let launches: Vec<Launched> = recordings
        .iter()
        .flat_map(|recording| &recording.launches)
        .map(|l| Launched { kernel: l.kernel, phase: l.phase, cost: l.cost, live: 0 })
        .collect();
    let mut rows = rows::of_launches(&launches, Some(&limits), precision);
    for row in &mut rows {
        row.seconds = vec![row.least_s.values().sum()];
    }
    Profile {
        origin: Origin::Predicted,
        work,
        limits: Some(limits),
        no_limits: None,
        runs: Runs::default(),
        planned: None,
        conditions: Conditions::default(),
        rows,
        energy: Energy::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cost;
    use crate::device::plan::Launch;
    use crate::trace::{Pass, Phase};
    use crate::units::{Bytes, Flops};

    #[test]
    fn a_prediction_is_the_sum_of_the_least_times() {
        let launch = |kernel, flops, bytes| Launch {
            kernel,
            phase: Phase { label: "head", pass: Pass::Forward },
            cost: Cost { bytes: Bytes(bytes), flops: Flops(flops), exponentials: 0 },
        };
        // On an H200 in bf16: 2 ms of products, 1 ms of memory, and a launch.
        let launches = vec![
            launch("matmul", 1_978_000_000_000, 8),
            launch("cast", 0, 4_800_000_000),
            launch("cast", 0, 8),
        ];
        let recording = Recording { launches, ..Recording::default() };
        let limits = Limits::described("h200").unwrap();
        let launch = limits.launch.0;
        let profile = predict(&[recording], limits, Precision::Bf16, Map::new());
        assert!((profile.total().time().0 - (3e-3 + launch)).abs() < 1e-9);
        assert_eq!(profile.rows.len(), 2);
        assert!(profile.untraced().is_none() && profile.residual().is_none());
    }
}
