//! The plans behind a forecast, one for all cells that agree in what decides it.

use crate::device::Precision;
use crate::error::{Error, Result};
use crate::files;
use crate::generate::GenerateOptions;
use crate::limits::Limits;
use crate::metrics::Protocol;
use crate::models::{self, RandomBlocks};
use crate::nn::Weights;
use crate::run::{MemoryRequest, config_with_window};
use crate::study::grid::{BatchSize, CellPlan, Memory};
use crate::study::published::Places;
use crate::train::RankLayout;
use crate::train::{Corpus, Encoded, GlobalTokens, Options, largest_batch};
use crate::units::{Bytes, Seconds};
use std::path::{Path, PathBuf};

/// Examples that a planned corpus has at most, and so the largest batch that is looked for.
const EXAMPLES: usize = 1024;

/// What decides a plan: cells that agree in it are planned once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    config: PathBuf,
    precision: Precision,
    blocks: RandomBlocks,
    lengths: [usize; 2],
    batch: BatchSize,
    memory: Option<u64>,
    eval_batch: usize,
    new_tokens: usize,
    protocols: Vec<&'static str>,
    more_weights: Vec<Weights>,
    /// Examples in use for the largest batch.
    most: usize,
}

/// What the plan executor says of a [`Key`].
#[derive(Debug, Clone)]
pub struct Planned {
    pub batch: usize,
    pub total: Bytes,
    pub micro_step: Option<Seconds>,
    pub optimizer: Option<Seconds>,
    /// Per example, under each protocol; generated answers are as long as they may be.
    pub inference: Vec<(Protocol, Seconds)>,
}

/// What decides the plan of `cell`, whose training split has `examples` if that is known.
pub fn key(
    cell: &CellPlan,
    places: &Places,
    scratch: &Path,
    memory: Option<Memory>,
    examples: Option<usize>,
) -> Result<Key> {
    let mut config = places.config(&cell.model, scratch)?;
    if let Some(window) = cell.attention_window {
        let text = config_with_window(&config, window)?;
        let name = format!("window{window}-{}.json", &blake3::hash(text.as_bytes()).to_hex()[..12]);
        config = scratch.join(name);
        files::write_text(&config, &text)?;
    }
    let memory = cell.memory.or(memory).filter(|_| cell.batch_size == BatchSize::Largest);
    if cell.batch_size == BatchSize::Largest && memory.is_none() {
        let what =
            "the batch size \"largest\" needs to know the memory: give --memory, or `memory` in the study";
        return Err(Error::usage(what));
    }
    Ok(Key {
        config,
        precision: cell.precision,
        blocks: cell.random_blocks,
        lengths: [cell.train.max_source_length, cell.train.max_target_length],
        batch: cell.batch_size,
        memory: memory.map(|memory| memory.0.0),
        eval_batch: cell.train.per_device_eval_batch_size,
        new_tokens: cell.max_new_tokens,
        protocols: cell.protocols.iter().map(|protocol| protocol.name()).collect(),
        more_weights: cell.more_weights(),
        most: match cell.batch_size {
            BatchSize::Of(size) => size,
            BatchSize::Largest => examples.unwrap_or(EXAMPLES).min(EXAMPLES),
        },
    })
}

/// Plans a cell on examples that use every token they may.
pub fn planned(key: &Key, cell: &CellPlan, limits: Option<&Limits>) -> Result<Planned> {
    let of_model = models::limits(&key.config)?;
    let [source, target] = key.lengths;
    for (name, asked, most) in
        [("source", source, of_model.max_source), ("target", target, of_model.max_target)]
    {
        if asked > most {
            return Err(Error::usage(format!(
                "{asked} {name} tokens exceed the {most} positions of {}",
                cell.label
            )));
        }
    }
    let corpus = |examples: usize| {
        let row = |tokens: usize| vec![of_model.eos as u32; tokens];
        let one = || Encoded::new(row(source), row(target));
        Corpus {
            examples: (0..examples).map(|_| one()).collect(),
            ids: (0..examples).map(|i| i.to_string()).collect(),
            limits: of_model,
            global_attention: cell.global_attention.clone(),
            global_tokens: GlobalTokens::without_texts(&cell.global_attention),
        }
    };
    let (train, validation) = (corpus(key.most), corpus(key.eval_batch));
    let decoding = GenerateOptions { max_new_tokens: cell.max_new_tokens, ..GenerateOptions::new(&of_model) };
    let request = MemoryRequest {
        config: &key.config,
        precision: cell.precision,
        choices: models::ModelOptions { random_blocks: key.blocks, ..models::ModelOptions::default() },
        train: &train,
        validation: Some(&validation),
        protocols: &cell.protocols,
        more_weights: &key.more_weights,
        decoding: &decoding,
        layout: RankLayout::ALONE,
    };
    let plan = |size: usize| {
        let (needs, session) =
            request.needs(&Options { per_device_train_batch_size: size, ..cell.train.clone() })?;
        Ok(((needs, session), needs.total))
    };
    let (batch, (needs, session)) = match (key.batch, key.memory) {
        (BatchSize::Of(size), _) => (size, plan(size)?.0),
        (BatchSize::Largest, memory) => {
            let budget = Bytes(memory.unwrap_or(0));
            match largest_batch(key.most, budget, plan)?.fits {
                Some(fits) => (fits.batch, fits.plan),
                None => {
                    let what = format!("not even a batch of 1 fits into {budget}");
                    return Err(Error::DoesNotFit(what));
                }
            }
        }
    };
    let least = |kind: &str| {
        let limits = limits?;
        let of_kind = session.recordings().filter(|(signature, _)| signature.kind == kind);
        of_kind.map(|(_, recording)| limits.least_of(&recording.launches, key.precision)).reduce(|a, b| a + b)
    };
    let each = |protocol: Protocol| {
        let batch = match protocol {
            Protocol::Paper => least("teacher-forced")?,
            Protocol::Scrolls => {
                let step = least("generate.best").or_else(|| least("generate.logits"))?;
                // The first step, which was planned, is the shortest.
                least("generate.encode")? + Seconds(step.0 * key.new_tokens as f64)
            }
        };
        Some(Seconds(batch.0 / key.eval_batch as f64))
    };
    Ok(Planned {
        batch,
        total: needs.total,
        micro_step: least("train"),
        optimizer: least("optimizer"),
        inference: cell.protocols.iter().filter_map(|&protocol| Some((protocol, each(protocol)?))).collect(),
    })
}
