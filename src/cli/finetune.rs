//! `finetune`: one training run into a run directory.

use super::choices::{self, ModelChoices, Recomputation, at_most};
use super::global::Global;
use super::predictions::{self, Scoring};
use super::values::named;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use wattention::device::Device;
use wattention::energy::{Activity, HELP};
use wattention::error::{Error, Result};
use wattention::evaluate::{self, Task, evaluate, work};
use wattention::generate::GenerateOptions;
use wattention::hub;
use wattention::metrics::Protocol;
use wattention::models::session::Session;
use wattention::models::{self, Loaded};
use wattention::text::Tokenizer;
use wattention::train::checkpoint::{self, Saver};
use wattention::train::{Control, Corpus, Options, Summary, Trainer};
use wattention::units::Bytes;

mod batch;
mod cache;
mod energy;
mod memory;
mod metrics;
mod parts;
mod recipes;
mod report;
mod reporting;
mod resume;
mod run_dir;
mod settings;
pub(super) mod signals;
mod tensorboard;
mod view;
mod watch;

pub use recipes::{NAMES as RECIPES, recipe};

use cache::Cache;
use energy::Energy;
use parts::Part;
use report::{Evaluated, Report, Resolved, Trained};
use reporting::Reporting;
use run_dir::{Existing, RunDir};
use settings::Settings;
use signals::Signals;
use view::View;
use watch::Watch;

/// Fine-tune a model on a dataset, into a run directory with metrics, predictions and the model
#[derive(clap::Args, Debug)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    start: Start,

    /// Folder or repository of the tokenizer [default: the model's, or the folder of the config]
    #[arg(long, value_name = "DIR_OR_NAME", alias = "tokenizer-name")]
    tokenizer: Option<PathBuf>,

    #[arg(long, value_name = "PATH_OR_NAME", alias = "dataset-name", help = choices::datasets())]
    dataset: String,

    /// Run directory: config.json, metrics.jsonl, energy.json, predictions.jsonl and model/ in HF layout
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
    recomputation: Recomputation,

    #[command(flatten)]
    settings: Settings,

    #[command(flatten)]
    cache: Cache,

    #[command(flatten)]
    reporting: Reporting,

    /// Resume from the newest complete checkpoint of the run directory (auto), or from one of them
    #[arg(
        long,
        alias = "resume-from-checkpoint",
        value_name = "auto|CHECKPOINT",
        conflicts_with = "overwrite_output_dir",
        help_heading = "Saving and stopping"
    )]
    resume: Option<PathBuf>,

    #[command(flatten)]
    control: Control,
}

/// Where the weights come from.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Start {
    /// Model directory in HF layout, or the name of a repository in the Hugging Face cache: ORG/NAME[@REVISION]
    #[arg(long, value_name = "DIR_OR_NAME", alias = "model-name-or-path")]
    model: Option<PathBuf>,

    /// Configuration of a model to initialise freshly from --seed
    #[arg(long, value_name = "CONFIG.json")]
    config_name: Option<PathBuf>,
}

pub fn run(mut args: Args, global: &Global) -> anyhow::Result<()> {
    args.start.model = args.start.model.map(|name| choices::model_dir(&name, global)).transpose()?;
    args.tokenizer = args.tokenizer.map(|name| hub::directory(&name)).transpose()?;
    let start = args.start.folder();
    let tokenizer_dir = args.tokenizer.as_deref().unwrap_or(&start);
    let existing = match (args.overwrite_output_dir, &args.resume) {
        (true, _) => Existing::Replace,
        (false, Some(_)) => Existing::Resume,
        (false, None) => Existing::Refuse,
    };
    let run_dir = RunDir::check(&args.output_dir, existing, &[&start, tokenizer_dir])?;
    let tokenizer = Tokenizer::load(tokenizer_dir)?;
    let device = global.open_device()?;
    let mut energy = Energy::start(&device, args.reporting.energy_per_phase, run_dir.root())?;
    let model_options = models::Options { recompute: args.recomputation.recompute, ..args.choices.options() };
    let config = args.start.config();
    let limits = models::limits(&config)?;
    let options = args.settings.options(&limits, global.seed)?;
    let control = args.control.clone();
    control.check(options.eval_steps)?;
    let max_new_tokens = at_most(args.max_new_tokens, 128, limits.max_target);
    let decoding = GenerateOptions { max_new_tokens, ..GenerateOptions::new(&limits) };
    energy.enter(Activity::Data);
    let (train, validation) = args.read(global, &tokenizer, limits, &options)?;
    energy.enter(Activity::Rest);
    let decides = control.metric() != "loss";
    let run = memory::Run {
        config: &config,
        choices: model_options,
        device: &device,
        train: &train.corpus,
        validation: validation.as_ref().map(|part| &part.corpus),
        predict: (decides || !args.no_predict).then_some((args.protocol, &decoding)),
    };
    // Before the weights take their part of what is free.
    let (options, needs) = run.choose(&args.settings.batch, options)?;
    let loaded = args.start.load(&device, model_options, global.seed)?;
    let parameters = loaded.parameters.trainable();
    let mut session = Session::new(loaded, model_options, work)?;

    let scored = validation.as_ref().filter(|_| !args.no_predict);
    let measured = validation.as_ref().map(|part| &part.corpus);
    let mut predicting = validation.as_ref().map(|part| Task {
        tokenizer: &tokenizer,
        corpus: &part.corpus,
        examples: &part.examples,
        protocol: args.protocol,
        decoding: &decoding,
        batch_size: options.per_device_eval_batch_size,
        known: Vec::new(),
    });
    let total_steps = options.total_steps(train.examples.len());
    global.note(format_args!(
        "{parameters} parameters, {needs} planned; {total_steps} steps of {} x {} examples on {}",
        options.gradient_accumulation_steps,
        options.per_device_train_batch_size,
        device.name()
    ));
    let _lock = run_dir.lock()?;
    let settings =
        args.decided(&session.real().loaded, &train, measured, &options, &control, max_new_tokens)?;
    let resumed = match &args.resume {
        Some(wanted) => resume::find(&run_dir, wanted, &settings, &device.name(), global)?,
        None => None,
    };
    let config = Resolved {
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
        planned_bytes: needs.total,
        protocol: args.protocol,
        max_new_tokens,
        predict: scored.is_some(),
        global_attention: args.choices.global_attention,
        random_blocks: args.choices.random_blocks,
        recompute: args.recomputation.recompute,
        training: &options,
        control: &control,
        resumed_from: resumed.as_ref().map(|checkpoint| checkpoint.dir.clone()),
        settings: &settings,
    };
    let signals = Signals::catch().map_err(|e| Error::internal(format!("signals cannot be caught: {e}")))?;
    energy.go_on(resumed.is_some(), global)?;
    let mut metrics = run_dir.start(&config, resumed.as_ref().map(|from| from.state.global_step))?;
    if let Some(board) = args.reporting.open(run_dir.root(), resumed.is_some())? {
        metrics = metrics.also_to(board);
    }
    let companions = run_dir::companions(&[&start, tokenizer_dir])?;
    let root = run_dir.root();
    let saver =
        Saver::new(root, settings.clone(), device.name(), companions.clone(), control.save_total_limit);

    let mut trainer = Trainer::new(&mut session, &train.corpus, &options, &control)?.save_with(saver);
    if let Some(measured) = measured {
        trainer = trainer.validate_on(measured);
    }
    if let Some(predicting) = predicting.as_mut().filter(|_| decides) {
        trainer = trainer.score_with(predicting);
    }
    if let Some(checkpoint) = &resumed {
        trainer = trainer.restore(checkpoint)?;
    }
    let view = View::new(
        global,
        trainer.state().global_step,
        trainer.total_steps(),
        needs.total,
        trainer.state().eval_loss,
    );
    let steps_per_epoch = options.steps_per_epoch(train.examples.len());
    energy.trains(trainer.state());
    let (metrics, watched) = (&mut metrics, &mut energy);
    let watch = Watch { metrics, energy: watched, view, global, signals: &signals, steps_per_epoch };
    let summary = train_all(trainer, watch)?;
    // Before predicting, so that nothing later can lose it.
    energy.enter(Activity::Checkpoint);
    run_dir.save(&session.real().loaded, &companions)?;
    energy.enter(Activity::Rest);
    energy.trained(&summary);
    energy.write()?;
    let epoch = summary.steps as f64 / options.steps_per_epoch(train.examples.len()) as f64;
    let trained = Trained::new(&summary, epoch);
    metrics.write(&trained)?;
    signals.let_go();
    if let Some(signal) = signals.caught() {
        return Err(Error::Interrupted(signal).into());
    }
    let mut report = Report {
        output_dir: args.output_dir,
        train: trained,
        eval_loss: summary.eval_loss,
        eval: None,
        planned_bytes: needs.total,
        used_bytes: Bytes(0),
        energy: None,
    };
    if let (Some(part), Some(predicting)) = (scored, &predicting) {
        energy.enter(Activity::Evaluation);
        let mut progress = Scoring::new(global, part.examples.len());
        let task = predicting.clone();
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
    energy.enter(Activity::Rest);
    report.energy = Some(energy.write()?);
    let text = report.text();
    global.print(&report, text)
}

fn train_all(trainer: Trainer<evaluate::Work>, mut watch: Watch) -> Result<Summary> {
    let summary = trainer.run(&mut watch);
    watch.energy.enter(Activity::Rest);
    if summary.is_err() {
        // What ended the run is worth more than what its energy could not be written to.
        let _ = watch.energy.write();
    }
    if let Err(Error::Interrupted(_)) = &summary {
        let text = "training is stopped and saved; the same command with --resume auto goes on with it";
        watch.global.note(text);
    }
    let summary = summary?;
    watch.view.finish(format_args!("training: {} steps in {}", summary.steps, summary.train_time));
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

    /// The model's configuration file.
    fn config(&self) -> PathBuf {
        match (&self.model, &self.config_name) {
            (None, Some(config)) if !config.is_dir() => config.clone(),
            _ => self.folder().join("config.json"),
        }
    }

    fn load(&self, device: &Device, options: models::Options, seed: u64) -> Result<Loaded> {
        match (&self.model, &self.config_name) {
            (Some(model), _) => models::load(model, device, options),
            (None, _) => models::random(&self.config(), device, options, seed),
        }
    }
}

impl Args {
    /// What decides the run's results, to be compared with a checkpoint's.
    fn decided(
        &self,
        loaded: &Loaded,
        train: &Part,
        validation: Option<&Corpus>,
        options: &Options,
        control: &Control,
        max_new_tokens: usize,
    ) -> Result<checkpoint::Settings> {
        let mut settings = checkpoint::Settings::of(loaded, &train.corpus, validation, options, control)?;
        settings.add("random_blocks", &self.choices.random_blocks)?;
        if control.metric() != "loss" {
            settings.add("protocol", &self.protocol)?;
            settings.add("max_new_tokens", &max_new_tokens)?;
        }
        Ok(settings)
    }
}
