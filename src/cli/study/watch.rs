//! One cell on the terminal: its training, then its scoring; and what may stop it.

use super::super::finetune::signals::Signals;
use super::super::global::Global;
use super::super::progress::Progress;
use super::budget::{Budget, SPENT};
use crate::error::Result;
use crate::metrics::Protocol;
use crate::nn::Weights;
use crate::run::{self, Message};
use crate::study::results::Cell;
use crate::train::{Event, Observer};
use crate::units::decimals;

pub struct Watch<'a> {
    global: &'a Global,
    signals: &'a Signals,
    budget: &'a Budget,
    title: String,
    progress: Option<Progress>,
    /// What is being scored, and how much of it is.
    scored: Option<(Protocol, usize)>,
}

impl<'a> Watch<'a> {
    pub fn new(global: &'a Global, signals: &'a Signals, budget: &'a Budget, title: String) -> Self {
        Watch { global, signals, budget, title, progress: None, scored: None }
    }

    /// Says how the cell came out.
    pub fn finish(self, cells: &[Cell]) {
        let scores: Vec<String> = cells
            .iter()
            .map(|cell| {
                let score = cell.headline().value().map_or("n/a".into(), |score| decimals(score, 2));
                let weights = match cell.weights {
                    Weights::Stored => String::new(),
                    weights => format!(", {} weights", weights.name()),
                };
                format!("{} {score} ({}{weights})", cell.headline_metric.label(), cell.protocol)
            })
            .collect();
        let line = format!("{}: {}", self.title, scores.join(", "));
        match self.progress {
            Some(progress) => progress.finish(line),
            None => self.global.note(line),
        }
    }
}

impl Observer for Watch<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        if let Event::Step { step, total, report, .. } = event {
            if self.progress.is_none() && *step > 1 {
                self.global.note(format_args!("{}: resuming from step {}", self.title, step - 1));
            }
            let left = total - (step - 1);
            let progress = self.progress.get_or_insert_with(|| Progress::new(self.global, left, &self.title));
            progress.step(1, format_args!("loss {:.3}", report.loss));
        }
        Ok(())
    }

    fn interrupted(&self) -> Option<i32> {
        self.signals.caught().or_else(|| self.budget.spent().map(|_| SPENT))
    }
}

impl run::Observer for Watch<'_> {
    fn message(&mut self, message: Message) {
        match message {
            Message::Warning(what) => self.global.warn(format_args!("{}: {what}", self.title)),
            Message::LeftOut(what) => self.global.note(format_args!("{}: {what}", self.title)),
            Message::Note(what) | Message::Detail(what) => {
                self.global.detail(format_args!("{}: {what}", self.title));
            }
        }
    }

    fn scored(&mut self, protocol: Protocol, done: usize, total: usize) {
        let before = match self.scored {
            // The same protocol begins again with weights that are kept in another way.
            Some((of, before)) if of == protocol && done > before => before,
            _ => {
                let label = format!("{}, scoring", self.title);
                self.progress = Some(Progress::new(self.global, total as u64, &label));
                0
            }
        };
        if let Some(progress) = &mut self.progress {
            progress.step((done - before) as u64, "");
        }
        self.scored = Some((protocol, done));
    }
}
