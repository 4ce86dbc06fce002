//! `profile evaluate`: predictions for examples of a dataset, and their scores.

use super::super::choices::{Evaluated, Keeping, ModelChoices, Opened};
use super::super::decoding::Decoding;
use super::super::global::Global;
use super::measuring::{Measuring, described};
use super::predicted::{self, Prediction};
use crate::collective::Group;
use crate::error::Error;
use crate::generate;
use crate::metrics::Protocol;
use crate::models;
use crate::models::session::Session;
use crate::train::Corpus;
use crate::workload::{Evaluation, Workload};
use serde_json::json;
use std::num::NonZeroUsize;

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
    keeping: Keeping,

    #[command(flatten)]
    prediction: Prediction,

    #[command(flatten)]
    measuring: Measuring,

    #[command(flatten)]
    decoding: Decoding,
}

pub fn run(args: EvaluateArgs, global: &Global) -> anyhow::Result<()> {
    let options = args.keeping.options(&args.choices);
    let gpu = args.prediction.limits(&args.measuring, options.weights)?;
    let stand = gpu.is_none().then(|| args.measuring.open(global, &Group::alone())).transpose()?;
    let evaluated = &args.evaluated;
    let Opened { model_dir, tokenizer, dataset, examples } =
        evaluated.open(Some(args.max_samples), global)?;
    let session = match &stand {
        Some(stand) => {
            Session::new(models::load(&model_dir, &stand.device, options)?, options, generate::state)?
        }
        None => {
            let config = model_dir.join("config.json");
            Session::dry_run(&config, global.precision, options, generate::state)?
        }
    };
    let limits = session.real().loaded.model.limits();
    let mut decoding = args.decoding.of(evaluated.protocol, &model_dir, &limits, &tokenizer, global)?;
    let lengths = evaluated.truncation.lengths(&limits);
    let corpus =
        Corpus::encode(&tokenizer, &examples, lengths, limits, args.choices.global_attention.clone())?;
    if gpu.is_some() && evaluated.protocol == Protocol::Scrolls {
        // Nobody knows where an answer would end.
        decoding.eos_token_id = Vec::new();
        let most = decoding.max_new_tokens;
        global.note(format_args!("every answer is taken to have {most} tokens, the most it may have"));
    }
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
        "weights": options.weights,
    });
    let (protocol, batch_size) = (evaluated.protocol, args.batch_size.get());
    let mut work = Evaluation { session, tokenizer, corpus, examples, protocol, decoding, batch_size };
    match (gpu, stand) {
        (None, Some(stand)) => {
            let described = described(own, &stand.device.name(), global.precision);
            args.measuring.profile(&mut work, &stand, described, global, &Group::alone())
        }
        (Some(gpu), _) => predicted::print(&work.plan()?, gpu, own, &args.measuring, global),
        (None, None) => Err(Error::internal("nothing is measured and nothing predicted").into()),
    }
}
