//! What a run needs of the device's memory, planned before any of it is taken; and the batch that fits.

use super::settings::Batch;
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::evaluate::{Work, plan_evaluation, ranked_work};
use crate::generate::{self, GenerateOptions};
use crate::metrics::Protocol;
use crate::models::session::Session;
use crate::models::{self, Loaded};
use crate::nn::Weights;
use crate::train::{BatchSize, Corpus, Options, Parts, RankLayout, largest_batch, plan_run};
use crate::units::Bytes;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// All that decides what a run needs, but for its training options.
pub struct MemoryRequest<'a> {
    /// The model's config.json.
    pub config: &'a Path,
    pub precision: Precision,
    pub choices: models::ModelOptions,
    pub train: &'a Corpus,
    pub validation: Option<&'a Corpus>,
    /// How the validation split is predicted, if it is.
    pub protocols: &'a [Protocol],
    /// How the weights are kept while it is, besides as they are stored.
    pub more_weights: &'a [Weights],
    pub decoding: &'a GenerateOptions,
    /// What depends on the other ranks.
    pub layout: RankLayout,
}

/// Bytes of a run, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Needs {
    #[serde(flatten)]
    pub parts: Parts,
    /// Keys and values of predictions.
    pub caches: Bytes,
    /// Activations of the largest step.
    pub arena: Bytes,
    pub total: Bytes,
    /// What NCCL takes beside the total, which it does not say: an estimate; absent where ranks do without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nccl_estimate: Option<Bytes>,
}

impl Needs {
    /// What must be free, an estimate of NCCL's part included.
    fn claim(&self) -> Bytes {
        self.total + self.nccl_estimate.unwrap_or_default()
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Needs { parts, caches, arena, total, nccl_estimate } = self;
        let Parts { weights, gradients, optimizer, communication } = parts;
        write!(f, "{total} (weights {weights}, gradients {gradients}, optimizer {optimizer}, ")?;
        if communication.0 > 0 {
            write!(f, "communication {communication}, ")?;
        }
        write!(f, "caches {caches}, arena {arena})")?;
        nccl_estimate.map_or(Ok(()), |nccl| write!(f, " and about {nccl} for NCCL"))
    }
}

impl MemoryRequest<'_> {
    /// What a run with these options needs, and the session that holds the plans of its steps; nothing is computed or
    /// allocated.
    pub fn needs(&self, options: &Options) -> Result<(Needs, Session<Work>)> {
        let state = |loaded: &Loaded| ranked_work(loaded, self.layout);
        let mut session = Session::dry_run(self.config, self.precision, self.choices, state)?;
        let training = plan_run(&mut session, self.train, self.validation, options)?;
        let parts = Parts::new(&session.real().loaded, training.persistent, self.layout);
        let mut all = training;
        for &protocol in self.protocols {
            if let Some(corpus) = self.validation {
                let batch = options.per_device_eval_batch_size;
                all = plan_evaluation(&mut session, corpus, protocol, self.decoding, batch)?;
            }
        }
        let mut needs = Needs {
            parts,
            caches: Bytes((all.persistent - training.persistent) as u64),
            arena: Bytes(all.arena as u64),
            total: Bytes(all.total() as u64),
            nccl_estimate: (self.layout.nccl > 0).then_some(Bytes(self.layout.nccl as u64)),
        };
        for &weights in self.more_weights {
            self.beside(weights, options, &mut needs)?;
        }
        Ok((needs, session))
    }

    /// Adds what a second model for predictions takes, whose weights are kept so.
    fn beside(&self, weights: Weights, options: &Options, needs: &mut Needs) -> Result<()> {
        let choices = models::ModelOptions { weights, ..self.choices };
        let mut session = Session::dry_run(self.config, self.precision, choices, generate::state)?;
        let alone = session.planned();
        let mut all = alone;
        for (&protocol, corpus) in self.protocols.iter().flat_map(|one| Some((one, self.validation?))) {
            let batch = options.per_device_eval_batch_size;
            all = plan_evaluation(&mut session, corpus, protocol, self.decoding, batch)?;
        }
        // The arena is one for both.
        let arena = needs.arena.0.max(all.arena as u64);
        needs.total.0 += all.persistent as u64 + (arena - needs.arena.0);
        needs.arena.0 = arena;
        needs.parts.weights.0 += alone.persistent as u64;
        needs.caches.0 += (all.persistent - alone.persistent) as u64;
        Ok(())
    }

    /// The options with the batch that was asked for, or that fits, and what it needs; `free` bytes are there.
    ///
    /// A run that does not fit is refused with the largest batch that does.
    pub(super) fn choose(
        &self,
        batch: &Batch,
        options: &Options,
        free: Option<usize>,
    ) -> Result<(Options, Needs)> {
        let limit = match batch.memory {
            Some(bytes) => Some(Limit { bytes, asked: true }),
            None => free.map(|bytes| Limit { bytes: Bytes(bytes as u64), asked: false }),
        };
        match (batch.per_device_train_batch_size, limit) {
            (BatchSize::Largest, Some(limit)) => {
                let size = batch.divisor(self.largest(batch, options, limit)?);
                let gradient_accumulation_steps = batch.accumulation(size)?;
                let options = Options { gradient_accumulation_steps, ..with(options, size) };
                let (needs, _) = self.needs(&options)?;
                Ok((options, needs))
            }
            (BatchSize::Largest, None) => Err(Error::usage(
                "how much memory is free here is not known: the largest batch needs --memory (in a study, `memory`)",
            )),
            (BatchSize::Of(_), None) => {
                let (needs, _) = self.needs(options)?;
                Ok((options.clone(), needs))
            }
            (BatchSize::Of(size), Some(limit)) => {
                let what = match self.needs(options) {
                    Ok((needs, _)) if needs.claim() <= limit.bytes => return Ok((options.clone(), needs)),
                    Ok((needs, _)) => format!("needs {needs}, and {limit}"),
                    Err(Error::DoesNotFit(why)) => format!("is too large ({why})"),
                    Err(error) => return Err(error),
                };
                let fits = batch.divisor(self.largest(batch, options, limit)?);
                Err(Error::DoesNotFit(format!(
                    "a batch of {size} {what}: the largest that fits is --per-device-train-batch-size {fits} (or auto)"
                )))
            }
        }
    }

    /// The largest batch within `limit` that the data and the global batch have use for.
    fn largest(&self, batch: &Batch, options: &Options, limit: Limit) -> Result<usize> {
        let examples = self.train.examples.len();
        let most = batch.global_batch_size.map_or(examples, |all| all.get().min(examples));
        let plan = |size| Ok(((), self.needs(&with(options, size))?.0.claim()));
        match largest_batch(most, limit.bytes, plan)?.fits {
            Some(fits) => Ok(fits.batch),
            None => Err(self.too_much(&with(options, 1), limit)),
        }
    }

    fn too_much(&self, smallest: &Options, limit: Limit) -> Error {
        let needs = match self.needs(smallest) {
            Ok((needs, _)) => needs,
            Err(error) => return error,
        };
        // Training alone tells whether it is the evaluation that is too large.
        let alone =
            MemoryRequest { validation: None, protocols: &[], more_weights: &[], ..*self }.needs(smallest);
        let remedy = match alone {
            Ok((training, _)) if training.claim() <= limit.bytes => {
                format!(
                    "lower --per-device-eval-batch-size, which is {}",
                    smallest.per_device_eval_batch_size
                )
            }
            _ => "shorten --max-source-length or choose a smaller model".into(),
        };
        Error::DoesNotFit(format!("even a batch of 1 needs {needs}, and {limit}: {remedy}"))
    }
}

fn with(options: &Options, size: usize) -> Options {
    Options { per_device_train_batch_size: size, ..options.clone() }
}

/// What a run may take.
#[derive(Clone, Copy)]
struct Limit {
    bytes: Bytes,
    /// By `--memory`, not by what is free.
    asked: bool,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked {
            true => write!(f, "--memory allows {}", self.bytes),
            false => write!(f, "{} are free on the device", self.bytes),
        }
    }
}
