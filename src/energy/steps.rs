//! The steps of a run by phase, taken in as they are made.

use super::activity::Activity;
use super::attribution::Attribution;
use super::increments::Increments;
use super::sampler::Sampler;
use crate::trace::{self, Phase};
use crate::units::Seconds;
use std::collections::BTreeMap;

/// Time of every phase, and the counter's changes cut by them; nothing but steps counts.
#[derive(Debug)]
pub struct StepPhases {
    times: BTreeMap<Phase, Seconds>,
    /// Or why it had to be given up.
    increments: Result<Increments, String>,
}

impl Default for StepPhases {
    fn default() -> Self {
        StepPhases { times: BTreeMap::new(), increments: Ok(Increments::default()) }
    }
}

impl StepPhases {
    /// The run enters `activity`: launches are taken down from the first step on, and not between steps.
    pub fn enter(&mut self, activity: Activity, sampler: &Sampler) {
        let collecting = trace::is_timing();
        match activity {
            Activity::Training if !collecting => {
                sampler.record_changes();
                trace::start_timeline();
            }
            Activity::Training | Activity::Data => {}
            _ if collecting => {
                self.take_in(sampler);
                // What happens until the next step is no part of the steps.
                if let Ok(increments) = &mut self.increments {
                    increments.cut();
                }
                trace::stop_timeline();
                sampler.stop_changes();
            }
            _ => {}
        }
    }

    /// Takes in what was launched since the last time, of which nothing is still running.
    pub fn take_in(&mut self, sampler: &Sampler) {
        let slices = trace::take_timeline();
        for slice in &slices {
            *self.times.entry(slice.phase).or_default() += (slice.end - slice.start).into();
        }
        if let Ok(increments) = &mut self.increments
            && let Err(why) = increments.add(sampler.take_changes(), slices)
        {
            self.increments = Err(why.to_string());
        }
    }

    /// Host time of each phase.
    pub fn times(&self) -> &BTreeMap<Phase, Seconds> {
        &self.times
    }

    /// What each phase drew, in the order in which they first ran; or why that is not known.
    pub fn attribution(&self) -> Result<(&[Phase], Attribution), String> {
        self.increments.as_ref().map_err(String::clone)?.attribution().map_err(|e| e.to_string())
    }
}
