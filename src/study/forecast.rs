//! What a study's cells will need, from the plan executor alone: batches, memory, and the least time and energy
//! that a described GPU takes. No weight and no GPU is needed for it.

mod planned;
mod table;

pub use planned::{Needed, needs};
pub use table::table;

use super::grid::{CellPlan, Memory};
use super::presets;
use super::published::{Places, scratch};
use super::results::Reading;
use crate::data::Split;
use crate::device::Precision;
use crate::error::Result;
use crate::limits::Limits;
use crate::train::Options;
use crate::units::Seconds;
use planned::{Key, Planned, key, planned};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::HashMap;

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
