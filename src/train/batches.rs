//! Tokenised examples and the batches made of them.

use super::global_attention::{GlobalAttention, GlobalTokens};
use super::tokens::Tokens;
use crate::data::Example;
use crate::error::{Error, Result};
use crate::models::ModelLimits;
use crate::models::batch::{IGNORED, Source, SourceRows, Target};
use crate::text::Tokenizer;
use serde::Serialize;

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
    /// The rule by which tokens are global, `auto` resolved.
    pub global_attention: GlobalAttention,
    pub global_tokens: GlobalTokens,
}

/// How much of the inputs was left out so that they fit `max_source_length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Cut {
    pub documents: usize,
    pub documents_cut: usize,
    /// Tokens of all documents, special ones included.
    pub tokens: u64,
    pub tokens_read: u64,
}

impl Cut {
    /// What to say of it; nothing where every document was read whole.
    pub fn text(&self) -> Option<String> {
        let Cut { documents, documents_cut, tokens, tokens_read } = *self;
        let share = 100.0 * tokens_read as f64 / tokens.max(1) as f64;
        (documents_cut > 0).then(|| {
            format!("{documents_cut} of {documents} documents cut, {share:.0} % of their tokens read")
        })
    }
}

/// How many tokens of an example are kept, specials included.
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    pub source: usize,
    pub target: usize,
}

impl Lengths {
    /// Fails where a model has fewer positions.
    pub fn check(self, limits: &ModelLimits) -> Result<()> {
        for (flag, asked, most, remedy) in [
            ("max-source-length", self.source, limits.max_source, limits.remedy()),
            ("max-target-length", self.target, limits.max_target, "truncate the target"),
        ] {
            if asked > most {
                let what = format!("--{flag} {asked} exceeds the model's {most} positions; {remedy}");
                return Err(Error::usage(what));
            }
        }
        Ok(())
    }
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
        lengths.check(&limits)?;
        let global_attention = global_attention.resolved(tokenizer);
        let global_tokens = match limits.has_global_attention {
            true => GlobalTokens::of(&global_attention, tokenizer, examples, lengths.source)?,
            false => GlobalTokens::None,
        };
        Ok(Corpus {
            examples: make(&mut || tokenised(tokenizer, examples, lengths))?,
            ids: examples.iter().map(|example| example.id.clone()).collect(),
            limits,
            global_attention,
            global_tokens,
        })
    }

    /// What of the texts of `examples`, of which this corpus was made under `lengths`, was left out.
    pub fn cut(&self, tokenizer: &Tokenizer, examples: &[Example], lengths: Lengths) -> Result<Cut> {
        let read = |example: &Encoded| example.input.len();
        // The others are shorter than what is kept.
        let full: Vec<usize> =
            (0..examples.len()).filter(|&i| read(&self.examples[i]) >= lengths.source).collect();
        let texts: Vec<&str> = full.iter().map(|&i| examples[i].input.as_str()).collect();
        let whole = tokenizer.encode_batch(&texts, usize::MAX)?;
        let mut cut = Cut { documents: examples.len(), ..Cut::default() };
        cut.tokens_read = self.examples.iter().map(|example| read(example) as u64).sum();
        cut.tokens = cut.tokens_read;
        for (whole, &i) in whole.iter().zip(&full) {
            let left_out = whole.len() - read(&self.examples[i]);
            cut.documents_cut += usize::from(left_out > 0);
            cut.tokens += left_out as u64;
        }
        Ok(cut)
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
        let global: Vec<i64> =
            which.iter().flat_map(|&i| (0..longest).map(move |at| self.is_global(i, at) as i64)).collect();
        let rows = SourceRows {
            batch: which.len(),
            ids: &ids,
            attention_mask: Some(&mask),
            global_attention_mask: Some(&global),
        };
        Source::new(&self.limits, rows)
    }

    fn is_global(&self, which: usize, position: usize) -> bool {
        self.global_tokens.holds(which, &self.examples[which].input, position)
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
        let mut source = self.source(&longest(|example| example.input.len()))?;
        if self.limits.has_global_attention {
            let count = |(i, example): (usize, &Encoded)| self.global_tokens.count(i, &example.input);
            source.widen_globals(self.examples.iter().enumerate().map(count).max().unwrap_or(0));
        }
        Ok((source, self.target(&longest(|example| example.labels.len()))?))
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
    let labels = tokenizer.encode_targets(&outputs, lengths.target)?;
    let encoded = inputs.into_iter().zip(labels).zip(examples).map(|((input, labels), example)| Encoded {
        input: input.into(),
        labels: if example.references.is_empty() { Vec::new() } else { labels }.into(),
    });
    Ok(encoded.collect())
}
