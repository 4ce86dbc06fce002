//! One fine-tuning run in a run directory: its settings and splits, the batch that fits, training from wherever an
//! earlier process left it, its log and its energy, the saved model, and the predictions that are scored.
//!
//! `finetune`, a study's cells and `examples/finetune.rs` are the same run with different settings.

mod books;
mod card;
mod config;
mod decoding;
mod dir;
mod log;
mod memory;
mod observer;
mod origin;
mod predictions;
mod recorder;
mod report;
mod resume;
mod scoring;
mod settings;
mod splits;
mod tensorboard;

pub use books::EnergyReport;
pub use dir::{Existing, RunDir};
pub use memory::{MemoryRequest, Needs};
pub use observer::{Message, Observer};
pub use origin::{Origin, config_with_window};
pub use predictions::write_predictions;
pub use report::{Evaluated, Trained};
pub use scoring::Scored;
pub use settings::{Batch, Settings};
pub use splits::{Part, SplitLeftOut};

use crate::collective::Group;
use crate::device::Device;
use crate::energy::{self, Activity, Sampler, StepPhases};
use crate::error::{Error, Result};
use crate::evaluate::{Shared, Work, ranked_work};
use crate::files::lock::Lock;
use crate::generate;
use crate::metrics::{Headline, Protocol};
use crate::models::Family;
use crate::models::session::Session;
use crate::nn::Weights;
use crate::train::checkpoint::Saver;
use crate::train::token_cache::TokenCache;
use crate::train::{GlobalAttention, RankLayout, Summary, Trainer};
use crate::units::{Bytes, Seconds};
use books::Books;
use card::Results;
use log::{Keep, Log};
use recorder::Recorder;
use serde::Serialize;
use splits::Splits;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// What a run works with and on, besides its settings.
pub struct Means<'a> {
    pub device: &'a Device,
    pub sampler: &'a Sampler,
    pub cache: Option<TokenCache>,
    /// Folder of TensorBoard's event files, if they are wanted.
    pub tensorboard: Option<PathBuf>,
    /// Protocols that the run is scored under besides its own; the memory for them is planned.
    pub more_protocols: Vec<Protocol>,
    /// How weights are kept when the run is scored, besides as they are stored; the memory for them is planned.
    pub more_weights: Vec<Weights>,
    /// Grams of CO2 for a kilowatt-hour, where the user knows it; the model card then has the run's emissions.
    pub carbon_intensity: Option<f64>,
    /// The ranks that share the run out. The first one's run directory has the run; those of others are for scratch.
    pub group: Rc<Group>,
    /// What this rank holds that depends on the other ranks.
    pub layout: RankLayout,
}

impl<'a> Means<'a> {
    /// Without a cache and TensorBoard.
    pub fn new(device: &'a Device, sampler: &'a Sampler) -> Self {
        Means {
            device,
            sampler,
            cache: None,
            tensorboard: None,
            more_protocols: Vec::new(),
            more_weights: Vec::new(),
            carbon_intensity: None,
            group: Rc::new(Group::alone()),
            layout: RankLayout::ALONE,
        }
    }
}

/// A run that is ready to train; dropping it gives the run directory free.
pub struct Run<'a> {
    settings: Settings,
    origin: Origin,
    dir: RunDir,
    means: Means<'a>,
    splits: Splits,
    train: Part,
    /// None for a dataset without one, where nothing asks for evaluations.
    validation: Option<Part>,
    needs: Needs,
    session: Session<Work>,
    /// The trained model with its weights in 8 bits, once it is scored.
    rounded: Option<Session<generate::State>>,
    books: Books<'a>,
    started: Option<Started>,
    results: Results,
}

/// What there is once a run has begun to write.
struct Started {
    log: Log,
    lock: Arc<Lock>,
}

/// How training ended.
pub struct Outcome {
    pub summary: Summary,
    /// Also the last line that `metrics.jsonl` has of training.
    pub trained: Trained,
    /// Steps that earlier processes had made.
    pub resumed_from: u64,
}

/// What a run does not read of its data.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LeftOut {
    pub train: SplitLeftOut,
    pub validation: Option<SplitLeftOut>,
}

impl<'a> Run<'a> {
    /// Reads the splits, chooses the batch and loads the weights; nothing is written yet.
    pub fn open(
        origin: Origin,
        settings: Settings,
        dir: RunDir,
        means: Means<'a>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut books = Books::start(&means, settings.energy_per_phase, dir.root());
        let limits = origin.limits()?;
        settings.check()?;
        means.more_weights.iter().try_for_each(|weights| weights.check(means.device))?;
        let splits = Splits::open(&origin, &settings, limits, means.cache.clone())?;
        books.enter(Activity::Data);
        let train = splits.train(observer)?;
        let validation = splits.validation(&settings, observer)?;
        books.enter(Activity::Rest);
        let choices = settings.model_options();
        let mut protocols = vec![settings.protocol];
        protocols.extend(&means.more_protocols);
        let request = MemoryRequest {
            config: origin.config(),
            precision: means.device.precision(),
            choices,
            train: &train.corpus,
            validation: validation.as_ref().map(|part| &part.corpus),
            protocols: if settings.predicts() { &protocols } else { &[] },
            more_weights: &means.more_weights,
            decoding: &settings.decoding,
            layout: means.layout,
        };
        // Before the weights take their part of what is free.
        let (training, needs) = request.choose(&settings.batch, &settings.training, means.device.free())?;
        let settings = Settings { training, ..settings };
        let loaded = origin.load(means.device, choices, settings.training.seed)?;
        let session = Session::new(loaded, choices, |loaded| ranked_work(loaded, means.layout))?;
        let (started, results) = (None, Results::default());
        Ok(Run {
            settings,
            origin,
            dir,
            means,
            splits,
            train,
            validation,
            needs,
            session,
            rounded: None,
            books,
            started,
            results,
        })
    }

    /// The settings, with the batch that was chosen.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn needs(&self) -> Needs {
        self.needs
    }

    pub fn device(&self) -> String {
        self.means.device.name()
    }

    /// Trainable parameters.
    pub fn parameters(&self) -> usize {
        self.session.real().loaded.parameters.trainable()
    }

    /// The model's family.
    pub fn family(&self) -> &'static Family {
        self.session.real().loaded.config.family()
    }

    pub fn total_steps(&self) -> u64 {
        self.settings.training.total_steps(self.train.examples.len())
    }

    pub fn train_examples(&self) -> usize {
        self.train.examples.len()
    }

    pub fn validation(&self) -> Option<&Part> {
        self.validation.as_ref()
    }

    /// What of both splits is not read.
    pub fn left_out(&self) -> LeftOut {
        LeftOut { train: self.train.left_out, validation: self.validation.as_ref().map(|part| part.left_out) }
    }

    /// Which tokens have global attention, as the tokenizer and the model decide it.
    pub fn global_attention(&self) -> &GlobalAttention {
        &self.train.corpus.global_attention
    }

    /// The score that the dataset is judged by.
    pub fn headline(&self) -> Headline {
        self.splits.headline()
    }

    /// What the device held at most until now.
    pub fn used(&self) -> Bytes {
        Bytes(self.session.real().device().used().total() as u64)
    }

    /// Time and energy of the steps of this attempt by phase, where they were asked for.
    pub fn phases(&self) -> Option<&StepPhases> {
        self.books.phases()
    }

    /// Writes down what the run has cost so far, and says it; all ranks do so at once.
    pub fn write_energy(&mut self) -> Result<EnergyReport> {
        self.books.enter(Activity::Rest);
        self.books.meet()?;
        self.books.write()
    }

    /// Trains to the end, from the checkpoint that the run directory says, and saves the model.
    pub fn train(&mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        let lock = self.dir.lock()?;
        let settings = self.decided()?;
        let group = self.means.group.clone();
        group.agree_on_work(&settings.hash(), self.means.device.uuid().as_deref())?;
        let resumed = match group.is_first() {
            true => self.dir.find(&settings, &self.means.device.name(), observer)?,
            false => None,
        };
        let step = resumed.as_ref().map(|checkpoint| checkpoint.state.global_step);
        let step = u64::try_from(group.most(step.map_or(-1, |step| step as i64))).ok();
        let steps_per_epoch = self.settings.training.steps_per_epoch(self.train.examples.len());
        match resumed {
            None => self.books.begin()?,
            Some(_) => self.books.resume(observer),
        }
        let resumed_from = resumed.as_ref().map(|checkpoint| checkpoint.dir.clone());
        let config = self.config(&settings, resumed_from)?;
        let mut log = self.dir.start(&config, step, steps_per_epoch)?;
        log.also_to(self.means.tensorboard.as_deref(), &self.dir.event_files(), step.is_some())?;
        let companions = self.companions()?;
        let Started { log, lock } = self.started.insert(Started { log, lock });

        let (options, control) = (&self.settings.training, &self.settings.control);
        let (root, device) = (self.dir.root(), self.means.device.name());
        let mut trainer =
            Trainer::new(&mut self.session, &self.train.corpus, options, control)?.share_among(group.clone());
        if group.is_first() {
            let saver = Saver::new(root, settings, device, companions.clone(), control.save_total_limit);
            trainer = trainer.save_with(saver);
        }
        let mut predicting = self
            .validation
            .as_ref()
            .map(|part| self.splits.task(part, self.settings.protocol, &self.settings.decoding, options))
            .map(|task| Shared { task, group: group.clone() });
        if let Some(part) = &self.validation {
            trainer = trainer.validate_on(&part.corpus);
        }
        if let Some(predicting) = predicting.as_mut().filter(|_| self.settings.decided_by_predictions()) {
            trainer = trainer.score_with(predicting);
        }
        if let Some(checkpoint) = &resumed {
            trainer = trainer.restore(checkpoint)?;
        }
        let trainer = trainer.follow_first()?;
        observer.begins(trainer.state(), trainer.total_steps());
        self.books.trains(trainer.state());
        let mut recorder = Recorder { log: &mut *log, books: &mut self.books, lock, observer };
        let outcome = trainer.run(&mut recorder);
        self.books.enter(Activity::Rest);
        // What ended the run is worth more than what its energy could not be written to. Ranks meet where all end in the same
        // way; what else ends them leaves the energy as of the last checkpoint, where the run goes on.
        if matches!(outcome, Err(Error::Interrupted(_))) || (outcome.is_err() && group.is_alone()) {
            let _ = self.books.meet().and_then(|()| self.books.write());
        }
        let summary = outcome?;
        lock.check()?;
        // Before predicting, so that nothing later can lose it.
        self.books.enter(Activity::Checkpoint);
        if group.is_first() {
            self.dir.save(&self.session.real().loaded, &companions)?;
        }
        self.books.enter(Activity::Rest);
        let work = energy::Work { samples: summary.samples, tokens: summary.tokens };
        self.books.trained(work, summary.times.total());
        self.books.meet()?;
        self.books.write()?;
        let trained = Trained::new(&summary, log.epoch(summary.steps));
        log.write(&trained)?;
        self.results.trained = Some(trained.clone());
        Ok(Outcome { summary, trained, resumed_from: step.unwrap_or(0) })
    }

    /// Takes the weights that an earlier process trained to the end, by so much `work` in `runtime`.
    pub fn take_trained(
        &mut self,
        work: energy::Work,
        runtime: Seconds,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let lock = self.dir.lock()?;
        self.books.resume(observer);
        self.books.trained(work, runtime);
        self.session.real().loaded.read_weights(&self.dir.model())?;
        let steps_per_epoch = self.settings.training.steps_per_epoch(self.train.examples.len());
        let log = Log::open(&self.dir.metrics(), Keep::Training, steps_per_epoch)?;
        self.started = Some(Started { log, lock });
        Ok(())
    }
}
