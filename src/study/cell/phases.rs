//! What the phases of training took: time, and energy where the counter tells them apart.

use crate::energy::StepPhases;
use crate::reading::Reading;
use crate::study::results::PhaseTime;
use crate::trace::Phase;
use crate::units::Seconds;

/// The phases, the longest first, and the energy of the steps that they divide.
pub fn readings(steps: &StepPhases) -> (Vec<PhaseTime>, Reading) {
    let found = steps.attribution();
    let energy = |phase: &Phase| {
        let (names, attribution) = found.as_ref().map_err(String::clone)?;
        let share = names.iter().position(|name| name == phase).and_then(|at| attribution.phases.get(at));
        match share {
            Some(share) if share.resolved => Ok(share.energy.0),
            Some(share) => Err(format!("not told apart, at most {}", share.at_most)),
            None => Err("the counter did not change while it ran".to_string()),
        }
    };
    let mut sorted: Vec<_> = steps.times().iter().collect();
    sorted.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    let of = |(phase, seconds): (&Phase, &Seconds)| PhaseTime {
        phase: phase.label.into(),
        pass: phase.pass.name().into(),
        seconds: Reading::measured(seconds.0),
        energy_joules: energy(phase).map_or_else(Reading::absent, Reading::measured),
    };
    let total = found.as_ref().map(|(_, attribution)| attribution.total.0).map_err(String::clone);
    let phases = sorted.into_iter().map(of).collect();
    (phases, total.map_or_else(Reading::absent, Reading::measured))
}
