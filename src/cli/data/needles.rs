//! What `data stats` says about a split whose records name the places of their answers.

use crate::data::reach::{share_within, tokens_needed};
use crate::data::{Dataset, Record, Split};
use crate::error::Result;
use crate::text::Tokenizer;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write;

/// Records tokenised at a time, in parallel.
const CHUNK: usize = 64;

/// The shortest input length that is reported; the others are doublings of it.
const SHORTEST: usize = 256;

/// The accuracy that the construction allows.
#[derive(Serialize)]
pub struct Needles {
    /// Examples that name the places of their answers.
    examples: usize,
    /// Share of these that have the most frequent answer: what a model that never reads can score.
    most_frequent_answer: f64,
    /// Empty without a tokenizer.
    within: Vec<Within>,
}

/// Mean share of an example's answers that stand in the first `tokens` tokens of its input.
#[derive(Serialize)]
struct Within {
    tokens: usize,
    share: f64,
}

impl Needles {
    /// None for a split whose records name no places.
    pub fn of(dataset: &Dataset, split: Split, tokenizer: Option<&Tokenizer>) -> Result<Option<Self>> {
        let mut answers: HashMap<String, usize> = HashMap::new();
        let (mut examples, mut needed) = (0, Vec::new());
        let mut waiting: Vec<Record> = Vec::new();
        let mut count = |waiting: &mut Vec<Record>| {
            if let Some(tokenizer) = tokenizer {
                needed.extend(tokens_needed(tokenizer, waiting)?);
            }
            waiting.clear();
            Ok(())
        };
        dataset.visit(split, &mut |mut record| {
            if record.needles.is_empty() {
                return Ok(());
            }
            examples += 1;
            *answers.entry(record.output.take().unwrap_or_default()).or_default() += 1;
            waiting.push(record);
            match waiting.len() {
                CHUNK => count(&mut waiting),
                _ => Ok(()),
            }
        })?;
        count(&mut waiting)?;
        let Some(most) = answers.values().max() else {
            return Ok(None);
        };
        let farthest = needed.iter().flatten().max().copied().unwrap_or(0);
        let mut within = Vec::new();
        let mut tokens = SHORTEST;
        while let Some(share) = share_within(&needed, tokens) {
            within.push(Within { tokens, share });
            if tokens >= farthest {
                break;
            }
            tokens *= 2;
        }
        Ok(Some(Needles { examples, most_frequent_answer: *most as f64 / examples as f64, within }))
    }

    /// Lines below the table of lengths.
    pub fn text(&self, split: Split) -> String {
        let mut text = format!(
            "\n{}: the most frequent answer is that of {:.1} % of the examples",
            split.name(),
            100.0 * self.most_frequent_answer
        );
        for Within { tokens, share } in &self.within {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n  {:>5.1} % of the answers stand in the first {tokens} tokens",
                100.0 * share
            );
        }
        text
    }
}
