//! What a run needs of the device's memory, planned before any of it is taken.

use super::batch::{Batch, Size};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use wattention::device::Device;
use wattention::error::{Error, Result};
use wattention::evaluate::{plan_evaluation, work};
use wattention::generate::GenerateOptions;
use wattention::metrics::Protocol;
use wattention::models;
use wattention::models::session::Session;
use wattention::train::{Corpus, Options, Parts, largest_batch, plan_run};
use wattention::units::Bytes;

/// A run of any batch size.
pub struct Run<'a> {
    /// The model's config.json.
    pub config: &'a Path,
    pub choices: models::Options,
    pub device: &'a Device,
    pub train: &'a Corpus,
    pub validation: Option<&'a Corpus>,
    /// How predictions are made at the end.
    pub predict: Option<(Protocol, &'a GenerateOptions)>,
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
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Needs { parts: Parts { weights, gradients, optimizer }, caches, arena, total } = self;
        write!(
            f,
            "{total} (weights {weights}, gradients {gradients}, optimizer {optimizer}, caches {caches}, arena {arena})"
        )
    }
}

impl Run<'_> {
    /// What a run with these options needs; nothing is computed or allocated.
    pub fn needs(&self, options: &Options) -> Result<Needs> {
        let mut session = Session::dry_run(self.config, self.device.precision(), self.choices, work)?;
        let training = plan_run(&mut session, self.train, self.validation, options)?;
        let parts = Parts::new(&session.real().loaded, training.persistent);
        let all = match (self.validation, self.predict) {
            (Some(corpus), Some((protocol, decoding))) => {
                let batch = options.per_device_eval_batch_size;
                plan_evaluation(&mut session, corpus, protocol, decoding, batch)?
            }
            _ => training,
        };
        Ok(Needs {
            parts,
            caches: Bytes((all.persistent - training.persistent) as u64),
            arena: Bytes(all.arena as u64),
            total: Bytes(all.total() as u64),
        })
    }

    /// The options with the batch that was asked for, or that fits, and what it needs.
    ///
    /// A run that does not fit is refused with the largest batch that does.
    pub fn choose(&self, batch: &Batch, options: Options) -> Result<(Options, Needs)> {
        let limit = match batch.memory {
            Some(bytes) => Some(Limit { bytes, asked: true }),
            None => self.device.free().map(|bytes| Limit { bytes: Bytes(bytes as u64), asked: false }),
        };
        match (batch.per_device_train_batch_size, limit) {
            (Size::Auto, Some(limit)) => {
                let size = batch.divisor(self.largest(batch, &options, limit)?);
                let gradient_accumulation_steps = batch.accumulation(size)?;
                let options = Options { gradient_accumulation_steps, ..with(&options, size) };
                let needs = self.needs(&options)?;
                Ok((options, needs))
            }
            (Size::Auto, None) => Err(Error::usage(
                "nobody knows how much memory is free here: give --memory with --per-device-train-batch-size auto",
            )),
            (Size::Of(_), None) => {
                let needs = self.needs(&options)?;
                Ok((options, needs))
            }
            (Size::Of(size), Some(limit)) => {
                let what = match self.needs(&options) {
                    Ok(needs) if needs.total <= limit.bytes => return Ok((options, needs)),
                    Ok(needs) => format!("needs {needs}, and {limit}"),
                    Err(Error::DoesNotFit(why)) => format!("is too large ({why})"),
                    Err(error) => return Err(error),
                };
                let fits = batch.divisor(self.largest(batch, &options, limit)?);
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
        let fit = largest_batch(most, limit.bytes, |size| {
            let needs = self.needs(&with(options, size))?;
            Ok((needs, needs.total))
        })?;
        match fit.fits {
            Some(fits) => Ok(fits.batch),
            None => Err(self.too_much(&with(options, 1), limit)),
        }
    }

    fn too_much(&self, smallest: &Options, limit: Limit) -> Error {
        let needs = match self.needs(smallest) {
            Ok(needs) => needs,
            Err(error) => return error,
        };
        // Training alone tells whether it is the evaluation that is too large.
        let alone = Run { validation: None, predict: None, ..*self }.needs(smallest);
        let remedy = match alone {
            Ok(training) if training.total <= limit.bytes => {
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
    /// By --memory, not by what is free.
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
