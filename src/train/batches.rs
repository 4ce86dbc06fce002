//! Tokenised examples and the batches made of them.

use super::tokens::Tokens;
use crate::data::Example;
use crate::error::{Error, Result};
use crate::models::ModelLimits;
use crate::models::batch::{IGNORED, Source, SourceRows, Target};
use crate::text::Tokenizer;
use serde::{Deserialize, Serialize};

/// Which tokens LED attends to and from everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GlobalAttention {
    /// The first token, as the paper and the SCROLLS baseline do.
    #[default]
    First,
    None,
}

/// One example in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    pub input: Tokens,
    /// Empty when the example has no reference.
    pub labels: Tokens,
}

/// Examples in tokens, with what batching them needs.
pub struct Corpus {
    pub examples: Vec<Encoded>,
    /// The examples' ids in the dataset, in the same order.
    pub ids: Vec<String>,
    pub limits: ModelLimits,
    pub global_attention: GlobalAttention,
}

/// How many tokens of an example are kept, specials included.
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    pub source: usize,
    pub target: usize,
}

impl Corpus {
    /// Tokenises inputs and first references, truncated to `lengths`.
    pub fn encode(
        tokenizer: &Tokenizer,
        examples: &[Example],
        lengths: Lengths,
        limits: ModelLimits,
        global_attention: GlobalAttention,
    ) -> Result<Self> {
        let make = |encode: &mut dyn FnMut() -> Result<Vec<Encoded>>| encode();
        Self::encode_by(tokenizer, examples, lengths, limits, global_attention, make)
    }

    /// `make` is given what tokenises, and may know better.
    pub(super) fn encode_by(
        tokenizer: &Tokenizer,
        examples: &[Example],
        lengths: Lengths,
        limits: ModelLimits,
        global_attention: GlobalAttention,
        make: impl FnOnce(&mut dyn FnMut() -> Result<Vec<Encoded>>) -> Result<Vec<Encoded>>,
    ) -> Result<Self> {
        tokenizer.check_vocabulary(limits.vocab)?;
        for (flag, asked, most) in [
            ("max-source-length", lengths.source, limits.max_source),
            ("max-target-length", lengths.target, limits.max_target),
        ] {
            if asked > most {
                return Err(Error::usage(format!("--{flag} {asked} exceeds the model's {most} positions")));
            }
        }
        Ok(Corpus {
            examples: make(&mut || tokenised(tokenizer, examples, lengths))?,
            ids: examples.iter().map(|example| example.id.clone()).collect(),
            limits,
            global_attention,
        })
    }

    /// The sources of examples `which`, padded to the longest of them.
    pub fn source(&self, which: &[usize]) -> Result<Source> {
        let longest = which.iter().map(|&i| self.examples[i].input.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(which.len() * longest);
        let mut mask = Vec::with_capacity(which.len() * longest);
        for &i in which {
            let input = &self.examples[i].input;
            let pads = longest - input.len();
            ids.extend(input.iter().map(|&id| id as i64));
            ids.extend(std::iter::repeat_n(self.limits.pad as i64, pads));
            mask.extend(std::iter::repeat_n(1, input.len()));
            mask.extend(std::iter::repeat_n(0, pads));
        }
        let global: Vec<i64> = (0..ids.len())
            .map(|at| (self.global_attention == GlobalAttention::First && at % longest == 0) as i64)
            .collect();
        let rows = SourceRows {
            batch: which.len(),
            ids: &ids,
            attention_mask: Some(&mask),
            global_attention_mask: Some(&global),
        };
        Source::new(&self.limits, rows)
    }

    /// The targets of examples `which`, padded with ignored labels to the longest of them.
    pub fn target(&self, which: &[usize]) -> Result<Target> {
        let longest = which.iter().map(|&i| self.examples[i].labels.len()).max().unwrap_or(0);
        let mut labels = Vec::with_capacity(which.len() * longest);
        for &i in which {
            let row = &self.examples[i].labels;
            labels.extend(row.iter().map(|&id| id as i64));
            labels.extend(std::iter::repeat_n(IGNORED, longest - row.len()));
        }
        Target::from_labels(&self.limits, which.len(), &labels)
    }

    /// A batch of `size` rows that no other batch of the corpus exceeds in any shape.
    pub fn largest(&self, size: usize) -> Result<(Source, Target)> {
        let longest = |length: fn(&Encoded) -> usize| {
            let mut which: Vec<usize> = (0..self.examples.len()).collect();
            which.sort_by_key(|&i| std::cmp::Reverse(length(&self.examples[i])));
            which.truncate(size);
            which
        };
        Ok((
            self.source(&longest(|example| example.input.len()))?,
            self.target(&longest(|example| example.labels.len()))?,
        ))
    }

    /// Target tokens that count in examples `which`.
    pub fn target_tokens(&self, which: &[usize]) -> usize {
        which.iter().map(|&i| self.examples[i].labels.len()).sum()
    }
}

/// Inputs and first references in tokens.
fn tokenised(tokenizer: &Tokenizer, examples: &[Example], lengths: Lengths) -> Result<Vec<Encoded>> {
    let inputs: Vec<&str> = examples.iter().map(|e| e.input.as_str()).collect();
    let outputs: Vec<&str> =
        examples.iter().map(|e| e.references.first().map_or("", String::as_str)).collect();
    let inputs = tokenizer.encode_batch(&inputs, lengths.source)?;
    let labels = tokenizer.encode_batch(&outputs, lengths.target)?;
    let encoded = inputs.into_iter().zip(labels).zip(examples).map(|((input, labels), example)| Encoded {
        input: input.into(),
        labels: if example.references.is_empty() { Vec::new() } else { labels }.into(),
    });
    Ok(encoded.collect())
}
