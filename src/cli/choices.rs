//! Flags of several commands, and the defaults that depend on the model.

use super::columns::{Columns, tell_skipped};
use super::global::Global;
use crate::data::{self, Dataset, Example, Split};
use crate::error::{Error, Result};
use crate::hub::{self, Folder, Name};
use crate::metrics::Protocol;
use crate::models::{self, ModelLimits, ModelOptions, RandomBlocks};
use crate::nn::Weights;
use crate::settings::named;
use crate::tape::Recompute;
use crate::text::Tokenizer;
use crate::train::{GlobalAttention, Lengths};
use crate::weights::{self, Format};
use std::num::NonZeroUsize;
use std::path::Path;

/// How a model is run where its config leaves a choice.
#[derive(clap::Args, Debug)]
pub struct ModelChoices {
    /// Tokens with global attention: the first, also those before the first blank line (question), each token NAME,
    /// or every N-th; auto is every doc-sep token where the tokenizer has it, as PRIMERA's, and else first
    #[arg(long, value_name = "auto|first|none|question|tokens:NAME|every:N", default_value = "auto")]
    pub global_attention: GlobalAttention,

    /// BigBird's random blocks outside of training: block 0 as transformers evaluates, or those that training draws
    #[arg(long, value_name = "HOW", default_value = "eval-zero", value_parser = named::<RandomBlocks>())]
    pub random_blocks: RandomBlocks,
}

impl ModelChoices {
    pub fn options(&self) -> ModelOptions {
        ModelOptions { random_blocks: self.random_blocks, ..ModelOptions::default() }
    }
}

/// How the weights of a model that is not trained are kept.
#[derive(clap::Args, Debug)]
pub struct Keeping {
    /// How weights are kept: as --precision says (stored), or those of linear layers and of the head in 8 bits (int8)
    #[arg(long, value_name = "HOW", default_value = "stored", value_parser = named::<Weights>())]
    pub weights: Weights,
}

impl Keeping {
    pub fn options(&self, choices: &ModelChoices) -> ModelOptions {
        ModelOptions { weights: self.weights, ..choices.options() }
    }
}

/// The same flag where weights are trained, which only the stored ones are.
#[derive(clap::Args, Debug)]
pub struct Trainable {
    #[arg(long, value_name = "HOW", hide = true, value_parser = named::<Weights>())]
    weights: Option<Weights>,
}

impl Trainable {
    pub fn check(&self) -> Result<()> {
        match self.weights {
            Some(Weights::Int8) => Err(Error::usage(format!("--weights int8: {}", Weights::NOT_TRAINED))),
            Some(Weights::Stored) | None => Ok(()),
        }
    }
}

/// What training trades for memory.
#[derive(clap::Args, Debug)]
pub struct Recomputation {
    /// What the backward pass computes a second time instead of keeping it: the gradients stay the same, bit for bit
    #[arg(long, value_name = "WHAT", default_value = "none", value_parser = named::<Recompute>())]
    pub recompute: Recompute,
}

impl Recomputation {
    pub fn options(&self) -> ModelOptions {
        ModelOptions { recompute: self.recompute, ..ModelOptions::default() }
    }
}

/// Lengths in tokens, cut to what the model has positions for when not asked for.
#[derive(clap::Args, Debug)]
pub struct Truncation {
    /// Tokens of the input kept, special ones included [default: 1024, or the encoder's positions if fewer]
    #[arg(long, value_name = "TOKENS")]
    pub max_source_length: Option<NonZeroUsize>,

    /// Tokens of the reference kept, special ones included [default: 128, or the decoder's positions if fewer]
    #[arg(long, value_name = "TOKENS")]
    pub max_target_length: Option<NonZeroUsize>,
}

impl Truncation {
    pub fn lengths(&self, limits: &ModelLimits) -> Lengths {
        Lengths {
            source: at_most(self.max_source_length, 1024, limits.max_source),
            target: at_most(self.max_target_length, 128, limits.max_target),
        }
    }
}

/// A model, and the part of a dataset that it is scored on.
#[derive(clap::Args, Debug)]
pub struct Evaluated {
    #[arg(long, value_name = "DIR_OR_NAME", help = models())]
    pub model: Name,

    /// Folder or repository of the tokenizer [default: the model's]
    #[arg(long, value_name = "DIR_OR_NAME")]
    tokenizer: Option<Name>,

    #[arg(long, value_name = "PATH_OR_NAME", help = datasets())]
    pub dataset: String,

    #[command(flatten)]
    columns: Columns,

    /// Which split to score
    #[arg(long, value_name = "SPLIT", default_value = "validation", value_parser = named::<Split>())]
    pub split: Split,

    /// Generated answers, references grouped by id (scrolls), or teacher-forced ones as Ang et al. 2022 (paper)
    #[arg(long, value_name = "PROTOCOL", default_value = "scrolls", value_parser = named::<Protocol>())]
    pub protocol: Protocol,

    #[command(flatten)]
    pub truncation: Truncation,
}

/// What an [`Evaluated`] names.
pub struct Opened {
    pub model_dir: Folder,
    pub tokenizer: Tokenizer,
    pub dataset: Dataset,
    /// The first examples of the split, at least one.
    pub examples: Vec<Example>,
}

impl Evaluated {
    /// All of it, and the first `most` examples.
    pub fn open(&self, most: Option<NonZeroUsize>, global: &Global) -> Result<Opened> {
        let model_dir = model_dir(&self.model, global)?;
        let tokenizer = tokenizer(self.tokenizer.as_ref(), &model_dir)?;
        let dataset = self.columns.open(&self.dataset)?;
        let examples = examples(&dataset, self.split, self.protocol, most)?;
        tell_skipped(global, &dataset, self.split);
        Ok(Opened { model_dir, tokenizer, dataset, examples })
    }
}

/// What `--model` takes.
pub fn models() -> String {
    let embedded = hub::embedded::names();
    format!(
        "Model directory in HF layout, a repository in the Hugging Face cache as ORG/NAME[@REVISION], or the name of an \
         embedded model ({embedded})"
    )
}

/// What `--dataset` takes.
pub fn datasets() -> String {
    let embedded = data::embedded_names();
    format!(
        "A SCROLLS zip, a folder of <split>.jsonl, .json, .csv or .tsv, or the name of an embedded dataset ({embedded})"
    )
}

/// Fails where no index counts the tokens of a batch.
pub fn check_batch(batch: usize, lengths: Lengths) -> Result<()> {
    match batch > largest_batch(lengths) {
        false => Ok(()),
        true => Err(Error::DoesNotFit(format!(
            "a batch of {batch} x {} tokens is more than a 32-bit index counts; choose a smaller --batch-size",
            lengths.source
        ))),
    }
}

/// The most examples whose tokens a 32-bit index can count.
pub fn largest_batch(lengths: Lengths) -> usize {
    i32::MAX as usize / lengths.source.max(lengths.target)
}

/// The folder that `--model` names.
pub fn model_dir(name: &Name, global: &Global) -> Result<Folder> {
    let dir = name.open()?;
    // Before the tokenizer is looked for: a folder that is no model has none.
    models::limits(&dir.join("config.json"))?;
    note_model(name, &dir, global);
    Ok(dir)
}

/// Says where the model `name` was found, if it is not where its name says, and what is peculiar about it.
pub fn note_model(name: &Name, dir: &Path, global: &Global) {
    if !name.says_where(dir) {
        global.note(format_args!("model: {}", dir.display()));
    }
    if let Some((Format::Torch, file)) = weights::entry(dir) {
        global.note(format_args!(
            "{file} is a pickle: its tensors are read and nothing in it is run; `wattention convert` makes safetensors"
        ));
    }
}

/// The tokenizer of the folder or repository that `--tokenizer` names, or else of the model.
pub fn tokenizer(asked: Option<&Name>, model_dir: &Folder) -> Result<Tokenizer> {
    match asked {
        Some(name) => Tokenizer::load(&name.open()?),
        None => Tokenizer::load(model_dir),
    }
}

/// What was asked for, or else `default` within the model's `most`.
pub fn at_most(asked: Option<NonZeroUsize>, default: usize, most: usize) -> usize {
    asked.map_or(default.min(most), NonZeroUsize::get)
}

/// The first `most` examples of a split, of which there must be some.
pub fn examples(
    dataset: &Dataset,
    split: Split,
    protocol: Protocol,
    most: Option<NonZeroUsize>,
) -> Result<Vec<Example>> {
    let mut examples = dataset.examples(split, protocol)?;
    examples.truncate(most.map_or(usize::MAX, NonZeroUsize::get));
    match examples.is_empty() {
        false => Ok(examples),
        true => Err(Error::data(&dataset.name, format!("its {} split has no examples", split.name()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_shrink_to_the_model_and_requests_do_not() {
        assert_eq!(at_most(None, 1024, 64), 64);
        assert_eq!(at_most(None, 1024, 4096), 1024);
        assert_eq!(at_most(NonZeroUsize::new(100), 1024, 64), 100);
    }
}
