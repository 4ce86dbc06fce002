//! Some examples' predictions and their scores.

use super::{Amount, Workload};
use crate::data::Example;
use crate::device::Device;
use crate::device::plan::Recording;
use crate::error::Result;
use crate::evaluate::{Task, evaluate};
use crate::generate::{GenerateOptions, State};
use crate::metrics::Protocol;
use crate::models::session::Session;
use crate::text::Tokenizer;
use crate::train::Corpus;

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
    /// The session, and what is asked of it.
    fn parts(&mut self) -> (&mut Session<State>, Task<'_>) {
        let Evaluation { session, tokenizer, corpus, examples, protocol, decoding, batch_size } = self;
        let (protocol, batch_size, known) = (*protocol, *batch_size, Vec::new());
        (session, Task { tokenizer, corpus, examples, protocol, decoding, batch_size, known })
    }
}

impl Workload for Evaluation {
    fn run(&mut self) -> Result<()> {
        let (session, task) = self.parts();
        evaluate(session, task, &mut |_| Ok(()))?;
        session.real().device().synchronize()
    }

    fn device(&self) -> &Device {
        self.session.real().device()
    }

    fn recordings(&self) -> Vec<&Recording> {
        self.session.recordings().map(|(_, recording)| recording).collect()
    }

    fn plan(&mut self) -> Result<Vec<Recording>> {
        let (session, task) = self.parts();
        session.walk(|session| evaluate(session, task, &mut |_| Ok(())))
    }

    fn amount(&self) -> Amount {
        let tokens = self.corpus.examples.iter().map(|example| example.input.len()).sum();
        Amount { samples: self.examples.len(), tokens }
    }
}
