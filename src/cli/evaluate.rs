//! `evaluate`: accuracy and loss of a model on a split of a dataset.

use super::choices::{Evaluated, Keeping, ModelChoices, Opened};
use super::decoding::Decoding;
use super::energy::{self, Predicting};
use super::global::Global;
use super::output;
use super::progress::Scoring;
use super::ranks::{Ranks, Together};
use crate::collective::Group;
use crate::data::{Example, Split};
use crate::device::Precision;
use crate::energy::{Activity, HELP, Work};
use crate::error::{Error, Result};
use crate::evaluate::{LogitError, Task, evaluate_among, logit_error};
use crate::generate::{self, GenerateOptions};
use crate::hub::{Folder, Name};
use crate::metrics::{Protocol, Scores};
use crate::models;
use crate::models::session::Session;
use crate::nn::Weights;
use crate::run::write_predictions;
use crate::train::{Corpus, Cut, GlobalAttention, agree_on_weights, evaluate_loss_among};
use crate::units::counted;
use crate::weights;
use partial::Partial;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use submission::Submission;

mod partial;
mod submission;

/// Score a model on a dataset: ROUGE, F1 and loss
#[derive(clap::Args, Debug)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    evaluated: Evaluated,

    /// Examples evaluated at once
    #[arg(long, value_name = "N", default_value = "16")]
    batch_size: NonZeroUsize,

    /// Examples to use, from the start of the split [default: all]
    #[arg(long, value_name = "N")]
    max_samples: Option<NonZeroUsize>,

    /// Where to write predictions and references, one JSON object a line; a stopped run resumes from FILE.part
    #[arg(long, value_name = "FILE")]
    predictions_output: Option<PathBuf>,

    /// Where to write predictions as SCROLLS takes them: .json, text by id, or .csv, ID,Task,Prediction
    #[arg(long, value_name = "FILE")]
    submission: Option<PathBuf>,

    #[command(flatten)]
    choices: ModelChoices,

    #[command(flatten)]
    keeping: Keeping,

    #[command(flatten)]
    decoding: Decoding,

    #[command(flatten)]
    ranks: Ranks,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: Name,
    dataset: String,
    split: Split,
    protocol: Protocol,
    device: String,
    precision: Precision,
    weights: Weights,
    examples: usize,
    global_attention: GlobalAttention,
    /// Records that were passed over.
    skipped: usize,
    /// What did not fit `--max-source-length` and `--max-target-length`.
    cut: Cut,
    /// Absent for a split without answers.
    #[serde(flatten)]
    scored: Option<Scored>,
    /// How answers were generated; absent for teacher-forced ones.
    decoding: Option<GenerateOptions>,
    /// What 8 bits change, where weights are kept in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    logit_error: Option<LogitError>,
    eval_seconds: f64,
    samples_per_second: f64,
    energy: energy::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    ranks: Option<Together>,
    predictions_output: Option<PathBuf>,
    submission: Option<PathBuf>,
}

#[derive(Serialize)]
struct Scored {
    #[serde(flatten)]
    scores: Scores,
    /// The score that the dataset is judged by.
    headline: &'static str,
    eval_loss: f64,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    args.ranks.run(global, |global, group| score(&args, global, &group))
}

fn score(args: &Args, global: &Global, group: &Group) -> anyhow::Result<()> {
    for path in args.predictions_output.iter().chain(&args.submission).filter(|_| group.is_first()) {
        output::check_file(path)?;
    }
    let evaluated = &args.evaluated;
    let submission =
        args.submission.as_deref().map(|path| Submission::named(path, evaluated.protocol)).transpose()?;
    let Opened { model_dir, tokenizer, dataset, examples } = evaluated.open(args.max_samples, global)?;
    let has_answers = examples.iter().all(|example| !example.references.is_empty());
    if !has_answers && (submission.is_none() || evaluated.protocol == Protocol::Paper) {
        let what = "its test split has no answers to score against; use train or validation, or --submission for the predictions alone";
        return Err(Error::data(&evaluated.dataset, what).into());
    }
    let device = global.open_device()?;
    let mut energy = Predicting::start(&device, Activity::Evaluation)?;
    let options = args.keeping.options(&args.choices);
    let loaded = models::load(&model_dir, &device, options)?;
    let limits = loaded.model.limits();
    let decoding = args.decoding.of(evaluated.protocol, &model_dir, &limits, &tokenizer, global)?;
    let lengths = evaluated.truncation.lengths(&limits);
    let attention = args.choices.global_attention.clone();
    energy.reads();
    let corpus = Corpus::encode(&tokenizer, &examples, lengths, limits, attention)?;
    let cut = corpus.cut();
    let said = [args.choices.global_attention.idle(&limits), cut.text()];
    said.into_iter().flatten().for_each(|what| global.note(what));
    energy.rests();
    let mut session = Session::new(loaded, options, generate::state)?;

    let attention = &corpus.global_attention;
    let lengths = [lengths.source, lengths.target];
    let settings = args.settings(global, &model_dir, lengths, attention, &decoding)?;
    group.agree_on_work(&args.work(&settings, &examples), device.uuid().as_deref())?;
    agree_on_weights(&session.real().loaded.parameters, group, "weights")?;
    let output = args.predictions_output.as_deref().filter(|_| group.is_first());
    let (mut partial, known) =
        match output.map(|path| Partial::open(path, &settings, &examples)).transpose()? {
            Some((partial, known)) => (Some(partial), known),
            None => (None, Vec::new()),
        };
    let known = group.texts_of_first(known)?;
    if !known.is_empty() {
        global.note(format_args!("{} predictions are there from a run that was stopped", known.len()));
    }
    let batch = args.batch_size.get();
    // What an earlier run predicted cost nothing here.
    let work = corpus.examples[known.len()..].iter().fold(Work { samples: 0, tokens: 0 }, |sum, example| {
        Work { samples: sum.samples + 1, tokens: sum.tokens + example.input.len() as u64 }
    });
    let mut progress = Scoring::new(global, examples.len());
    let task = Task {
        tokenizer: &tokenizer,
        corpus: &corpus,
        examples: &examples,
        protocol: evaluated.protocol,
        decoding: &decoding,
        batch_size: batch,
        known,
    };
    energy.predicts();
    let evaluation = evaluate_among(&mut session, task, group, &mut |said| {
        progress.done(said.len());
        partial.as_mut().map_or(Ok(()), |partial| partial.add(&examples, said))
    })?;
    energy.rests();
    progress.finish();
    let scored = match has_answers {
        false => None,
        true => Some(Scored {
            scores: evaluation.scores.rounded(),
            headline: dataset.headline.name(),
            eval_loss: evaluate_loss_among(&mut session, &corpus, batch, group)?,
        }),
    };
    if let Some(path) = output {
        write_predictions(path, &examples, &evaluation.predictions, None)?;
    }
    if let Some(submission) = submission.filter(|_| group.is_first()) {
        submission.write(&dataset.name, &examples, &evaluation.predictions)?;
    }
    partial.map_or(Ok(()), Partial::done)?;
    let first: Vec<usize> = (0..batch.min(examples.len())).collect();
    let logit_error = logit_error(session, &model_dir, options, || corpus.source(&first))?;
    let energy = energy.report(work, evaluation.time, &device, group)?;
    let ranks = Together::of(group, energy.devices.clone());
    let report = Report {
        model: evaluated.model.clone(),
        dataset: dataset.name.clone(),
        split: evaluated.split,
        protocol: evaluated.protocol,
        device: device.name(),
        precision: global.precision,
        weights: options.weights,
        examples: examples.len(),
        global_attention: corpus.global_attention,
        skipped: dataset.skipped(evaluated.split).len(),
        cut,
        scored,
        decoding: (evaluated.protocol == Protocol::Scrolls).then_some(decoding),
        logit_error,
        eval_seconds: evaluation.time.0,
        samples_per_second: examples.len() as f64 / evaluation.time.0,
        energy,
        ranks,
        predictions_output: args.predictions_output.clone(),
        submission: args.submission.clone(),
    };
    let text = LogitError::below(report.text(), report.logit_error.as_ref());
    let text = text + "\n" + &report.energy.text();
    global.print(&report, text)
}

impl Args {
    /// All that predictions depend on.
    fn settings(
        &self,
        global: &Global,
        model_dir: &Folder,
        lengths: [usize; 2],
        global_attention: &GlobalAttention,
        decoding: &GenerateOptions,
    ) -> Result<Map<String, Value>> {
        let evaluated = &self.evaluated;
        let weights = weights::entry(model_dir).map(|(_, name)| model_dir.join(name));
        let modified =
            weights.and_then(|path| std::fs::metadata(path).and_then(|found| found.modified()).ok());
        let since = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let settings = json!({
            "model": evaluated.model,
            "model_modified": since.map(|since| since.as_millis() as u64),
            "dataset": evaluated.dataset,
            "split": evaluated.split,
            "protocol": evaluated.protocol,
            "precision": global.precision,
            "weights": self.keeping.weights,
            "max_source_length": lengths[0],
            "max_target_length": lengths[1],
            "max_samples": self.max_samples,
            "global_attention": global_attention,
            "random_blocks": self.choices.random_blocks,
            "decoding": decoding,
        });
        match settings {
            Value::Object(settings) => Ok(settings),
            _ => Err(Error::internal("settings are no object")),
        }
    }

    /// What all ranks must have in common, as a hash.
    fn work(&self, settings: &Map<String, Value>, examples: &[Example]) -> String {
        let mut hash = blake3::Hasher::new();
        for (key, value) in settings {
            // The same weights may lie on each machine, written there at a time of its own.
            if key != "model_modified" {
                hash.update(format!("{key} {value}\n").as_bytes());
            }
        }
        hash.update(self.batch_size.to_string().as_bytes());
        for example in examples {
            for text in [&example.id, &example.pid, &example.input].into_iter().chain(&example.references) {
                hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
            }
        }
        hash.finalize().to_hex().to_string()
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{} of {} ({}), {:.2} a second",
            counted(self.examples, "example"),
            self.dataset,
            self.split.name(),
            self.samples_per_second
        );
        if let Some(ranks) = &self.ranks {
            text += &format!("\n{}", ranks.text());
        }
        let Some(Scored { scores, eval_loss, .. }) = &self.scored else {
            return text + "\nnot scored: the split has no answers";
        };
        let Scores { rouge1, rouge2, rouge_l, geometric_mean, f1, .. } = *scores;
        for (name, score) in [
            ("ROUGE-1", rouge1),
            ("ROUGE-2", rouge2),
            ("ROUGE-L", rouge_l),
            ("geometric mean", geometric_mean),
            ("F1", f1),
            ("F1 precision", scores.f1_precision),
            ("F1 recall", scores.f1_recall),
            ("loss", *eval_loss),
        ] {
            text += &format!("\n{name:<16}{score:>9.4}");
        }
        text
    }
}
