//! Training from the first step or from a checkpoint to the last: steps, evaluations in between, checkpoints.

use super::batches::Corpus;
use super::checkpoint::{Checkpoint, Saver, Snapshot, open};
use super::control::Control;
use super::events::{Event, Observer, Scorer, Summary};
use super::loader::{Loader, Order, Share};
use super::loss::loss_unless;
use super::options::Options;
use super::ranks::whole_moments;
use super::state::{Cursor, TrainerState};
use super::step::{StepReport, TrainState};
use crate::collective::Group;
use crate::energy::Activity;
use crate::error::{Error, Result};
use crate::models::session::Session;
use std::rc::Rc;
use std::time::Instant;

/// What became of one step.
pub(super) enum Outcome {
    Updated(StepReport),
    /// No weight has changed; `bad` where a number was not finite.
    Skipped {
        why: String,
        loss: f32,
        grad_norm: Option<f32>,
        bad: bool,
    },
}

/// One run over one model; between two steps, its weights, its moments and `state` are all of it.
pub struct Trainer<'a, X> {
    pub(super) session: &'a mut Session<X>,
    pub(super) train: &'a Corpus,
    validation: Option<&'a Corpus>,
    pub(super) options: &'a Options,
    pub(super) control: &'a Control,
    scorer: Option<&'a mut dyn Scorer<X>>,
    saver: Option<Saver>,
    /// The ranks that share out every step.
    pub(super) group: Rc<Group>,
    /// The moments of a checkpoint, for the other ranks.
    pub(super) restored: Option<[Vec<f32>; 2]>,
    pub(super) state: TrainerState,
    pub(super) total: u64,
}

impl<'a, X: AsRef<TrainState>> Trainer<'a, X> {
    /// A run from the session's weights, over `train`.
    pub fn new(
        session: &'a mut Session<X>,
        train: &'a Corpus,
        options: &'a Options,
        control: &'a Control,
    ) -> Result<Self> {
        options.check()?;
        control.check(options.eval_steps)?;
        if train.examples.is_empty() {
            return Err(Error::data("training set", "it has no examples"));
        }
        let total = options.total_steps(train.examples.len());
        let state = TrainerState::default();
        let (validation, scorer, saver, group) = (None, None, None, Rc::new(Group::alone()));
        Ok(Trainer {
            session,
            train,
            validation,
            options,
            control,
            scorer,
            saver,
            group,
            restored: None,
            state,
            total,
        })
    }

    /// Evaluates the loss on `validation`, every `eval_steps` and at the end.
    pub fn validate_on(mut self, validation: &'a Corpus) -> Self {
        self.validation = Some(validation);
        self
    }

    /// Also makes and scores predictions at every evaluation.
    pub fn score_with(mut self, scorer: &'a mut dyn Scorer<X>) -> Self {
        self.scorer = Some(scorer);
        self
    }

    /// Saves checkpoints as the control says, and one when the run is interrupted.
    pub fn save_with(mut self, saver: Saver) -> Self {
        self.saver = Some(saver);
        self
    }

    /// Shares every step out among the ranks of `group`: a step's micro-batches are those of one process, and each is
    /// computed by one of the ranks. All ranks are given the same settings and data, and the first alone a saver.
    pub fn share_among(mut self, group: Rc<Group>) -> Self {
        self.group = group;
        self
    }

    /// Resumes from `checkpoint`, which must be of a run with this one's settings and saver.
    pub fn restore(mut self, checkpoint: &Checkpoint) -> Result<Self> {
        let expected = Cursor::at(checkpoint.state.global_step, self.train.examples.len(), self.options);
        if checkpoint.state.cursor != expected {
            return Err(Error::data(
                checkpoint.dir.display(),
                format!("stands at {:?}, where this run would at {expected:?}", checkpoint.state.cursor),
            ));
        }
        let side = self.session.real();
        side.loaded.read_weights(&checkpoint.dir)?;
        let moments = checkpoint.moments(&side.loaded)?;
        side.state.as_ref().take_moments(&moments)?;
        self.restored = (!self.group.is_alone()).then_some(moments);
        self.state = checkpoint.state.clone();
        if let Some(saver) = &mut self.saver {
            saver.adopt(&self.state)?;
        }
        Ok(self)
    }

    /// Where the run is.
    pub fn state(&self) -> &TrainerState {
        &self.state
    }

    pub fn total_steps(&self) -> u64 {
        self.total
    }

    /// Trains to the end, or until patience, a signal or a step that cannot be made ends the run.
    ///
    /// The model keeps the weights of the last step, or of the best evaluation if the control says so.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Summary> {
        self.check_best()?;
        let steps = self.state.global_step..self.total;
        let order = Order::new(self.train, self.options, self.control);
        let outcome = std::thread::scope(|scope| {
            let share = Share { rank: self.group.rank(), size: self.group.size() };
            let loader = Loader::start(scope, order, steps, share);
            self.steps(&loader, observer)
        });
        observer.enters(Activity::Checkpoint);
        // What is being written is finished, however the run ended.
        let start = Instant::now();
        let written = self.saver.as_mut().map_or(Ok(()), Saver::finish);
        self.state.times.checkpoints += start.elapsed().into();
        let outcome = outcome.and(written);
        if matches!(outcome, Ok(()) | Err(Error::Interrupted(_))) {
            // A rank that ends would take the one that writes with it.
            self.group.wait_for_all();
        }
        outcome?;
        let weights_of = self.take_best()?;
        Ok(self.summary(weights_of))
    }

    /// Refuses to look for a best model where none can be found or kept.
    fn check_best(&self) -> Result<()> {
        let Control { load_best_model_at_end, early_stopping_patience, .. } = *self.control;
        if load_best_model_at_end && self.saver.is_none() && self.group.is_first() {
            return Err(Error::usage("--load-best-model-at-end needs somewhere to save the best"));
        }
        if (load_best_model_at_end || early_stopping_patience > 0) && self.validation.is_none() {
            let what = "--load-best-model-at-end and --early-stopping-patience need a validation split";
            return Err(Error::usage(what));
        }
        let scores = self.scorer.as_ref().map_or(&[][..], |scorer| scorer.names());
        let name = self.control.metric();
        match name == "loss" || scores.contains(&name) {
            true => Ok(()),
            false => Err(Error::usage(format!(
                "--metric-for-best-model {name}: the metrics here are {}",
                [&["loss"], scores].concat().join(", ")
            ))),
        }
    }

    fn steps(&mut self, loader: &Loader, observer: &mut dyn Observer) -> Result<()> {
        loop {
            self.group.at("step", self.state.global_step);
            let mut due = self.control.save_steps > 0
                && self.state.global_step > 0
                && self.state.global_step.is_multiple_of(self.control.save_steps);
            if self.state.evaluation_due {
                match self.evaluation(observer) {
                    Ok(best) => due |= best && self.control.load_best_model_at_end,
                    Err(Error::Interrupted(signal)) => return self.interrupt(signal, observer),
                    Err(error) => return Err(error),
                }
            }
            if due {
                self.save(observer)?;
            }
            if let Some(signal) = self.asked(observer) {
                return self.interrupt(signal, observer);
            }
            if let Some(saver) = &mut self.saver {
                saver.poll()?;
            }
            if self.state.global_step >= self.total || self.state.best.is_exhausted(self.control) {
                return Ok(());
            }
            self.step(loader, observer)?;
        }
    }

    /// Saves what there is, so that nothing is lost.
    fn interrupt(&mut self, signal: i32, observer: &mut dyn Observer) -> Result<()> {
        self.save(observer)?;
        Err(Error::Interrupted(signal))
    }

    fn step(&mut self, loader: &Loader, observer: &mut dyn Observer) -> Result<()> {
        let start = Instant::now();
        let batch = loader.next(|| observer.enters(Activity::Data))?;
        observer.enters(Activity::Training);
        let fed = Instant::now();
        let windows = (self.state.losses.clone(), self.state.gradient_norms.clone());
        let outcome = self.update(&batch)?;
        if let Outcome::Skipped { why, bad: true, .. } = &outcome
            && self.state.bad_steps + 1 >= self.control.max_bad_steps
        {
            let error = self.hopeless(&batch, why);
            // All is as it was after the step before.
            (self.state.losses, self.state.gradient_norms) = windows;
            if self.control.save_steps > 0 {
                self.save(observer)?;
            }
            return Err(error);
        }
        let state = &mut self.state;
        state.times.data += fed.duration_since(start).into();
        state.times.steps += fed.elapsed().into();
        state.global_step += 1;
        state.cursor = Cursor::at(state.global_step, self.train.examples.len(), self.options);
        let (samples, tokens) = (batch.examples().len() as u64, batch.tokens as u64);
        state.samples += samples;
        state.tokens += tokens;
        let (step, total) = (state.global_step, self.total);
        let due = self.options.eval_steps > 0 && step.is_multiple_of(self.options.eval_steps);
        state.evaluation_due = self.validation.is_some() && (due || step == total);
        let event = match outcome {
            Outcome::Updated(report) => {
                state.bad_steps = 0;
                state.add_loss(report.loss, total);
                Event::Step { step, total, report, samples, tokens }
            }
            Outcome::Skipped { why, loss, grad_norm, bad } => {
                state.bad_steps = if bad { state.bad_steps + 1 } else { 0 };
                let examples = self.ids(&batch);
                Event::Skipped { step, why, loss, grad_norm, examples }
            }
        };
        observer.event(&event)
    }

    /// Makes the evaluation that is due; whether it is the best so far.
    fn evaluation(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        let Some(validation) = self.validation else {
            self.state.evaluation_due = false;
            return Ok(false);
        };
        observer.enters(Activity::Evaluation);
        let start = Instant::now();
        let batch = self.options.per_device_eval_batch_size;
        let group = self.group.clone();
        let asked = || group.asked(observer.interrupted());
        let eval_loss = loss_unless(self.session, validation, batch, &group, &asked)?;
        let scores = match &mut self.scorer {
            Some(scorer) => scorer.scores(self.session)?,
            None => Vec::new(),
        };
        self.state.times.evaluation += start.elapsed().into();
        let name = self.control.metric();
        // `check_best` has seen that there is one; a scorer that breaks its word never has the best.
        let metric = match name {
            "loss" => eval_loss,
            _ => scores.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, score)| *score),
        };
        self.state.evaluation_due = false;
        self.state.eval_loss = Some(eval_loss);
        let step = self.state.global_step;
        let best = self.state.best.see(self.control, step, metric, eval_loss);
        observer.event(&Event::Evaluation { step, eval_loss, scores })?;
        Ok(best)
    }

    /// Begins to write a checkpoint of this step, unless there is one.
    fn save(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let step = self.state.global_step;
        self.check_weights()?;
        observer.meets()?;
        let side = self.session.real();
        let elements = side.loaded.parameters.slab.len();
        let is_shard = side.state.as_ref().part().len() < elements;
        // All ranks or none, whatever the first has saved before.
        let gathered = match is_shard {
            true => Some(whole_moments(side.state.as_ref(), &self.group, elements)?),
            false => None,
        };
        let Some(saver) = self.saver.as_mut().filter(|saver| saver.newest != Some(step)) else {
            return Ok(());
        };
        observer.enters(Activity::Checkpoint);
        let start = Instant::now();
        let moments = match gathered {
            Some(moments) => moments,
            None => whole_moments(side.state.as_ref(), &self.group, elements)?,
        };
        let snapshot = Snapshot { weights: side.loaded.weights()?, moments, state: self.state.clone() };
        saver.start(snapshot)?;
        self.state.times.checkpoints += start.elapsed().into();
        observer.event(&Event::Checkpoint { step })
    }

    /// Takes back the best evaluation's weights, if asked to; the step whose weights the model has.
    fn take_best(&mut self) -> Result<u64> {
        let step = self.state.global_step;
        let best = self.state.best.step.filter(|&best| self.control.load_best_model_at_end && best != step);
        let Some(best) = best else { return Ok(step) };
        match &self.saver {
            Some(saver) => {
                let checkpoint = open(&saver.folder(best))?;
                self.session.real().loaded.read_weights(&checkpoint.dir)?;
            }
            None if self.group.is_first() => return Ok(step),
            None => {}
        }
        if !self.group.is_alone() {
            self.take_weights()?;
        }
        self.state.eval_loss = self.state.best.eval_loss;
        Ok(best)
    }

    fn summary(&self, weights_of: u64) -> Summary {
        let state = &self.state;
        Summary {
            steps: state.global_step,
            skipped: state.global_step - state.updates,
            samples: state.samples,
            tokens: state.tokens,
            last_loss: state.last_losses.back().map_or(f32::NAN, |&loss| loss as f32),
            train_loss: state.mean_loss(),
            final_loss: state.final_loss(),
            eval_loss: state.eval_loss,
            best: state.best.step.zip(state.best.metric),
            weights_of,
            train_time: state.times.steps + state.times.data,
            eval_time: state.times.evaluation,
            times: state.times,
        }
    }
}

/// Trains on `train`, evaluates the loss on `validation` every `eval_steps` and at the end; saves nothing.
pub fn fine_tune<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    train: &Corpus,
    validation: Option<&Corpus>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let control = Control::default();
    let mut trainer = Trainer::new(session, train, options, &control)?;
    if let Some(validation) = validation {
        trainer = trainer.validate_on(validation);
    }
    trainer.run(observer)
}
