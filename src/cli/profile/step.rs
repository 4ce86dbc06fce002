//! `profile step`: a training step over a synthetic batch, measured here or predicted for a GPU that is not.

use super::super::bench::Subject;
use super::super::choices::{Recomputation, check_lengths, named};
use super::super::global::Global;
use super::measuring::{self, Measuring, described};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::Path;
use wattention::error::Error;
use wattention::limits::Limits;
use wattention::profile::predict::predict;
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

    /// Run nothing: predict the least times from the plan and the limits of --gpu
    #[arg(long, requires = "gpu", conflicts_with_all = ["trace", "energy", "limits"])]
    plan_only: bool,

    /// The GPU to predict for: h200, h100, a100 or a6000
    #[arg(long, value_name = "NAME", requires = "plan_only")]
    gpu: Option<String>,

    #[command(flatten)]
    measuring: Measuring,
}

pub fn run(args: StepArgs, global: &Global) -> anyhow::Result<()> {
    if let Some(gpu) = args.gpu.as_deref().filter(|_| args.plan_only) {
        return predicted(&args, gpu, global);
    }
    let stand = args.measuring.open(global)?;
    let options = args.recomputation.options();
    let (model, loaded) = args.subject.open(&stand.device, options, global)?;
    let limits = loaded.model.limits();
    let lengths = args.lengths();
    check_lengths(lengths, &limits)?;
    let (source, target) =
        synthetic_batch(&limits, args.batch_size.get(), lengths.source, lengths.target, global.seed)?;
    let stepper = Stepper::new(loaded, options, args.mode)?;
    let mut work = Step { stepper, source, target };
    let described = described(args.own(&model), &stand.device.name(), global.precision);
    args.measuring.profile(&mut work, &stand, described, global)
}

fn predicted(args: &StepArgs, gpu: &str, global: &Global) -> anyhow::Result<()> {
    let limits = Limits::described(gpu)?;
    if let Some(path) = args.measuring.saves() {
        super::super::output::check_file(path)?;
    }
    let (name, config) = args.subject.config()?;
    let mut stepper = Stepper::dry_run(&config, global.precision, args.recomputation.options(), args.mode)?;
    let sizes = stepper.loaded().model.limits();
    let lengths = args.lengths();
    check_lengths(lengths, &sizes)?;
    let most = i32::MAX as usize / lengths.source.max(lengths.target);
    if args.batch_size.get() > most {
        return Err(Error::DoesNotFit(format!(
            "a batch of {} x {} tokens is more than a 32-bit index counts; choose a smaller --batch-size",
            args.batch_size, lengths.source
        ))
        .into());
    }
    let (source, target) = synthetic_batch(&sizes, args.batch_size.get(), lengths.source, lengths.target, 0)?;
    stepper.run(&source, &target)?;
    let mut recordings = stepper.recordings();
    // The optimizer's step comes after those that give it gradients.
    recordings.sort_by_key(|(signature, _)| signature.kind == "optimizer");
    let recordings: Vec<_> = recordings.into_iter().map(|(_, recording)| recording).collect();
    let described = described(args.own(&name), gpu, global.precision);
    let profile = predict(&recordings, limits, global.precision, described);
    measuring::print(&profile, args.measuring.by(), args.measuring.saves(), global)
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
