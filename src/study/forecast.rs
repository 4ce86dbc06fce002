//! What a study's cells will need, from the plan executor alone: batches, memory, and the least time and energy
//! that a described GPU takes. No weight and no GPU is needed for it.

mod planned;
mod text;

pub use text::text;

use super::grid::{CellPlan, Memory};
use super::presets;
use super::published::{Places, scratch};
use crate::data::Split;
use crate::device::Precision;
use crate::error::Result;
use crate::limits::Limits;
use crate::metrics::Protocol;
use crate::nn::Weights;
use crate::reading::Reading;
use crate::train::Options;
use crate::units::Seconds;
use planned::{Key, Planned, key, planned};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// What is foreseen of one cell. Every number is predicted; times are bounds that no kernel goes below.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    pub cell: String,
    pub model: String,
    pub dataset: String,
    pub max_source_length: usize,
    pub precision: Precision,
    /// How the trained weights are kept while they are scored.
    pub weights: Vec<Weights>,
    pub batch_size: Option<usize>,
    /// The batch that Ang et al. 2022 had, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paper_batch_size: Option<usize>,
    /// Memory of training and evaluation, the weights included.
    pub memory_bytes: Reading,
    pub train_examples: Option<usize>,
    pub steps_per_epoch: Option<u64>,
    /// Optimizer steps unless early stopping ends the run before.
    pub steps_at_most: Option<u64>,
    pub least_step_seconds: Reading,
    pub least_epoch_seconds: Reading,
    /// Time of training through all steps.
    pub least_train_seconds: Reading,
    /// That time at the board's power limit.
    pub train_joules: Reading,
    /// Inference by the trained model, once over the validation split under each protocol.
    pub inference: Vec<Inference>,
    /// Why the cell cannot be run as asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What is foreseen of a cell's predictions under one protocol, as long as they may be where they are generated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inference {
    pub protocol: Protocol,
    pub examples: Option<usize>,
    pub least_seconds_per_example: Reading,
    pub least_seconds: Reading,
    /// That time at the board's power limit.
    pub joules: Reading,
}

/// Examples of the splits in use, where they are known.
#[derive(Clone, Default)]
struct Examples {
    train: Option<usize>,
    /// Examples of the validation split by protocol: kept apart line by line, and by input.
    lines: Option<usize>,
    inputs: Option<usize>,
}

/// Foresees all cells, on the GPU that `limits` describes; `memory` stands in where a cell names none.
pub fn forecast(
    cells: &[CellPlan],
    places: &Places,
    limits: Option<&Limits>,
    memory: Option<Memory>,
) -> Result<Vec<Forecast>> {
    let scratch = scratch()?;
    let mut examples: HashMap<&str, Examples> = HashMap::new();
    for cell in cells {
        examples.entry(&cell.dataset).or_insert_with(|| Examples::of(places, cell));
    }
    let keyed: Vec<(&CellPlan, Examples, Result<Key>)> = cells
        .iter()
        .map(|cell| {
            let used = examples[cell.dataset.as_str()].used(cell);
            let key = key(cell, places, scratch.path(), memory, used.train);
            (cell, used, key)
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
    let of = |(cell, used, key): &(&CellPlan, Examples, Result<Key>)| match key {
        Ok(key) => Forecast::new(cell, used, &planned[key], limits),
        Err(error) => Forecast::new(cell, used, &Err(error.to_string()), limits),
    };
    Ok(keyed.iter().map(of).collect())
}

impl Examples {
    /// Counted where the cell's dataset is here, else what is published of it.
    fn of(places: &Places, cell: &CellPlan) -> Self {
        let count = |split: Split| -> Result<[usize; 2]> {
            let (mut lines, mut inputs) = (0, HashSet::new());
            places.dataset(&cell.dataset, &cell.reading)?.visit(split, &mut |record| {
                lines += 1;
                inputs.insert(record.id);
                Ok(())
            })?;
            Ok([lines, inputs.len()])
        };
        let published = presets::published_size(&cell.dataset_name());
        let train = count(Split::Train).ok().map(|[lines, _]| lines);
        let validation = count(Split::Validation).ok().or(published.map(|size| size.validation));
        Examples {
            train: train.or(published.map(|size| size.training)),
            lines: validation.map(|[lines, _]| lines),
            inputs: validation.map(|[_, inputs]| inputs),
        }
    }

    /// As many as `cell` uses.
    fn used(&self, cell: &CellPlan) -> Self {
        let most =
            |all: Option<usize>, most: usize| all.map(|all| if most > 0 { all.min(most) } else { all });
        Examples {
            train: most(self.train, cell.max_train_samples),
            lines: most(self.lines, cell.max_eval_samples),
            inputs: most(self.inputs, cell.max_eval_samples),
        }
    }

    fn scored(&self, protocol: Protocol) -> Option<usize> {
        match protocol {
            Protocol::Paper => self.lines,
            Protocol::Scrolls => self.inputs,
        }
    }
}

impl Forecast {
    /// A quantity of all protocols' inference together.
    fn inference(&self, of: impl Fn(&Inference) -> &Reading) -> Reading {
        let mut all = self.inference.iter().map(|inference| of(inference).clone());
        let first = all.next().unwrap_or_default();
        all.fold(first, |sum, next| sum.with(&next, |a, b| a + b))
    }

    fn new(
        cell: &CellPlan,
        used: &Examples,
        planned: &Result<Planned, String>,
        limits: Option<&Limits>,
    ) -> Self {
        let examples = used.train;
        let model = &cell.label;
        let length = cell.train.max_source_length;
        let plan = planned.as_ref().ok();
        let problem = planned.as_ref().err().cloned();
        let why = match (&problem, limits) {
            (Some(problem), _) => problem.clone(),
            (None, None) => "no GPU is named: --gpu".into(),
            (None, Some(_)) => "the size of the dataset is not known".into(),
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
            weights: cell.weights.clone(),
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
            inference: cell
                .protocols
                .iter()
                .map(|&protocol| {
                    let of_protocol = |plan: &Planned| {
                        plan.inference.iter().find(|(of, _)| *of == protocol).map(|(_, time)| time.0)
                    };
                    let each = plan.and_then(of_protocol);
                    let examples = used.scored(protocol);
                    let all = each.zip(examples).map(|(time, n)| time * n as f64);
                    Inference {
                        protocol,
                        examples,
                        least_seconds_per_example: predicted(each),
                        least_seconds: predicted(all),
                        joules: predicted(all.and_then(|time| Some(limits?.energy(Seconds(time))?.0))),
                    }
                })
                .collect(),
            problem,
        }
    }
}
