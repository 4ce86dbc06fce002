//! What a run tells whoever watches it.

use crate::metrics::Protocol;
use crate::train::{self, TrainerState};

/// Whoever watches a run: hears the events of its training, what is said aside, and how far the scoring is.
pub trait Observer: train::Observer {
    fn message(&mut self, _: Message) {}

    /// Training begins at `state`, of `total` steps.
    fn begins(&mut self, _: &TrainerState, _total: u64) {}

    /// So many of `total` examples are predicted.
    fn scored(&mut self, _: Protocol, _done: usize, _total: usize) {}
}

impl Observer for () {}

/// What a person may want to know.
#[derive(Debug)]
pub enum Message {
    /// Only with `--verbose`.
    Detail(String),
    Note(String),
    /// What of the data is not read.
    LeftOut(String),
    Warning(String),
}
