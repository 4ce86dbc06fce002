//! Work that can be done again and again, with the same launches every time: what benchmarks time and profiles divide.

mod evaluation;
mod generation;
mod step;

pub use evaluation::Evaluation;
pub use generation::{Generation, GenerationSizes, StepBytes};
pub use step::{Step, StepSizes};

use crate::collective::Group;
use crate::device::plan::Recording;
use crate::device::{Device, Precision};
use crate::error::Result;
use crate::models::{Loaded, ModelOptions};
use crate::train::Lengths;
use serde::Serialize;
use std::path::Path;
use std::rc::Rc;

/// Something to do again and again.
pub trait Workload {
    /// Does it once, to its end.
    fn run(&mut self) -> Result<()>;

    fn device(&self) -> &Device;

    /// The plan of every step that it has run so far, in no order.
    fn recordings(&self) -> Vec<&Recording>;

    /// The plans of one run's steps in order, each at its own cost.
    fn plan(&mut self) -> Result<Vec<Recording>>;

    /// What one run of all ranks works through.
    fn amount(&self) -> Amount;

    /// Whether any of its ranks says so.
    fn any(&self, ours: bool) -> bool {
        ours
    }

    /// The loss of the last run, where it has one.
    fn loss(&self) -> Option<f32> {
        None
    }

    /// Itself, where it decodes answers token by token.
    fn decoding(&mut self) -> Option<&mut dyn Decoding> {
        None
    }
}

/// What rates are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    pub samples: usize,
    /// Tokens of the inputs, or of the answers where those are generated.
    pub tokens: usize,
}

/// Work whose answers grow by a token in every step.
pub trait Decoding {
    /// The encoder and the first step alone.
    fn first_token(&mut self) -> Result<()>;

    /// Steps after the first.
    fn later_steps(&self) -> usize;

    /// What a step reads once, in the middle of the run.
    fn step_bytes(&self) -> StepBytes;
}

/// A kind of work on a model, and all that decides its size.
pub trait Sizes: Copy + PartialEq + Serialize + 'static {
    /// The subcommand that measures it.
    const NAME: &'static str;
    type Work: Workload;

    fn batch_size(&self) -> usize;

    /// Tokens that the model must have positions for.
    fn lengths(&self) -> Lengths;

    /// All that decides the work on `model`, in words: baselines know it by them.
    fn name(&self, model: &Path) -> String;

    /// How the model is made, given how it would be.
    fn options(self, options: ModelOptions) -> ModelOptions {
        options
    }

    /// What computes products of matrices, where that is chosen on the machine.
    fn products(self, device: &Device) -> Option<&'static str> {
        device.products()
    }

    /// The work with the model in memory, which is done together with the other ranks of `group` where ranks can share it.
    fn load(self, loaded: Loaded, options: ModelOptions, seed: u64, group: &Rc<Group>) -> Result<Self::Work>;

    /// The work with the model of the configuration file `config`, to be planned and not run.
    fn dry_run(self, config: &Path, precision: Precision, options: ModelOptions) -> Result<Self::Work>;
}
