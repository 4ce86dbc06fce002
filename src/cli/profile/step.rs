//! `profile step`: a training step over a synthetic batch, measured here or predicted for a GPU that is not.

use super::super::bench::Subject;
use super::super::choices::{Recomputation, check_batch, check_lengths};
use super::super::global::Global;
use super::super::values::named;
use super::measuring::{Measuring, described};
use super::predicted::{self, Prediction};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::Path;
use wattention::limits::Limits;
use wattention::profile::work::Step;
use wattention::train::Lengths;
use wattention::train::synthetic::{Mode, Stepper, synthetic_batch};

#[derive(clap::Args, Debug)]
pub struct StepArgs {
    #[command(flatten)]
    subject: Subject,

    /// How much of a training step
    #[arg(long, value_name = "encoder|forward|forward-backward|train", default_value = "train", value_parser = named::<Mode>)]
    mode: Mode,

    /// Examples of a step
    #[arg(long, value_name = "N", default_value = "1")]
    batch_size: NonZeroUsize,

    /// Tokens of every input
    #[arg(long, value_name = "L", default_value = "1024")]
    max_source_length: NonZeroUsize,

    /// Tokens of every target
    #[arg(long, value_name = "T", default_value = "128")]
    max_target_length: NonZeroUsize,

    #[command(flatten)]
    recomputation: Recomputation,

    #[command(flatten)]
    prediction: Prediction,

    #[command(flatten)]
    measuring: Measuring,
}

pub fn run(args: StepArgs, global: &Global) -> anyhow::Result<()> {
    if let Some(gpu) = args.prediction.limits(&args.measuring)? {
        return plan(&args, gpu, global);
    }
    let stand = args.measuring.open(global)?;
    let options = args.recomputation.options();
    let (model, loaded) = args.subject.open(&stand.device, options, global)?;
    let limits = loaded.model.limits();
    let lengths = args.lengths();
    check_lengths(lengths, &limits)?;
    check_batch(args.batch_size.get(), lengths)?;
    let (source, target) =
        synthetic_batch(&limits, args.batch_size.get(), lengths.source, lengths.target, global.seed)?;
    let stepper = Stepper::new(loaded, options, args.mode)?;
    let mut work = Step { stepper, source, target };
    let described = described(args.own(&model), &stand.device.name(), global.precision);
    args.measuring.profile(&mut work, &stand, described, global)
}

fn plan(args: &StepArgs, gpu: Limits, global: &Global) -> anyhow::Result<()> {
    let (name, config) = args.subject.config()?;
    let mut stepper = Stepper::dry_run(&config, global.precision, args.recomputation.options(), args.mode)?;
    let sizes = stepper.loaded().model.limits();
    let lengths = args.lengths();
    check_lengths(lengths, &sizes)?;
    check_batch(args.batch_size.get(), lengths)?;
    let (source, target) = synthetic_batch(&sizes, args.batch_size.get(), lengths.source, lengths.target, 0)?;
    stepper.run(&source, &target)?;
    let mut recordings = stepper.recordings();
    // The optimizer's step comes after those that give it gradients.
    recordings.sort_by_key(|(signature, _)| signature.kind == "optimizer");
    let recordings: Vec<_> = recordings.into_iter().map(|(_, recording)| recording).collect();
    predicted::print(&recordings, gpu, args.own(&name), &args.measuring, global)
}

impl StepArgs {
    fn lengths(&self) -> Lengths {
        Lengths { source: self.max_source_length.get(), target: self.max_target_length.get() }
    }

    fn own(&self, model: &Path) -> Value {
        json!({
            "what": "step",
            "model": model,
            "mode": self.mode,
            "batch_size": self.batch_size,
            "max_source_length": self.max_source_length,
            "max_target_length": self.max_target_length,
            "recompute": self.recomputation.recompute,
        })
    }
}
