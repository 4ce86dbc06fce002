//! A training step, or a part of it, over a synthetic batch.

use super::{Amount, Sizes, Workload};
use crate::collective::Group;
use crate::device::plan::Recording;
use crate::device::{Device, Precision};
use crate::error::Result;
use crate::models::batch::{Source, Target};
use crate::models::{Loaded, ModelOptions};
use crate::train::synthetic::{Mode, Stepper, synthetic_batch};
use crate::train::{Lengths, Sharing};
use serde::Serialize;
use std::path::Path;
use std::rc::Rc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StepSizes {
    pub mode: Mode,
    pub batch_size: usize,
    pub max_source_length: usize,
    pub max_target_length: usize,
    #[serde(flatten, skip_serializing_if = "Sharing::is_default")]
    pub sharing: Sharing,
}

pub struct Step {
    stepper: Stepper,
    sizes: StepSizes,
    source: Source,
    target: Target,
    loss: f32,
    group: Rc<Group>,
}

impl Step {
    fn new(stepper: Stepper, sizes: StepSizes, seed: u64, group: &Rc<Group>) -> Result<Self> {
        let limits = stepper.loaded().model.limits();
        let StepSizes { batch_size, max_source_length, max_target_length, .. } = sizes;
        let (source, target) =
            synthetic_batch(&limits, batch_size, max_source_length, max_target_length, seed)?;
        Ok(Step { stepper, sizes, source, target, loss: 0.0, group: group.clone() })
    }
}

impl Sizes for StepSizes {
    const NAME: &'static str = "step";
    type Work = Step;

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn lengths(&self) -> Lengths {
        Lengths { source: self.max_source_length, target: self.max_target_length }
    }

    fn name(&self, model: &Path) -> String {
        let StepSizes { mode, batch_size, max_source_length, max_target_length, sharing } = self;
        let sizes = format!("{batch_size} x {max_source_length} to {max_target_length}");
        let sharing = if sharing.is_default() { String::new() } else { format!(", {sharing}") };
        format!("{} {}, {sizes}{sharing}", model.display(), mode.name())
    }

    fn load(self, loaded: Loaded, options: ModelOptions, seed: u64, group: &Rc<Group>) -> Result<Step> {
        let stepper = Stepper::among(loaded, options, self.mode, self.sharing, group)?;
        Step::new(stepper, self, seed, group)
    }

    fn dry_run(self, config: &Path, precision: Precision, options: ModelOptions) -> Result<Step> {
        let stepper = Stepper::dry_run(config, precision, options, self.mode)?;
        Step::new(stepper, self, 0, &Rc::new(Group::alone()))
    }
}

impl Workload for Step {
    fn run(&mut self) -> Result<()> {
        self.loss = self.stepper.run(&self.source, &self.target)?;
        self.stepper.device().synchronize()
    }

    fn device(&self) -> &Device {
        self.stepper.device()
    }

    fn recordings(&self) -> Vec<&Recording> {
        self.stepper.recordings().into_iter().map(|(_, recording)| recording).collect()
    }

    fn plan(&mut self) -> Result<Vec<Recording>> {
        if self.stepper.recordings().is_empty() {
            self.run()?;
        }
        let mut recordings = self.stepper.recordings();
        // The optimizer's step comes after those that give it gradients.
        recordings.sort_by_key(|(signature, _)| signature.kind.starts_with("optimizer"));
        Ok(recordings.into_iter().map(|(_, recording)| recording.clone()).collect())
    }

    fn amount(&self) -> Amount {
        let StepSizes { batch_size, max_source_length, .. } = self.sizes;
        let samples = batch_size * self.group.size();
        Amount { samples, tokens: samples * max_source_length }
    }

    fn any(&self, ours: bool) -> bool {
        self.group.most(ours.into()) != 0
    }

    fn loss(&self) -> Option<f32> {
        Some(self.loss)
    }
}
