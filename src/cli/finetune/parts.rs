//! The splits that a run learns from and is judged by.

use super::super::choices;
use super::super::global::Global;
use super::{Args, cache};
use wattention::data::{self, Example, Split};
use wattention::error::{Error, Result};
use wattention::metrics::Protocol;
use wattention::models::Limits;
use wattention::text::Tokenizer;
use wattention::train::{Corpus, Lengths, Options};

/// A split in text and in tokens.
pub struct Part {
    pub examples: Vec<Example>,
    pub corpus: Corpus,
}

impl Args {
    /// The training split line by line, and the validation split where there is one.
    pub fn read(
        &self,
        global: &Global,
        tokenizer: &Tokenizer,
        limits: Limits,
        options: &Options,
    ) -> Result<(Part, Option<Part>)> {
        let lengths = Lengths { source: options.max_source_length, target: options.max_target_length };
        let cache = self.cache.open();
        let part = |examples: Vec<Example>, split: Split| -> Result<Part> {
            let global_attention = self.choices.global_attention;
            let corpus = match &cache {
                None => Corpus::encode(tokenizer, &examples, lengths, limits, global_attention)?,
                Some(cache) => {
                    let (corpus, outcome) = Corpus::encode_cached(
                        tokenizer,
                        &examples,
                        lengths,
                        limits,
                        global_attention,
                        cache,
                    )?;
                    cache::tell(global, split.name(), &outcome);
                    corpus
                }
            };
            Ok(Part { examples, corpus })
        };
        let dataset = data::open(&self.dataset)?;
        let (most, eval_most) = (self.settings.max_train_samples, self.settings.max_eval_samples);
        // Every reference is an example to learn from, whatever the protocol groups for scoring.
        let train = part(choices::examples(&dataset, Split::Train, Protocol::Paper, most)?, Split::Train)?;
        let found = choices::examples(&dataset, Split::Validation, self.protocol, eval_most);
        let validation = match found {
            Ok(examples) => Some(part(examples, Split::Validation)?),
            Err(Error::Missing { .. }) if options.eval_steps == 0 => {
                global.warn(format_args!(
                    "{} has no validation split: nothing will be evaluated",
                    self.dataset
                ));
                None
            }
            Err(error) => return Err(error),
        };
        Ok((train, validation))
    }
}
