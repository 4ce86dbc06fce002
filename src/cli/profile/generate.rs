//! `profile generate`: greedy decoding or beam search over a synthetic batch.

use super::super::bench::Subject;
use super::super::choices::{check_batch, check_lengths};
use super::super::global::Global;
use super::measuring::{Measuring, described};
use super::predicted::{self, Prediction};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::Path;
use wattention::generate::{self, GenerateOptions};
use wattention::limits::Limits;
use wattention::models::batch::Source;
use wattention::models::session::Session;
use wattention::models::{self, Options};
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
    prediction: Prediction,

    #[command(flatten)]
    measuring: Measuring,
}

pub fn run(args: GenerateArgs, global: &Global) -> anyhow::Result<()> {
    if let Some(gpu) = args.prediction.limits(&args.measuring)? {
        return plan(&args, gpu, global);
    }
    let stand = args.measuring.open(global)?;
    let options = Options::default();
    let (model, loaded) = args.subject.open(&stand.device, options, global)?;
    let (source, decoding) = args.work(&loaded.model.limits(), global)?;
    let session = Session::new(loaded, options, generate::state)?;
    let mut work = Generation { session, source, options: decoding };
    let described = described(args.own(&model), &stand.device.name(), global.precision);
    args.measuring.profile(&mut work, &stand, described, global)
}

fn plan(args: &GenerateArgs, gpu: Limits, global: &Global) -> anyhow::Result<()> {
    let (name, config) = args.subject.config()?;
    let mut session = Session::dry_run(&config, global.precision, Options::default(), generate::state)?;
    let (source, decoding) = args.work(&session.real().loaded.model.limits(), global)?;
    let steps = session.walk(|session| generate::generate(session, &source, &decoding))?;
    let steps: Vec<_> = steps.iter().collect();
    predicted::print(&steps, gpu, args.own(&name), &args.measuring, global)
}

impl GenerateArgs {
    /// A batch, and how it is answered.
    fn work(&self, limits: &models::Limits, global: &Global) -> anyhow::Result<(Source, GenerateOptions)> {
        let lengths = Lengths { source: self.max_source_length.get(), target: 0 };
        check_lengths(lengths, limits)?;
        check_batch(self.batch_size.get(), lengths)?;
        let decoding = GenerateOptions {
            max_new_tokens: self.max_new_tokens.get(),
            num_beams: self.num_beams.get(),
            eos_token_id: Vec::new(),
            ..GenerateOptions::new(limits)
        };
        decoding.check(limits)?;
        let (source, _) = synthetic_batch(limits, self.batch_size.get(), lengths.source, 1, global.seed)?;
        Ok((source, decoding))
    }

    fn own(&self, model: &Path) -> Value {
        json!({
            "what": "generate",
            "model": model,
            "batch_size": self.batch_size,
            "max_source_length": self.max_source_length,
            "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
        })
    }
}
