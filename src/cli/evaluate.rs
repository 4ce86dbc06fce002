//! `evaluate`: accuracy and loss of a model on a split of a dataset.

use super::choices::{self, ModelChoices, Truncation, at_most, named};
use super::global::Global;
use super::output;
use super::predictions::{self, Scoring};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use wattention::data::{self, Split};
use wattention::device::Precision;
use wattention::error::Error;
use wattention::evaluate::{Task, evaluate};
use wattention::generate;
use wattention::metrics::{Protocol, Scores};
use wattention::models;
use wattention::models::session::Session;
use wattention::train::{Corpus, evaluate_loss};

/// Score a model on a dataset: ROUGE, F1 and loss
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Model directory in HF layout, or the name of a repository in the Hugging Face cache: ORG/NAME[@REVISION]
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

    /// Generated answers, references grouped by id (scrolls), or teacher-forced ones as Ang et al. 2022 (paper)
    #[arg(long, value_name = "scrolls|paper", default_value = "scrolls", value_parser = named::<Protocol>)]
    protocol: Protocol,

    /// Tokens generated for a prediction [default: 128, or the decoder's positions if fewer]
    #[arg(long, value_name = "TOKENS")]
    max_new_tokens: Option<NonZeroUsize>,

    #[command(flatten)]
    truncation: Truncation,

    /// Examples evaluated at once
    #[arg(long, value_name = "N", default_value = "8")]
    batch_size: NonZeroUsize,

    /// Examples to use, from the start of the split [default: all]
    #[arg(long, value_name = "N")]
    max_samples: Option<NonZeroUsize>,

    /// Where to write predictions and references, one JSON object a line
    #[arg(long, value_name = "FILE")]
    predictions_output: Option<PathBuf>,

    #[command(flatten)]
    choices: ModelChoices,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: PathBuf,
    dataset: String,
    split: Split,
    protocol: Protocol,
    device: String,
    precision: Precision,
    examples: usize,
    #[serde(flatten)]
    scores: Scores,
    /// The score that the dataset is judged by.
    headline: &'static str,
    eval_loss: f64,
    eval_seconds: f64,
    samples_per_second: f64,
    predictions_output: Option<PathBuf>,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    if let Some(path) = &args.predictions_output {
        output::check_file(path)?;
    }
    let model_dir = choices::model_dir(&args.model, global)?;
    let tokenizer = choices::tokenizer(args.tokenizer.as_deref(), &model_dir)?;
    let dataset = data::open(&args.dataset)?;
    let examples = choices::examples(&dataset, args.split, args.protocol, args.max_samples)?;
    if examples.iter().any(|example| example.references.is_empty()) {
        let what = "its test split has no answers to score against; use train or validation, or `generate` for the answers alone";
        return Err(Error::data(&args.dataset, what).into());
    }
    let device = global.open_device()?;
    let loaded = models::load(&model_dir, &device, args.choices.options())?;
    let limits = loaded.model.limits();
    let max_new_tokens = at_most(args.max_new_tokens, 128, limits.max_target);
    let lengths = args.truncation.lengths(&limits);
    let attention = args.choices.global_attention;
    let corpus = Corpus::encode(&tokenizer, &examples, lengths, limits, attention)?;
    let mut session = Session::new(loaded, args.choices.options(), generate::state)?;

    let batch = args.batch_size.get();
    let mut progress = Scoring::new(global, examples.len());
    let task = Task {
        tokenizer: &tokenizer,
        corpus: &corpus,
        examples: &examples,
        protocol: args.protocol,
        max_new_tokens,
        batch_size: batch,
    };
    let evaluation = evaluate(&mut session, task, &mut |done| progress.done(done))?;
    progress.finish();
    let eval_loss = evaluate_loss(&mut session, &corpus, batch)?;
    if let Some(path) = &args.predictions_output {
        predictions::write(path, &examples, &evaluation.predictions)?;
    }
    let report = Report {
        model: args.model,
        dataset: dataset.name,
        split: args.split,
        protocol: args.protocol,
        device: device.name(),
        precision: global.precision,
        examples: evaluation.examples,
        scores: evaluation.scores.rounded(),
        headline: dataset.headline.name(),
        eval_loss,
        eval_seconds: evaluation.time.0,
        samples_per_second: evaluation.examples as f64 / evaluation.time.0,
        predictions_output: args.predictions_output,
    };
    let text = report.text();
    global.print(&report, text)
}

impl Report {
    fn text(&self) -> String {
        let Scores { rouge1, rouge2, rouge_l, geometric_mean, f1 } = self.scores;
        let mut text = format!(
            "{} examples of {} ({}), {:.2} a second",
            self.examples,
            self.dataset,
            self.split.name(),
            self.samples_per_second
        );
        for (name, score) in [
            ("ROUGE-1", rouge1),
            ("ROUGE-2", rouge2),
            ("ROUGE-L", rouge_l),
            ("geometric mean", geometric_mean),
            ("F1", f1),
            ("loss", self.eval_loss),
        ] {
            text += &format!("\n{name:<16}{score:>9.4}");
        }
        text
    }
}
