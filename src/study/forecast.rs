//! What a study's cells will need, from the plan executor alone: batches, memory, and the least time and energy that a
//! described GPU takes. No weight and no GPU is needed for it.

mod table;

pub use table::table;

use super::cell::config_with_window;
use super::grid::{BatchSize, CellPlan, Memory};
use super::presets;
use super::published::{Places, scratch};
use super::results::Reading;
use crate::data::Split;
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::evaluate::{Work, plan_evaluation, work};
use crate::files;
use crate::generate::GenerateOptions;
use crate::limits::Limits;
use crate::metrics::Protocol;
use crate::models::{self, RandomBlocks, session::Session};
use crate::train::{Corpus, Encoded, Options, largest_batch, plan_run};
use crate::units::{Bytes, Seconds};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Examples that a planned corpus has at most, and so the largest batch that is looked for.
const EXAMPLES: usize = 1024;

/// What is foreseen of one cell. Every number is predicted; times are bounds that no kernel goes below.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    pub cell: String,
    pub model: String,
    pub dataset: String,
    pub max_source_length: usize,
    pub precision: Precision,
    pub batch_size: Option<usize>,
    /// The batch that Ang et al. 2022 had, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paper_batch_size: Option<usize>,
    /// Of training and evaluation, the weights included.
    pub memory_bytes: Reading,
    pub train_examples: Option<usize>,
    pub steps_per_epoch: Option<u64>,
    /// Optimizer steps unless early stopping ends the run before.
    pub steps_at_most: Option<u64>,
    pub least_step_seconds: Reading,
    pub least_epoch_seconds: Reading,
    /// Of training through all steps.
    pub least_train_seconds: Reading,
    /// That time at the board's power limit.
    pub train_joules: Reading,
    /// Of teacher-forced inference, per example.
    pub least_inference_seconds: Reading,
    /// Why the cell cannot be run as asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Memory of a run, with the session that holds the plans of its steps.
pub struct Needed {
    pub total: Bytes,
    session: Session<Work>,
}

/// Plans training and evaluation of a cell; nothing is computed or allocated.
pub fn needs(
    config: &Path,
    plan: &CellPlan,
    options: models::Options,
    train: &Corpus,
    validation: &Corpus,
    settings: &Options,
) -> Result<Needed> {
    let mut session = Session::dry_run(config, plan.precision, options, work)?;
    plan_run(&mut session, train, Some(validation), settings)?;
    let decoding =
        GenerateOptions { max_new_tokens: plan.max_new_tokens, ..GenerateOptions::new(&train.limits) };
    for &protocol in &plan.protocols {
        let batch = settings.per_device_eval_batch_size;
        plan_evaluation(&mut session, validation, protocol, &decoding, batch)?;
    }
    Ok(Needed { total: Bytes(session.planned().total() as u64), session })
}

/// What decides a plan: cells that agree in it are planned once.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    config: PathBuf,
    precision: Precision,
    blocks: RandomBlocks,
    lengths: [usize; 2],
    batch: BatchSize,
    memory: Option<u64>,
    eval_batch: usize,
    new_tokens: usize,
    protocols: Vec<&'static str>,
    /// Examples in use for the largest batch.
    most: usize,
}

/// What the plan executor says of a [`Key`].
#[derive(Debug, Clone)]
struct Planned {
    batch: usize,
    total: Bytes,
    micro_step: Option<Seconds>,
    optimizer: Option<Seconds>,
    /// Teacher-forced, per example.
    inference: Option<Seconds>,
}

/// Foresees all cells, on the GPU that `limits` describes; `memory` stands in where a cell names none.
pub fn forecast(
    cells: &[CellPlan],
    places: &Places,
    limits: Option<&Limits>,
    memory: Option<Memory>,
) -> Result<Vec<Forecast>> {
    let scratch = scratch()?;
    let mut examples: HashMap<&str, Option<usize>> = HashMap::new();
    for cell in cells {
        examples.entry(&cell.dataset).or_insert_with(|| count(places, cell));
    }
    let keyed: Vec<(&CellPlan, Option<usize>, Result<Key>)> = cells
        .iter()
        .map(|cell| {
            let all = examples[cell.dataset.as_str()];
            let used =
                all.map(|all| if cell.max_train_samples > 0 { all.min(cell.max_train_samples) } else { all });
            (cell, used, key(cell, places, scratch.path(), memory, used))
        })
        .collect();
    let mut plans: HashMap<&Key, &CellPlan> = HashMap::new();
    for (cell, _, key) in &keyed {
        if let Ok(key) = key {
            plans.entry(key).or_insert(cell);
        }
    }
    let plans: Vec<(&Key, &CellPlan)> = plans.into_iter().collect();
    let planned: HashMap<&Key, Result<Planned, String>> = plans
        .into_par_iter()
        .map(|(key, cell)| (key, planned(key, cell, limits).map_err(|e| e.to_string())))
        .collect();
    let of = |(cell, used, key): &(&CellPlan, Option<usize>, Result<Key>)| match key {
        Ok(key) => Forecast::new(cell, *used, &planned[key], limits),
        Err(error) => Forecast::new(cell, *used, &Err(error.to_string()), limits),
    };
    Ok(keyed.iter().map(of).collect())
}

/// Examples of a dataset's training split: counted where it is here, else what is published of it.
fn count(places: &Places, cell: &CellPlan) -> Option<usize> {
    let counted = places.dataset(&cell.dataset).and_then(|dataset| {
        let mut lines = 0;
        dataset.visit(Split::Train, &mut |_| {
            lines += 1;
            Ok(())
        })?;
        Ok(lines)
    });
    counted.ok().or_else(|| presets::training_lines(&cell.dataset_name()))
}

fn key(
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
        protocols: cell.protocols.iter().map(|protocol| protocol_name(*protocol)).collect(),
        most: match cell.batch_size {
            BatchSize::Of(size) => size,
            BatchSize::Largest => examples.unwrap_or(EXAMPLES).min(EXAMPLES),
        },
    })
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Scrolls => "scrolls",
        Protocol::Paper => "paper",
    }
}

/// Plans a cell on examples that use every token they may.
fn planned(key: &Key, cell: &CellPlan, limits: Option<&Limits>) -> Result<Planned> {
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
        let one = || Encoded { input: row(source).into(), labels: row(target).into() };
        Corpus {
            examples: (0..examples).map(|_| one()).collect(),
            ids: (0..examples).map(|i| i.to_string()).collect(),
            limits: of_model,
            global_attention: cell.global_attention,
        }
    };
    let (train, validation) = (corpus(key.most), corpus(key.eval_batch));
    let options = models::Options { random_blocks: key.blocks, ..models::Options::default() };
    let plan = |size: usize| {
        let settings = Options { per_device_train_batch_size: size, ..cell.train.clone() };
        let needed = needs(&key.config, cell, options, &train, &validation, &settings)?;
        let total = needed.total;
        Ok((needed, total))
    };
    let (batch, needed) = match (key.batch, key.memory) {
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
        let of_kind = needed.session.recordings().filter(|(signature, _)| signature.kind == kind);
        of_kind.map(|(_, recording)| limits.least_of(&recording.launches, key.precision)).reduce(|a, b| a + b)
    };
    Ok(Planned {
        batch,
        total: needed.total,
        micro_step: least("train"),
        optimizer: least("optimizer"),
        inference: least("teacher-forced").map(|time| Seconds(time.0 / key.eval_batch as f64)),
    })
}

impl Forecast {
    fn new(
        cell: &CellPlan,
        examples: Option<usize>,
        planned: &Result<Planned, String>,
        limits: Option<&Limits>,
    ) -> Self {
        let model = &cell.label;
        let length = cell.train.max_source_length;
        let plan = planned.as_ref().ok();
        let problem = planned.as_ref().err().cloned();
        let why = match (&problem, limits) {
            (Some(problem), _) => problem.clone(),
            (None, None) => "no GPU is named: --gpu".into(),
            (None, Some(_)) => "it is not planned".into(),
        };
        let predicted = |value: Option<f64>| value.map_or_else(|| Reading::absent(&why), Reading::predicted);
        let settings =
            plan.map(|plan| Options { per_device_train_batch_size: plan.batch, ..cell.train.clone() });
        let steps_per_epoch = settings.as_ref().zip(examples).map(|(s, n)| s.steps_per_epoch(n));
        let steps_at_most = settings.as_ref().zip(examples).map(|(s, n)| s.total_steps(n));
        let step = plan.and_then(|plan| {
            let accumulation = cell.train.gradient_accumulation_steps as f64;
            Some(plan.micro_step?.0 * accumulation + plan.optimizer?.0)
        });
        let times = |steps: Option<u64>| Some(step? * steps? as f64);
        let whole = times(steps_at_most);
        Forecast {
            cell: cell.name.clone(),
            model: model.clone(),
            dataset: cell.dataset_name(),
            max_source_length: length,
            precision: cell.precision,
            batch_size: plan.map(|plan| plan.batch),
            paper_batch_size: presets::paper_batch(model, length),
            memory_bytes: match plan {
                Some(plan) => Reading::predicted(plan.total.0 as f64),
                None => Reading::absent(&why),
            },
            train_examples: examples,
            steps_per_epoch,
            steps_at_most,
            least_step_seconds: predicted(step),
            least_epoch_seconds: predicted(times(steps_per_epoch)),
            least_train_seconds: predicted(whole),
            train_joules: predicted(whole.and_then(|time| Some(limits?.energy(Seconds(time))?.0))),
            least_inference_seconds: match plan.and_then(|plan| plan.inference) {
                Some(time) => Reading::predicted(time.0),
                None if limits.is_some() && problem.is_none() => {
                    Reading::absent("the time of generated answers depends on their lengths")
                }
                None => Reading::absent(&why),
            },
            problem,
        }
    }
}
