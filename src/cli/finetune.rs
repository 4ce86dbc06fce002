//! `finetune`: one training run into a run directory.

use super::choices::{self, ModelChoices, Recomputation, Trainable};
use super::columns::Columns;
use super::decoding::Decoding;
use super::energy::open;
use super::global::Global;
use super::ranks::Together;
use crate::collective::{CommunicationType, Group};
use crate::energy::HELP;
use crate::error::{Error, Result};
use crate::generate::GenerateOptions;
use crate::hub::Name;
use crate::metrics::Protocol;
use crate::models::ModelLimits;
use crate::run::{
    Batch, EnergyReport, Evaluated, Existing, LeftOut, Means, Origin, Run, RunDir, Settings, Trained,
};
use crate::settings::named;
use crate::train::{Control, GlobalAttention};
use crate::units::{Bytes, counted};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::rc::Rc;

mod cache;
mod recipes;
mod reporting;
mod sharing;
pub(super) mod signals;
mod training;
mod view;
mod watch;

pub use recipes::{NAMES as RECIPES, recipe};

use cache::Cache;
use reporting::Reporting;
use sharing::Sharing;
use signals::Signals;
use training::Training;
use watch::Watch;

/// Fine-tune a model on a dataset, into a run directory with metrics, predictions and the model
#[derive(clap::Args, Debug)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    start: Start,

    /// Tokenizer, named as a model is [default: the model's, or that in the folder of the configuration]
    #[arg(long, value_name = "DIR_OR_NAME", alias = "tokenizer-name")]
    tokenizer: Option<Name>,

    /// LED's attention window, tokens of both sides together [default: the model's]
    #[arg(long, value_name = "TOKENS")]
    attention_window: Option<NonZeroUsize>,

    #[arg(long, value_name = "PATH_OR_NAME", alias = "dataset-name", help = choices::datasets())]
    dataset: String,

    #[command(flatten)]
    columns: Columns,

    /// Run directory: config.json, metrics.jsonl, energy.json, predictions.jsonl and model/ in HF layout
    #[arg(long, value_name = "RUN")]
    output_dir: PathBuf,

    /// Replace what an earlier run left in the run directory
    #[arg(long)]
    overwrite_output_dir: bool,

    /// How predictions on the validation split are made and scored at the end
    #[arg(long, value_name = "PROTOCOL", default_value = "scrolls", value_parser = named::<Protocol>())]
    protocol: Protocol,

    /// Predict nothing at the end: no predictions.jsonl and no ROUGE, eval_loss only
    #[arg(long)]
    no_predict: bool,

    #[command(flatten)]
    choices: ModelChoices,

    #[command(flatten)]
    trainable: Trainable,

    #[command(flatten)]
    recomputation: Recomputation,

    #[command(flatten)]
    training: Training,

    #[command(flatten)]
    sharing: Sharing,

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

    #[command(flatten)]
    decoding: Decoding,
}

/// Where the weights come from.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Start {
    #[arg(long, value_name = "DIR_OR_NAME", alias = "model-name-or-path", help = choices::models())]
    model: Option<Name>,

    /// Configuration of a model to initialise freshly from --seed: a config.json, or a model as --model names it
    #[arg(long, value_name = "CONFIG.json|MODEL")]
    config_name: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    output_dir: PathBuf,
    global_attention: GlobalAttention,
    /// What of the data was not read.
    left_out: LeftOut,
    train: Trained,
    eval_loss: Option<f64>,
    eval: Option<Evaluated>,
    planned_bytes: Bytes,
    /// The most that the device really held.
    used_bytes: Bytes,
    energy: EnergyReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    ranks: Option<Together>,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    args.trainable.check()?;
    args.sharing.ranks.run(global, |global, group| fine_tune(&args, global, group))
}

fn fine_tune(args: &Args, global: &Global, group: Rc<Group>) -> anyhow::Result<()> {
    let origin = args.origin(global)?;
    // What a rank writes that does not write the run goes with it.
    let scratch = tempfile::tempdir().map_err(|e| Error::output(std::env::temp_dir(), e))?;
    let dir = match group.is_first() {
        true => RunDir::check(&args.output_dir, args.existing(), &origin.folders())?,
        false => RunDir::check(scratch.path(), Existing::Replace, &origin.folders())?,
    };
    let device = global.open_device()?;
    let sampler = open(&device)?;
    let settings = args.settings(&origin, global, &group)?;
    let means = Means {
        device: &device,
        sampler: &sampler,
        cache: args.cache.open(),
        tensorboard: args.reporting.tensorboard(&args.output_dir).filter(|_| group.is_first()),
        more_protocols: Vec::new(),
        more_weights: Vec::new(),
        carbon_intensity: args.reporting.carbon_intensity,
        group: group.clone(),
        layout: args.sharing.layout(&settings.training, &device, &group),
    };
    let mut watch = Watch::new(global);
    let mut run = Run::open(origin, settings, dir, means, &mut watch)?;
    let training = &run.settings().training;
    global.note(format_args!(
        "{} parameters, {} planned; {} of {} x {} examples on {}",
        run.parameters(),
        run.needs(),
        counted(run.total_steps() as usize, "step"),
        training.gradient_accumulation_steps,
        training.per_device_train_batch_size,
        device.name()
    ));
    if group.is_alone() && training.communication_data_type != CommunicationType::Fp32 {
        let what = training.communication_data_type;
        global.note(format_args!(
            "--communication-data-type {what} changes nothing: one rank exchanges no gradients"
        ));
    }
    let signals = Signals::catch().map_err(|e| Error::internal(format!("signals cannot be caught: {e}")))?;
    watch.planned = run.needs().total;
    watch.signals = Some(signals);
    let outcome = run.train(&mut watch);
    if let Err(Error::Interrupted(_)) = &outcome {
        global.note("training is stopped and saved; the same command with --resume auto resumes it");
    }
    let outcome = outcome?;
    watch.trained(&outcome.summary);
    if let Some(signal) = group.asked(watch.let_go()) {
        return Err(Error::Interrupted(signal).into());
    }
    let predicts = run.validation().is_some() && run.settings().predict;
    let (eval_loss, steps) = (outcome.summary.eval_loss, outcome.summary.steps);
    let eval = match predicts {
        true => Some(run.predict(eval_loss, steps, &mut watch)?.0),
        false => None,
    };
    watch.predicted();
    let energy = run.write_energy()?;
    if group.is_first() {
        run.write_card(&energy)?;
    }
    let ranks = Together::of(&group, energy.devices.clone());
    let report = Report {
        output_dir: args.output_dir.clone(),
        global_attention: run.global_attention().clone(),
        left_out: run.left_out(),
        train: outcome.trained,
        eval_loss,
        eval,
        planned_bytes: run.needs().total,
        used_bytes: run.used(),
        energy,
        ranks,
    };
    let text = report.text();
    global.print(&report, text)
}

impl Args {
    fn origin(&self, global: &Global) -> Result<Origin> {
        let mut origin = match (&self.start.model, &self.start.config_name) {
            (Some(model), _) => Origin::model(model.clone())?,
            (None, Some(config)) => Origin::config_name(config)?,
            (None, None) => return Err(Error::usage("give --model or --config-name")),
        };
        if let Some(model) = &self.start.model {
            choices::note_model(model, origin.folders()[0], global);
        }
        if let Some(tokenizer) = &self.tokenizer {
            origin = origin.with_tokenizer(tokenizer.clone())?;
        }
        match self.attention_window {
            Some(window) => origin.with_window(window.get()),
            None => Ok(origin),
        }
    }

    fn existing(&self) -> Existing {
        match (self.overwrite_output_dir, &self.resume) {
            (true, _) => Existing::Replace,
            (false, Some(wanted)) => Existing::Resume(wanted.clone()),
            (false, None) => Existing::Refuse,
        }
    }

    /// How predictions are generated: as flags say, and else as the model's own settings do.
    fn decoding(&self, origin: &Origin, limits: &ModelLimits, global: &Global) -> Result<GenerateOptions> {
        let folder = origin.folders()[0];
        let has_settings =
            ["generation_config.json", "config.json"].iter().any(|name| folder.join(name).exists());
        let decoding = if has_settings { self.decoding.clone() } else { self.decoding.clone().alone() };
        decoding.of(self.protocol, folder, limits, &origin.tokenizer()?, global)
    }

    /// What was asked for, and the defaults that the model bounds.
    fn settings(&self, origin: &Origin, global: &Global, group: &Group) -> Result<Settings> {
        let (training, limits) = (&self.training, origin.limits()?);
        let ranks = sharing::of_step(group, &self.output_dir, self.resume.is_some())?;
        let batch = Batch { ranks, ..training.batch.clone() };
        Ok(Settings {
            dataset: self.dataset.clone(),
            reading: self.columns.reading(),
            max_train_samples: training.max_train_samples.map(NonZeroUsize::get),
            max_eval_samples: training.max_eval_samples.map(NonZeroUsize::get),
            protocol: self.protocol,
            decoding: self.decoding(origin, &limits, global)?,
            predict: !self.no_predict,
            global_attention: self.choices.global_attention.clone(),
            random_blocks: self.choices.random_blocks,
            recompute: self.recomputation.recompute,
            energy_per_phase: self.reporting.energy_per_phase,
            training: training.options(&limits, global.seed, &batch)?,
            batch,
            control: self.control.clone(),
        })
    }
}

impl Report {
    fn text(&self) -> String {
        let Report { train, eval, .. } = self;
        let mut text = format!(
            "{}, {:.2} samples/s ({:.2} with evaluations and checkpoints), train loss {:.4}",
            counted(train.step as usize, "step"),
            train.step_samples_per_second,
            train.train_samples_per_second,
            train.train_loss
        );
        if train.model_step != train.step {
            text += &format!(", weights of step {}", train.model_step);
        }
        if let Some(loss) = self.eval_loss {
            text += &format!(", eval loss {loss:.4}");
        }
        if let Some(eval) = eval {
            text += &format!(
                ", ROUGE-1/2/L {:.2}/{:.2}/{:.2}, F1 {:.2}",
                eval.eval_rouge1, eval.eval_rouge2, eval.eval_rouge_l, eval.eval_f1
            );
        }
        text += &format!(": {}\n{}", self.output_dir.display(), self.energy.text());
        match &self.ranks {
            Some(ranks) => text + "\n" + &ranks.text(),
            None => text,
        }
    }
}
