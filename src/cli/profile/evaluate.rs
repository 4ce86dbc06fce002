//! `profile evaluate`: predictions for examples of a dataset, and their scores.

use super::super::choices::{Evaluated, ModelChoices, Opened};
use super::super::decoding::Decoding;
use super::super::global::Global;
use super::measuring::{Measuring, described};
use serde_json::json;
use std::num::NonZeroUsize;
use wattention::generate;
use wattention::models;
use wattention::models::session::Session;
use wattention::profile::work::Evaluation;
use wattention::train::Corpus;

#[derive(clap::Args, Debug)]
pub struct EvaluateArgs {
    #[command(flatten)]
    evaluated: Evaluated,

    /// Examples evaluated at once
    #[arg(long, value_name = "N", default_value = "4")]
    batch_size: NonZeroUsize,

    /// Examples of a run, from the start of the split
    #[arg(long, value_name = "N", default_value = "4")]
    max_samples: NonZeroUsize,

    #[command(flatten)]
    choices: ModelChoices,

    #[command(flatten)]
    measuring: Measuring,

    #[command(flatten)]
    decoding: Decoding,
}

pub fn run(args: EvaluateArgs, global: &Global) -> anyhow::Result<()> {
    let stand = args.measuring.open(global)?;
    let evaluated = &args.evaluated;
    let Opened { model_dir, tokenizer, dataset, examples } =
        evaluated.open(Some(args.max_samples), global)?;
    let loaded = models::load(&model_dir, &stand.device, args.choices.options())?;
    let limits = loaded.model.limits();
    let decoding = args.decoding.options(&model_dir, &limits, global.seed, NonZeroUsize::new(1))?;
    let lengths = evaluated.truncation.lengths(&limits);
    let corpus = Corpus::encode(&tokenizer, &examples, lengths, limits, args.choices.global_attention)?;
    let own = json!({
        "what": "evaluate",
        "model": evaluated.model,
        "dataset": dataset.name,
        "split": evaluated.split,
        "protocol": evaluated.protocol,
        "examples": examples.len(),
        "batch_size": args.batch_size,
        "max_source_length": lengths.source,
        "max_target_length": lengths.target,
        "decoding": decoding,
    });
    let session = Session::new(loaded, args.choices.options(), generate::state)?;
    let (protocol, batch_size) = (evaluated.protocol, args.batch_size.get());
    let mut work = Evaluation { session, tokenizer, corpus, examples, protocol, decoding, batch_size };
    let described = described(own, &stand.device.name(), global.precision);
    args.measuring.profile(&mut work, &stand, described, global)
}
