//! `profile evaluate`: predictions for examples of a dataset, and their scores.

use super::super::choices::{self, ModelChoices, Truncation, named};
use super::super::decoding::Decoding;
use super::super::global::Global;
use super::measuring::{Measuring, described};
use super::predicted::{self, Prediction};
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use wattention::data::{self, Split};
use wattention::error::Error;
use wattention::generate;
use wattention::metrics::Protocol;
use wattention::models;
use wattention::models::session::Session;
use wattention::profile::work::Evaluation;
use wattention::train::Corpus;

#[derive(clap::Args, Debug)]
pub struct EvaluateArgs {
    /// Model directory in HF layout, or the name of a repository in the Hugging Face cache:
    /// ORG/NAME[@REVISION]
    #[arg(long, value_name = "DIR_OR_NAME")]
    model: PathBuf,

    /// Folder or repository of the tokenizer [default: the model's]
    #[arg(long, value_name = "DIR_OR_NAME")]
    tokenizer: Option<PathBuf>,

    /// A SCROLLS zip, a folder of <split>.jsonl, or the name of an embedded dataset (qmsum-slice)
    #[arg(long, value_name = "PATH_OR_NAME")]
    dataset: String,

    /// Which split to score
    #[arg(long, value_name = "train|validation|test", default_value = "validation", value_parser = named::<Split>)]
    split: Split,

    /// Generated answers (scrolls), or teacher-forced ones (paper)
    #[arg(long, value_name = "scrolls|paper", default_value = "scrolls", value_parser = named::<Protocol>)]
    protocol: Protocol,

    #[command(flatten)]
    truncation: Truncation,

    /// Examples evaluated at once
    #[arg(long, value_name = "N", default_value = "4")]
    batch_size: NonZeroUsize,

    /// Examples of a run, from the start of the split
    #[arg(long, value_name = "N", default_value = "4")]
    max_samples: NonZeroUsize,

    #[command(flatten)]
    choices: ModelChoices,

    #[command(flatten)]
    decoding: Decoding,

    #[command(flatten)]
    prediction: Prediction,

    #[command(flatten)]
    measuring: Measuring,
}

pub fn run(args: EvaluateArgs, global: &Global) -> anyhow::Result<()> {
    let gpu = args.prediction.limits(&args.measuring)?;
    let stand = gpu.is_none().then(|| args.measuring.open(global)).transpose()?;
    let model_dir = choices::model_dir(&args.model, global)?;
    let tokenizer = choices::tokenizer(args.tokenizer.as_deref(), &model_dir)?;
    let dataset = data::open(&args.dataset)?;
    let examples = choices::examples(&dataset, args.split, args.protocol, Some(args.max_samples))?;
    let options = args.choices.options();
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
    let mut decoding = args.decoding.options(&model_dir, &limits, global.seed, NonZeroUsize::new(1))?;
    let lengths = args.truncation.lengths(&limits);
    let corpus = Corpus::encode(&tokenizer, &examples, lengths, limits, args.choices.global_attention)?;
    if gpu.is_some() && args.protocol == Protocol::Scrolls {
        // Nobody knows where an answer would end.
        decoding.eos = Vec::new();
        let most = decoding.max_new_tokens;
        global.note(format_args!("every answer is taken to have {most} tokens, the most it may have"));
    }
    let own = json!({
        "what": "evaluate",
        "model": args.model,
        "dataset": dataset.name,
        "split": args.split,
        "protocol": args.protocol,
        "examples": examples.len(),
        "batch_size": args.batch_size,
        "max_source_length": lengths.source,
        "max_target_length": lengths.target,
        "decoding": decoding,
    });
    let (protocol, batch_size) = (args.protocol, args.batch_size.get());
    let mut work = Evaluation { session, tokenizer, corpus, examples, protocol, decoding, batch_size };
    match (gpu, stand) {
        (None, Some(stand)) => {
            let described = described(own, &stand.device.name(), global.precision);
            args.measuring.profile(&mut work, &stand, described, global)
        }
        (Some(gpu), _) => {
            let steps = work.walk()?;
            predicted::print(&steps.iter().collect::<Vec<_>>(), gpu, own, &args.measuring, global)
        }
        (None, None) => Err(Error::internal("nothing is measured and nothing predicted").into()),
    }
}
