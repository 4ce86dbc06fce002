//! Answers of a fixed length to one synthetic batch, by greedy decoding or beam search.

use super::{Amount, Decoding, Sizes, Workload};
use crate::collective::Group;
use crate::device::plan::Recording;
use crate::device::{Device, Precision, cpu};
use crate::error::{Error, Result};
use crate::generate::{self, GenerateOptions, State, generate};
use crate::models::batch::Source;
use crate::models::session::Session;
use crate::models::{LmHead, Loaded, ModelOptions};
use crate::nn::Weights;
use crate::tensor::int8;
use crate::train::Lengths;
use crate::train::synthetic::synthetic_batch;
use serde::Serialize;
use std::path::Path;
use std::rc::Rc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GenerationSizes {
    pub batch_size: usize,
    pub max_source_length: usize,
    /// Tokens of every answer: none ends earlier.
    pub max_new_tokens: usize,
    pub num_beams: usize,
    pub weights: Weights,
}

pub struct Generation {
    session: Session<State>,
    sizes: GenerationSizes,
    source: Source,
    options: GenerateOptions,
}

/// What a decoding step reads once, bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StepBytes {
    pub weights: u64,
    pub cross_attention: u64,
    pub self_attention: u64,
}

impl StepBytes {
    pub fn total(self) -> u64 {
        self.weights + self.cross_attention + self.self_attention
    }
}

impl Generation {
    fn new(session: Session<State>, sizes: GenerationSizes, seed: u64) -> Result<Self> {
        let GenerationSizes { batch_size, max_source_length, max_new_tokens, num_beams, .. } = sizes;
        let limits = session.real().loaded.model.limits();
        let defaults = GenerateOptions::new(&limits);
        let options = GenerateOptions { max_new_tokens, num_beams, eos_token_id: Vec::new(), ..defaults };
        options.check(&limits)?;
        let (source, _) = synthetic_batch(&limits, batch_size, max_source_length, 1, seed)?;
        Ok(Generation { session, sizes, source, options })
    }

    fn generate(&mut self, max_new_tokens: usize) -> Result<()> {
        let options = GenerateOptions { max_new_tokens, ..self.options.clone() };
        let rows = generate(&mut self.session, &self.source, &options)?;
        self.session.real().device().synchronize()?;
        match rows.iter().all(|row| row.len() == max_new_tokens + 1) {
            true => Ok(()),
            false => Err(Error::internal("an answer ended before its last token")),
        }
    }
}

impl Sizes for GenerationSizes {
    const NAME: &'static str = "generate";
    type Work = Generation;

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn lengths(&self) -> Lengths {
        Lengths { source: self.max_source_length, target: 0 }
    }

    fn name(&self, model: &Path) -> String {
        let GenerationSizes { batch_size, max_source_length, max_new_tokens, num_beams, weights } = self;
        let sizes = format!("{batch_size} x {max_source_length} to {max_new_tokens}");
        let weights = if *weights == Weights::Int8 { ", int8 weights" } else { "" };
        format!("{}, {sizes}, {num_beams} beams{weights}", model.display())
    }

    fn options(self, options: ModelOptions) -> ModelOptions {
        ModelOptions { weights: self.weights, ..options }
    }

    fn products(self, device: &Device) -> Option<&'static str> {
        match self.weights {
            Weights::Stored => device.products(),
            Weights::Int8 => Some(cpu::int8::way()),
        }
    }

    fn load(self, loaded: Loaded, options: ModelOptions, seed: u64, _: &Rc<Group>) -> Result<Generation> {
        Generation::new(Session::new(loaded, options, generate::state)?, self, seed)
    }

    fn dry_run(self, config: &Path, precision: Precision, options: ModelOptions) -> Result<Generation> {
        Generation::new(Session::dry_run(config, precision, options, generate::state)?, self, 0)
    }
}

impl Workload for Generation {
    fn run(&mut self) -> Result<()> {
        self.generate(self.sizes.max_new_tokens)
    }

    fn device(&self) -> &Device {
        self.session.real().device()
    }

    fn recordings(&self) -> Vec<&Recording> {
        self.session.recordings().map(|(_, recording)| recording).collect()
    }

    fn plan(&mut self) -> Result<Vec<Recording>> {
        let Generation { session, source, options, .. } = self;
        session.walk(|session| generate(session, source, options))
    }

    fn amount(&self) -> Amount {
        let GenerationSizes { batch_size, max_new_tokens, .. } = self.sizes;
        Amount { samples: batch_size, tokens: batch_size * max_new_tokens }
    }

    fn decoding(&mut self) -> Option<&mut dyn Decoding> {
        // With one token there is no step after the first.
        if self.sizes.max_new_tokens > 1 { Some(self) } else { None }
    }
}

impl Decoding for Generation {
    fn first_token(&mut self) -> Result<()> {
        self.generate(1)
    }

    fn later_steps(&self) -> usize {
        self.sizes.max_new_tokens - 1
    }

    /// Weights, and keys and values in the middle of the run; beams share the keys of their input.
    fn step_bytes(&self) -> StepBytes {
        let Loaded { model, parameters, .. } = &self.session.real().loaded;
        let size = parameters.device().precision().storage().size();
        // These are read once per input, not per step.
        let once =
            |name: &str| name.contains(".encoder_attn.k_proj.") || name.contains(".encoder_attn.v_proj.");
        let read = |name: &str| name.contains("decoder.layers.") && !once(name);
        let layers = parameters.entries.iter().filter(|e| read(&e.name));
        let layers: usize = layers.map(|entry| parameters.bytes_read(entry, size)).sum();
        let LmHead { table, int8, .. } = model.head();
        let head = int8.map_or(table.len() * size, |_| int8::bytes(table.shape()));
        let states = 2 * model.decoder_layers() * model.d_model();
        let rows = self.sizes.batch_size * self.sizes.num_beams;
        StepBytes {
            weights: (layers + head) as u64,
            cross_attention: (states * self.source.batch * self.source.padded * size) as u64,
            self_attention: (states * rows * self.sizes.max_new_tokens / 2 * size) as u64,
        }
    }
}
