//! The splits that a run learns from and is judged by.

use super::observer::{Message, Observer};
use super::origin::Origin;
use super::settings::Settings;
use crate::data::{self, Dataset, Example, Kind, Split};
use crate::error::{Error, Result};
use crate::evaluate::Task;
use crate::generate::GenerateOptions;
use crate::metrics::{Headline, Protocol};
use crate::models::ModelLimits;
use crate::text::Tokenizer;
use crate::train::token_cache::{self, TokenCache};
use crate::train::{Corpus, Cut, GlobalAttention, Lengths, Options};
use serde::{Deserialize, Serialize};

/// A split in text and in tokens.
pub struct Part {
    pub examples: Vec<Example>,
    pub corpus: Corpus,
    pub left_out: SplitLeftOut,
}

/// What of a split was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SplitLeftOut {
    /// Records that were passed over.
    pub skipped: usize,
    /// Examples beyond as many as were asked for.
    pub unused: usize,
    /// What did not fit the lengths.
    pub cut: Cut,
}

/// What splits are read from, and how they are tokenised.
pub(super) struct Splits {
    dataset: Dataset,
    tokenizer: Tokenizer,
    lengths: Lengths,
    limits: ModelLimits,
    global_attention: GlobalAttention,
    /// Examples that are used of the training and the validation split.
    most: [Option<usize>; 2],
    cache: Option<TokenCache>,
}

impl Splits {
    pub fn open(
        origin: &Origin,
        settings: &Settings,
        limits: ModelLimits,
        cache: Option<TokenCache>,
    ) -> Result<Self> {
        Ok(Splits {
            tokenizer: origin.tokenizer()?,
            dataset: data::open_as(&settings.dataset, settings.reading.clone())?,
            lengths: settings.lengths(),
            limits,
            global_attention: settings.global_attention.clone(),
            most: [settings.max_train_samples, settings.max_eval_samples],
            cache,
        })
    }

    /// The dataset's name.
    pub fn name(&self) -> &str {
        &self.dataset.name
    }

    pub fn kind(&self) -> Kind {
        self.dataset.kind
    }

    pub fn headline(&self) -> Headline {
        self.dataset.headline
    }

    /// Every reference is an example to learn from, whatever the protocol groups for scoring.
    pub fn train(&self, observer: &mut dyn Observer) -> Result<Part> {
        if let Some(what) = self.global_attention.idle(&self.limits) {
            observer.message(Message::LeftOut(what));
        }
        self.part(Split::Train, Protocol::Paper, self.most[0], observer)
    }

    /// The validation split; where there is none, and nothing needs one, training goes without.
    pub fn validation(&self, settings: &Settings, observer: &mut dyn Observer) -> Result<Option<Part>> {
        match self.validation_under(settings.protocol, observer) {
            Err(Error::Missing { .. }) if settings.training.eval_steps == 0 => {
                let what = format!("{} has no validation split: nothing will be evaluated", settings.dataset);
                observer.message(Message::Warning(what));
                Ok(None)
            }
            part => part.map(Some),
        }
    }

    /// The validation split as `protocol` groups it.
    pub fn validation_under(&self, protocol: Protocol, observer: &mut dyn Observer) -> Result<Part> {
        self.part(Split::Validation, protocol, self.most[1], observer)
    }

    fn part(
        &self,
        split: Split,
        protocol: Protocol,
        most: Option<usize>,
        observer: &mut dyn Observer,
    ) -> Result<Part> {
        let mut examples = self.dataset.examples(split, protocol)?;
        for what in self.dataset.about_skipped(split) {
            observer.message(Message::Warning(what));
        }
        let all = examples.len();
        examples.truncate(most.unwrap_or(usize::MAX));
        if examples.is_empty() {
            let what = format!("its {} split has no examples", split.name());
            return Err(Error::data(&self.dataset.name, what));
        }
        let Splits { tokenizer, lengths, limits, global_attention, .. } = self;
        let corpus = match &self.cache {
            None => Corpus::encode(tokenizer, &examples, *lengths, *limits, global_attention.clone())?,
            Some(cache) => {
                let rule = global_attention.clone();
                let (corpus, outcome) =
                    token_cache::encode(cache, tokenizer, &examples, *lengths, *limits, rule)?;
                observer.message(said(split.name(), &outcome));
                corpus
            }
        };
        let (skipped, unused) = (self.dataset.skipped(split).len(), all - examples.len());
        let left_out = SplitLeftOut { skipped, unused, cut: corpus.cut() };
        if let Some(what) = left_out.cut.text() {
            observer.message(Message::LeftOut(format!("{}: {what}", split.name())));
        }
        Ok(Part { examples, corpus, left_out })
    }

    /// What is asked of the model about `part`.
    pub fn task<'a>(
        &'a self,
        part: &'a Part,
        protocol: Protocol,
        decoding: &'a GenerateOptions,
        options: &Options,
    ) -> Task<'a> {
        Task {
            tokenizer: &self.tokenizer,
            corpus: &part.corpus,
            examples: &part.examples,
            protocol,
            decoding,
            batch_size: options.per_device_eval_batch_size,
            known: Vec::new(),
        }
    }
}

/// What the token cache did with a split.
fn said(split: &str, outcome: &token_cache::Outcome) -> Message {
    use token_cache::Outcome;
    match outcome {
        Outcome::Read => Message::Detail(format!("{split}: tokens from the cache")),
        Outcome::Written => Message::Detail(format!("{split}: tokenised, and kept for the next run")),
        Outcome::Rewritten { path, why } => {
            Message::Note(format!("{split}: tokenised again, for {} was no good: {why}", path.display()))
        }
        Outcome::Unwritten(error) => {
            Message::Note(format!("{split}: tokenised, but not kept for the next run: {error}"))
        }
    }
}
