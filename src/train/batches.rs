//! Tokenised examples and the batches made of them.

use super::global_attention::{GlobalAttention, GlobalTokens};
use super::tokens::Tokens;
use crate::data::Example;
use crate::error::{Error, Result};
use crate::models::ModelLimits;
use crate::models::batch::{IGNORED, Source, SourceRows, Target};
use crate::text::Tokenizer;
use serde::{Deserialize, Serialize};

/// One example in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    pub input: Tokens,
    /// Empty when the example has no reference.
    pub labels: Tokens,
    /// How many tokens the whole text and the whole reference have, of which these are what fits.
    pub whole: [usize; 2],
}

impl Encoded {
    /// An example of which nothing was cut off.
    pub fn new(input: impl Into<Tokens>, labels: impl Into<Tokens>) -> Self {
        let (input, labels) = (input.into(), labels.into());
        let whole = [input.len(), labels.len()];
        Encoded { input, labels, whole }
    }
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

/// How much was left out so that inputs fit `max_source_length`, and references `max_target_length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cut {
    pub documents: usize,
    pub documents_cut: usize,
    /// Tokens of all documents, special ones included.
    pub tokens: u64,
    pub tokens_read: u64,
    /// The references that the loss is of.
    pub references: usize,
    pub references_cut: usize,
    pub reference_tokens: u64,
    pub reference_tokens_read: u64,
}

impl Cut {
    /// Percent of the documents' tokens that are read; none without documents.
    pub fn read_percent(&self) -> Option<f64> {
        percent(self.tokens_read, self.tokens)
    }

    /// Percent of the references' tokens that the loss is of; none without references.
    pub fn reference_percent(&self) -> Option<f64> {
        percent(self.reference_tokens_read, self.reference_tokens)
    }

    /// What to say of it; nothing where all was read whole.
    pub fn text(&self) -> Option<String> {
        let Cut { documents, documents_cut, references, references_cut, .. } = *self;
        // Rounded down: where something was left out, it is never all of it.
        let share = |percent: Option<f64>| match percent.unwrap_or_default() {
            ..1.0 => "less than 1".to_string(),
            percent => percent.floor().to_string(),
        };
        let mut said = Vec::new();
        if documents_cut > 0 {
            let share = share(self.read_percent());
            said.push(format!(
                "{documents_cut} of {documents} documents cut, {share} % of their tokens read"
            ));
        }
        if references_cut > 0 {
            let share = share(self.reference_percent());
            said.push(format!(
                "{references_cut} of {references} references cut, the loss is of {share} % of their tokens"
            ));
        }
        (!said.is_empty()).then(|| said.join("; "))
    }
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
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
        let global_attention = match limits.has_global_attention {
            true => global_attention.resolved(tokenizer),
            false => GlobalAttention::None,
        };
        let global_tokens = GlobalTokens::of(&global_attention, tokenizer, examples, lengths.source)?;
        Ok(Corpus {
            examples: make(&mut || tokenised(tokenizer, examples, lengths))?,
            ids: examples.iter().map(|example| example.id.clone()).collect(),
            limits,
            global_attention,
            global_tokens,
        })
    }

    /// What was left out of the texts and references that this corpus was made of.
    pub fn cut(&self) -> Cut {
        let mut cut = Cut { documents: self.examples.len(), ..Cut::default() };
        for Encoded { input, labels, whole: [document, reference] } in &self.examples {
            cut.documents_cut += usize::from(*document > input.len());
            cut.tokens += *document as u64;
            cut.tokens_read += input.len() as u64;
            cut.references += usize::from(!labels.is_empty());
            cut.references_cut += usize::from(*reference > labels.len());
            cut.reference_tokens += *reference as u64;
            cut.reference_tokens_read += labels.len() as u64;
        }
        cut
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
    let inputs = tokenizer.encode_counted(&inputs, lengths.source)?;
    let outputs = tokenizer.encode_targets_counted(&outputs, lengths.target)?;
    let encoded = inputs.into_iter().zip(outputs).zip(examples).map(|((input, output), example)| {
        let ((input, document), (labels, reference)) = (input, output);
        let (labels, reference) = match example.references.is_empty() {
            true => (Vec::new(), 0),
            false => (labels, reference),
        };
        Encoded { input: input.into(), labels: labels.into(), whole: [document, reference] }
    });
    Ok(encoded.collect())
}
