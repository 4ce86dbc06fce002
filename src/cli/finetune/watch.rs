//! What the terminal shows of a run.

use super::super::global::Global;
use super::super::progress::Scoring;
use super::signals::Signals;
use super::view::View;
use crate::error::Result;
use crate::metrics::Protocol;
use crate::run::{self, Message};
use crate::train::{self, Event, Summary, TrainerState};
use crate::units::{Bytes, counted};

pub struct Watch<'a> {
    global: &'a Global,
    /// None before there is anything to save.
    pub signals: Option<Signals>,
    pub planned: Bytes,
    view: Option<View>,
    scoring: Option<Scoring>,
}

impl<'a> Watch<'a> {
    pub fn new(global: &'a Global) -> Self {
        Watch { global, signals: None, planned: Bytes(0), view: None, scoring: None }
    }

    /// Writes something beside what the view shows.
    fn aside(&self, write: impl FnOnce()) {
        match &self.view {
            Some(view) => view.aside(write),
            None => write(),
        }
    }

    /// Nothing is left to save: the next signal ends the process at once. The signal that has come already.
    pub fn let_go(&mut self) -> Option<i32> {
        let signals = self.signals.as_ref()?;
        signals.let_go();
        signals.caught()
    }

    pub fn trained(&mut self, summary: &Summary) {
        if let Some(view) = self.view.take() {
            view.finish(format_args!(
                "training: {} in {}",
                counted(summary.steps as usize, "step"),
                summary.train_time
            ));
        }
    }

    pub fn predicted(&mut self) {
        if let Some(scoring) = self.scoring.take() {
            scoring.finish();
        }
    }
}

impl train::Observer for Watch<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Checkpoint { step } => {
                let text = format_args!("checkpoint-{step} is being saved");
                self.aside(|| self.global.detail(text));
            }
            Event::Skipped { step, why, examples, .. } => {
                let text = format!("step {step} is skipped: {why}, on examples {}", examples.join(", "));
                self.aside(|| self.global.warn(text));
            }
            Event::Step { .. } | Event::Evaluation { .. } => {}
        }
        let Some(view) = &mut self.view else { return Ok(()) };
        match event {
            &Event::Step { step, report, samples, tokens, .. } => view.step(step, report, samples, tokens),
            Event::Skipped { step, .. } => view.skipped(*step),
            Event::Evaluation { eval_loss, .. } => view.evaluated(*eval_loss),
            Event::Checkpoint { .. } => {}
        }
        Ok(())
    }

    fn interrupted(&self) -> Option<i32> {
        self.signals.as_ref().and_then(Signals::caught)
    }
}

impl run::Observer for Watch<'_> {
    fn message(&mut self, message: Message) {
        match message {
            Message::Detail(what) => self.global.detail(what),
            Message::Note(what) | Message::LeftOut(what) => self.global.note(what),
            Message::Warning(what) => self.global.warn(what),
        }
    }

    fn begins(&mut self, state: &TrainerState, total: u64) {
        self.view = Some(View::new(self.global, state.global_step, total, self.planned, state.eval_loss));
    }

    fn scored(&mut self, _: Protocol, done: usize, total: usize) {
        let global = self.global;
        self.scoring.get_or_insert_with(|| Scoring::new(global, total)).done(done);
    }
}
