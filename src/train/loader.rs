//! Which examples each step learns from, and their tensors, prepared while the step before computes.

use super::batches::Corpus;
use super::control::Control;
use super::options::Options;
use super::state::Cursor;
use crate::data::{order, order_by_length};
use crate::error::{Error, Result};
use crate::models::batch::{Source, Target};
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

/// Steps prepared ahead.
const AHEAD: usize = 2;

/// Examples of each step: a pure function of (seed, epoch, step).
pub struct Order<'a> {
    corpus: &'a Corpus,
    options: &'a Options,
    by_length: bool,
    /// The epoch that `order` is of.
    epoch: Option<u64>,
    order: Vec<usize>,
}

impl<'a> Order<'a> {
    pub fn new(corpus: &'a Corpus, options: &'a Options, control: &Control) -> Self {
        Order { corpus, options, by_length: control.group_by_length, epoch: None, order: Vec::new() }
    }

    /// The micro-batches of `step`; an epoch's last may be short, and none spans two epochs.
    pub fn micro_batches(&mut self, step: u64) -> Vec<Vec<usize>> {
        let Cursor { epoch, position, .. } = Cursor::at(step, self.corpus.examples.len(), self.options);
        let size = self.options.per_device_train_batch_size;
        let per_step = size * self.options.gradient_accumulation_steps;
        if self.epoch != Some(epoch) {
            let (seed, examples) = (self.options.seed, &self.corpus.examples);
            self.order = match self.by_length {
                true => {
                    let lengths: Vec<usize> = examples.iter().map(|e| e.input.len()).collect();
                    order_by_length(seed, epoch, &lengths, per_step)
                }
                false => order(seed, epoch, examples.len()),
            };
            self.epoch = Some(epoch);
        }
        let left = self.order.get(position as usize..).unwrap_or_default();
        left[..left.len().min(per_step)].chunks(size).map(<[usize]>::to_vec).collect()
    }
}

/// Which micro-batches of a step are this rank's: every `size`th, from `rank` on.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub rank: usize,
    pub size: usize,
}

/// One optimizer step's data: counts are of all ranks.
pub struct Prepared {
    /// Those of this rank.
    pub micro_batches: Vec<MicroBatch>,
    /// The examples of all micro-batches, in their order.
    examples: Vec<usize>,
    pub target_tokens: usize,
    /// Source and target tokens.
    pub tokens: usize,
}

pub struct MicroBatch {
    /// Among those of the step, whoever computes them.
    pub number: usize,
    pub examples: Vec<usize>,
    pub source: Source,
    pub target: Target,
}

impl Prepared {
    fn new(corpus: &Corpus, micro_batches: Vec<Vec<usize>>, share: Share) -> Result<Self> {
        let examples = micro_batches.concat();
        let inputs: usize = examples.iter().map(|&i| corpus.examples[i].input.len()).sum();
        let target_tokens = corpus.target_tokens(&examples);
        let mine = micro_batches.into_iter().enumerate().skip(share.rank).step_by(share.size);
        let micro_batches = mine.map(|(number, examples)| {
            let (source, target) = (corpus.source(&examples)?, corpus.target(&examples)?);
            Ok(MicroBatch { number, examples, source, target })
        });
        Ok(Prepared {
            micro_batches: micro_batches.collect::<Result<_>>()?,
            examples,
            target_tokens,
            tokens: inputs + target_tokens,
        })
    }

    /// The examples of all micro-batches.
    pub fn examples(&self) -> &[usize] {
        &self.examples
    }
}

/// The data of consecutive steps, from a thread of its own.
pub struct Loader(Receiver<Result<Prepared>>);

impl Loader {
    /// Starts preparing `steps`; the thread ends with them or when the loader is dropped.
    pub fn start<'scope, 'a: 'scope>(
        scope: &'scope Scope<'scope, '_>,
        mut order: Order<'a>,
        steps: Range<u64>,
        share: Share,
    ) -> Self {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            for step in steps {
                let micro_batches = order.micro_batches(step);
                if sender.send(Prepared::new(order.corpus, micro_batches, share)).is_err() {
                    break;
                }
            }
        });
        Loader(receiver)
    }

    /// The next step's data; `waits` is told when it is not ready yet.
    pub fn next(&self, waits: impl FnOnce()) -> Result<Prepared> {
        let ready = self.0.try_recv().or_else(|_| {
            waits();
            self.0.recv()
        });
        ready.map_err(|_| Error::internal("the thread that prepares batches ended early"))?
    }
}
