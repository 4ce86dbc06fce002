//! `profile generate`: greedy decoding or beam search over a synthetic batch.

use super::super::bench::Subject;
use super::super::choices::check_lengths;
use super::super::global::Global;
use super::measuring::{Measuring, described};
use serde_json::json;
use std::num::NonZeroUsize;
use wattention::generate::{self, GenerateOptions};
use wattention::models::Options;
use wattention::models::session::Session;
use wattention::profile::work::Generation;
use wattention::train::Lengths;
use wattention::train::synthetic::synthetic_batch;

#[derive(clap::Args, Debug)]
pub struct GenerateArgs {
    #[command(flatten)]
    subject: Subject,

    /// Inputs of a batch
    #[arg(long, value_name = "N", default_value = "1")]
    batch_size: NonZeroUsize,

    /// Tokens of every input
    #[arg(long, value_name = "L", default_value = "1024")]
    max_source_length: NonZeroUsize,

    /// Tokens of every answer: none ends earlier
    #[arg(long, value_name = "T", default_value = "64")]
    max_new_tokens: NonZeroUsize,

    /// Beams of every input
    #[arg(long, value_name = "N", default_value = "1")]
    num_beams: NonZeroUsize,

    #[command(flatten)]
    measuring: Measuring,
}

pub fn run(args: GenerateArgs, global: &Global) -> anyhow::Result<()> {
    let stand = args.measuring.open(global)?;
    let options = Options::default();
    let (model, loaded) = args.subject.open(&stand.device, options, global)?;
    let limits = loaded.model.limits();
    let (batch, length) = (args.batch_size.get(), args.max_source_length.get());
    check_lengths(Lengths { source: length, target: 0 }, &limits)?;
    let (source, _) = synthetic_batch(&limits, batch, length, 1, global.seed)?;
    let decoding = GenerateOptions {
        max_new_tokens: args.max_new_tokens.get(),
        num_beams: args.num_beams.get(),
        eos: Vec::new(),
        ..GenerateOptions::new(&limits)
    };
    decoding.check(&limits)?;
    let own = json!({
        "what": "generate",
        "model": model,
        "batch_size": batch,
        "max_source_length": length,
        "max_new_tokens": args.max_new_tokens,
        "num_beams": args.num_beams,
    });
    let session = Session::new(loaded, options, generate::state)?;
    let mut work = Generation { session, source, options: decoding };
    let described = described(own, &stand.device.name(), global.precision);
    args.measuring.profile(&mut work, &stand, described, global)
}
