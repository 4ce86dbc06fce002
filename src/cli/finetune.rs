//! `finetune`: one training run into a run directory.

use super::choices::{self, ModelChoices, at_most, named};
use super::global::Global;
use super::predictions::{self, Scoring};
use super::progress::Progress;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use wattention::data::{self, Example, Split};
use wattention::device::Device;
use wattention::error::{Error, Result};
use wattention::evaluate::{Task, Work, evaluate, plan_evaluation, work};
use wattention::generate::GenerateOptions;
use wattention::metrics::Protocol;
use wattention::models::session::Session;
use wattention::models::{self, Loaded};
use wattention::text::Tokenizer;
use wattention::train::{Corpus, Lengths, Options, Summary, fine_tune, plan_run};
use wattention::units::Bytes;

mod report;
mod run_dir;
mod settings;
mod watch;

use report::{Evaluated, Report, Resolved, Trained};
use run_dir::{Existing, Metrics, RunDir};
use settings::Settings;
use watch::Watch;

/// Fine-tune a model on a dataset, into a run directory with metrics, predictions and the model
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    start: Start,

    /// Folder with tokenizer.json [default: the model directory, or the folder of the config]
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,

    /// A SCROLLS zip, a folder of <split>.jsonl, or the name of an embedded dataset (qmsum-slice)
    #[arg(long, value_name = "PATH_OR_NAME")]
    dataset: String,

    /// Run directory: config.json, metrics.jsonl, predictions.jsonl and model/ in HF layout
    #[arg(long, value_name = "RUN")]
    output_dir: PathBuf,

    /// Replace what an earlier run left in the run directory
    #[arg(long)]
    overwrite_output_dir: bool,

    /// How predictions on the validation split are made and scored at the end
    #[arg(long, value_name = "scrolls|paper", default_value = "scrolls", value_parser = named::<Protocol>)]
    protocol: Protocol,

    /// Tokens generated for a prediction [default: 128, or the decoder's positions if fewer]
    #[arg(long, value_name = "TOKENS")]
    max_new_tokens: Option<NonZeroUsize>,

    /// Predict nothing at the end: no predictions.jsonl and no ROUGE, eval_loss only
    #[arg(long)]
    no_predict: bool,

    #[command(flatten)]
    choices: ModelChoices,

    #[command(flatten)]
    settings: Settings,
}

/// Where the weights come from.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Start {
    /// Model directory in HF layout: config.json, model.safetensors and tokenizer.json
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Configuration of a model to initialise freshly from --seed
    #[arg(long, value_name = "CONFIG.json")]
    config_name: Option<PathBuf>,
}

/// A split in text and in tokens.
struct Part {
    examples: Vec<Example>,
    corpus: Corpus,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let start = args.start.folder();
    let tokenizer_dir = args.tokenizer.as_deref().unwrap_or(&start);
    let existing = match args.overwrite_output_dir {
        true => Existing::Replace,
        false => Existing::Refuse,
    };
    let run_dir = RunDir::check(&args.output_dir, existing, &[&start, tokenizer_dir])?;
    let tokenizer = Tokenizer::load(tokenizer_dir)?;
    let device = global.open_device()?;
    let loaded = args.start.load(&device, &args.choices, global.seed)?;
    let limits = loaded.model.limits();
    let options = args.settings.options(&limits, global.seed);
    options.check()?;
    let max_new_tokens = at_most(args.max_new_tokens, 128, limits.max_target);
    let decoding = GenerateOptions { max_new_tokens, ..GenerateOptions::new(&limits) };
    let (train, validation) = args.read(global, &tokenizer, &loaded, &options)?;
    let parameters = loaded.parameters.trainable();
    let mut session = Session::new(loaded, args.choices.options(), work)?;

    let scored = validation.as_ref().filter(|_| !args.no_predict);
    let measured = validation.as_ref().map(|part| &part.corpus);
    let mut planned = plan_run(&mut session, &train.corpus, measured, &options)?;
    if let Some(part) = scored {
        let batch = options.per_device_eval_batch_size;
        let (corpus, protocol) = (&part.corpus, args.protocol);
        planned = plan_evaluation(&mut session, corpus, protocol, &decoding, batch)?;
    }
    let total_steps = options.total_steps(train.examples.len());
    global.note(format_args!(
        "{parameters} parameters, {} planned; {total_steps} steps of {} x {} examples on {}",
        Bytes(planned.total() as u64),
        options.gradient_accumulation_steps,
        options.per_device_train_batch_size,
        device.name()
    ));
    let mut metrics = run_dir.start(&Resolved {
        command: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION"),
        device: device.name(),
        precision: global.precision,
        threads: rayon::current_num_threads(),
        model: &args.start.model,
        config_name: &args.start.config_name,
        tokenizer: tokenizer_dir,
        dataset: &args.dataset,
        train_examples: train.examples.len(),
        eval_examples: validation.as_ref().map_or(0, |part| part.examples.len()),
        parameters,
        total_steps,
        planned_bytes: Bytes(planned.total() as u64),
        protocol: args.protocol,
        max_new_tokens,
        predict: scored.is_some(),
        global_attention: args.choices.global_attention,
        random_blocks: args.choices.random_blocks,
        training: &options,
    })?;

    let summary = train_all(&mut session, global, &train, measured, &options, &mut metrics)?;
    // Before predicting, so that nothing later can lose it.
    run_dir.save(&session.real().loaded, &[&start, tokenizer_dir])?;
    let epoch = summary.steps as f64 / options.steps_per_epoch(train.examples.len()) as f64;
    let trained = Trained::new(&summary, epoch);
    metrics.write(&trained)?;
    let mut report = Report {
        output_dir: args.output_dir,
        train: trained,
        eval_loss: summary.eval_loss,
        eval: None,
        planned_bytes: Bytes(planned.total() as u64),
        used_bytes: Bytes(0),
    };
    if let Some(part) = scored {
        let mut progress = Scoring::new(global, part.examples.len());
        let task = Task {
            tokenizer: &tokenizer,
            corpus: &part.corpus,
            examples: &part.examples,
            protocol: args.protocol,
            decoding: &decoding,
            batch_size: options.per_device_eval_batch_size,
            known: Vec::new(),
        };
        let evaluation = evaluate(&mut session, task, &mut |said| {
            progress.done(said.len());
            Ok(())
        })?;
        progress.finish();
        predictions::write(&run_dir.predictions(), &part.examples, &evaluation.predictions)?;
        let evaluated = Evaluated::new(&evaluation, &summary, epoch);
        metrics.write(&evaluated)?;
        report.eval = Some(evaluated);
    }
    report.used_bytes = Bytes(session.real().device().used().total() as u64);
    let text = report.text();
    global.print(&report, text)
}

fn train_all(
    session: &mut Session<Work>,
    global: &Global,
    train: &Part,
    validation: Option<&Corpus>,
    options: &Options,
    metrics: &mut Metrics,
) -> Result<Summary> {
    let examples = train.examples.len();
    let mut watch = Watch {
        metrics,
        progress: Progress::new(global, options.total_steps(examples), "training"),
        steps_per_epoch: options.steps_per_epoch(examples),
        eval_loss: None,
    };
    let summary = fine_tune(session, &train.corpus, validation, options, &mut watch)?;
    watch.progress.finish(format_args!("training: {} steps in {}", summary.steps, summary.train_time));
    Ok(summary)
}

impl Start {
    /// Where the tokenizer is unless told otherwise.
    fn folder(&self) -> PathBuf {
        match (&self.model, &self.config_name) {
            (Some(model), _) => model.clone(),
            (None, Some(config)) if config.is_dir() => config.clone(),
            (None, Some(config)) => match config.parent() {
                Some(dir) if dir != Path::new("") => dir.to_path_buf(),
                _ => PathBuf::from("."),
            },
            (None, None) => PathBuf::new(),
        }
    }

    fn load(&self, device: &Device, choices: &ModelChoices, seed: u64) -> Result<Loaded> {
        match (&self.model, &self.config_name) {
            (Some(model), _) => models::load(model, device, choices.options()),
            (None, Some(config)) => {
                let config = match config.is_dir() {
                    true => &config.join("config.json"),
                    false => config,
                };
                models::random(config, device, choices.options(), seed)
            }
            (None, None) => Err(Error::usage("give --model or --config-name")),
        }
    }
}

impl Args {
    /// The training split line by line, and the validation split where there is one.
    fn read(
        &self,
        global: &Global,
        tokenizer: &Tokenizer,
        loaded: &Loaded,
        options: &Options,
    ) -> Result<(Part, Option<Part>)> {
        let lengths = Lengths { source: options.max_source_length, target: options.max_target_length };
        let part = |examples: Vec<Example>| {
            let limits = loaded.model.limits();
            let global_attention = self.choices.global_attention;
            let corpus = Corpus::encode(tokenizer, &examples, lengths, limits, global_attention)?;
            Ok(Part { examples, corpus })
        };
        let dataset = data::open(&self.dataset)?;
        let (most, eval_most) = (self.settings.max_train_samples, self.settings.max_eval_samples);
        // Every reference is an example to learn from, whatever the protocol groups for scoring.
        let train = part(choices::examples(&dataset, Split::Train, Protocol::Paper, most)?)?;
        let found = choices::examples(&dataset, Split::Validation, self.protocol, eval_most);
        let validation = match found {
            Ok(examples) => Some(part(examples)?),
            Err(Error::Missing { .. }) if self.settings.eval_steps == 0 => {
                global.warn(format_args!(
                    "{} has no validation split: nothing will be evaluated",
                    self.dataset
                ));
                None
            }
            Err(error) => return Err(error),
        };
        Ok((train, validation))
    }
}
