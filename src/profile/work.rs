//! Work that is profiled: the same launches every time that it is done.

use crate::data::Example;
use crate::device::plan::Recording;
use crate::error::Result;
use crate::evaluate::{Task, evaluate};
use crate::generate::{GenerateOptions, State, generate};
use crate::metrics::Protocol;
use crate::models::batch::{Source, Target};
use crate::models::session::Session;
use crate::text::Tokenizer;
use crate::train::Corpus;
use crate::train::synthetic::Stepper;

/// Something to do again and again.
pub trait Work {
    /// Does it once, to its end.
    fn run(&mut self) -> Result<()>;

    /// The plan of every step that it has run so far, in no order.
    fn recordings(&self) -> Vec<&Recording>;
}

/// A training step, or a part of it.
pub struct Step {
    pub stepper: Stepper,
    pub source: Source,
    pub target: Target,
}

impl Work for Step {
    fn run(&mut self) -> Result<()> {
        self.stepper.run(&self.source, &self.target)?;
        self.stepper.device().synchronize()
    }

    fn recordings(&self) -> Vec<&Recording> {
        self.stepper.recordings().into_iter().map(|(_, recording)| recording).collect()
    }
}

/// The answers to one batch.
pub struct Generation {
    pub session: Session<State>,
    pub source: Source,
    pub options: GenerateOptions,
}

impl Work for Generation {
    fn run(&mut self) -> Result<()> {
        generate(&mut self.session, &self.source, &self.options)?;
        self.session.real().device().synchronize()
    }

    fn recordings(&self) -> Vec<&Recording> {
        self.session.recordings().map(|(_, recording)| recording).collect()
    }
}

/// Some examples' predictions and their scores.
pub struct Evaluation {
    pub session: Session<State>,
    pub tokenizer: Tokenizer,
    /// `examples` in tokens.
    pub corpus: Corpus,
    pub examples: Vec<Example>,
    pub protocol: Protocol,
    pub decoding: GenerateOptions,
    pub batch_size: usize,
}

impl Evaluation {
    /// The steps of a run in order, of which nothing is done.
    pub fn walk(&mut self) -> Result<Vec<Recording>> {
        let Evaluation { session, tokenizer, corpus, examples, protocol, decoding, batch_size } = self;
        let known = Vec::new();
        let (protocol, batch_size) = (*protocol, *batch_size);
        let task = Task { tokenizer, corpus, examples, protocol, decoding, batch_size, known };
        session.walk(|session| evaluate(session, task, &mut |_| Ok(())))
    }
}

impl Work for Evaluation {
    fn run(&mut self) -> Result<()> {
        let task = Task {
            tokenizer: &self.tokenizer,
            corpus: &self.corpus,
            examples: &self.examples,
            protocol: self.protocol,
            decoding: &self.decoding,
            batch_size: self.batch_size,
            known: Vec::new(),
        };
        evaluate(&mut self.session, task, &mut |_| Ok(()))?;
        self.session.real().device().synchronize()
    }

    fn recordings(&self) -> Vec<&Recording> {
        self.session.recordings().map(|(_, recording)| recording).collect()
    }
}

#[cfg(test)]
mod tests;
