//! A run's events while it trains: each to `metrics.jsonl`, what they cost to `energy.json`, and on to who watches.

use super::books::Books;
use super::log::Log;
use super::observer::Observer;
use crate::energy::Activity;
use crate::error::Result;
use crate::files::lock::Lock;
use crate::train::{self, Event};

pub(super) struct Recorder<'r, 'a> {
    pub log: &'r mut Log,
    pub books: &'r mut Books<'a>,
    /// The lock of the run directory.
    pub lock: &'r Lock,
    pub observer: &'r mut dyn Observer,
}

impl train::Observer for Recorder<'_, '_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        // A run whose folder another process has taken over writes nothing more.
        self.lock.check()?;
        match event {
            Event::Step { samples, tokens, .. } => self.books.stepped(*samples, *tokens),
            Event::Skipped { .. } => self.books.stepped(0, 0),
            // A run that is killed later resumes here, and with what it had cost until here.
            Event::Checkpoint { .. } => drop(self.books.write()?),
            Event::Evaluation { .. } => {}
        }
        self.log.event(event)?;
        self.observer.event(event)
    }

    fn meets(&mut self) -> Result<()> {
        self.books.meet()
    }

    fn enters(&mut self, activity: Activity) {
        self.books.enter(activity);
        self.observer.enters(activity);
    }

    fn interrupted(&self) -> Option<i32> {
        self.observer.interrupted()
    }
}
