//! One cell of the grid with all of its settings, and its name.

use super::{BatchSize, Grid, Memory, in_keys, rules};
use crate::data::RecordFormat;
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::metrics::Protocol;
use crate::models::RandomBlocks;
use crate::nn::Weights;
use crate::train::{self, Control, GlobalAttention};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// One combination. Two plans that are equal have the same results, but for what time and sensors add.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellPlan {
    /// Name of the run directory; unique in a study.
    pub name: String,
    /// Name of the model in tables: without its folders, with what else sets it apart in this study.
    pub label: String,
    pub model: String,
    pub dataset: String,
    /// How the records of its files are read.
    #[serde(default, skip_serializing_if = "RecordFormat::is_default")]
    pub reading: RecordFormat,
    pub precision: Precision,
    pub attention_window: Option<usize>,
    pub batch_size: BatchSize,
    pub memory: Option<Memory>,
    pub protocols: Vec<Protocol>,
    /// How the trained weights are kept while they are scored.
    #[serde(default = "stored", skip_serializing_if = "is_stored")]
    pub weights: Vec<Weights>,
    pub random_blocks: RandomBlocks,
    pub max_train_samples: usize,
    pub max_eval_samples: usize,
    pub max_new_tokens: usize,
    pub global_attention: GlobalAttention,
    pub keep_model: bool,
    pub train: train::Options,
    pub control: Control,
}

/// Where in the grid a cell is.
pub(super) struct At<'a> {
    pub model: &'a str,
    pub dataset: &'a str,
    pub length: usize,
    pub precision: Precision,
    pub seed: u64,
    pub window: Option<usize>,
    pub batch: BatchSize,
}

impl CellPlan {
    pub(super) fn new(grid: &Grid, at: At) -> Result<Self> {
        let (model, dataset) = (last_part(at.model), dataset_name(at.dataset));
        let (mut train, mut control) = (grid.train.clone(), grid.control.clone());
        let (mut max_train_samples, mut max_eval_samples) = (grid.max_train_samples, grid.max_eval_samples);
        let (mut max_new_tokens, mut global_attention) = (grid.max_new_tokens, &grid.global_attention);
        for rule in grid.rules.iter().filter(|rule| rule.holds(&model, &dataset, at.length)) {
            max_train_samples = rule.max_train_samples.unwrap_or(max_train_samples);
            max_eval_samples = rule.max_eval_samples.unwrap_or(max_eval_samples);
            max_new_tokens = rule.max_new_tokens.unwrap_or(max_new_tokens);
            global_attention = rule.global_attention.as_ref().unwrap_or(global_attention);
            train = rules::changed(&train, &rule.train, "train")?;
            control = rules::changed(&control, &rule.control, "control")?;
        }
        (train.max_source_length, train.seed) = (at.length, at.seed);
        // A rule may say how many examples a step of its cells takes.
        let ruled = train.per_device_train_batch_size != grid.train.per_device_train_batch_size;
        let batch = match at.batch {
            BatchSize::Of(_) if ruled => BatchSize::Of(train.per_device_train_batch_size),
            batch => batch,
        };
        if let BatchSize::Of(size) = batch {
            train.per_device_train_batch_size = size;
        }
        train.check().and_then(|()| control.check(train.eval_steps)).map_err(in_keys)?;
        if train.communication_data_type != train::Options::default().communication_data_type {
            return Err(Error::usage(
                "the study's `train.communication_data_type` changes nothing, for a cell is the work of one process; \
                 leave it out",
            ));
        }
        let mut name = format!("{model}_{dataset}_{}_{}", at.length, at.precision);
        let mut apart = Vec::new();
        if let Some(window) = at.window {
            name += &format!("_window{window}");
            apart.push(format!("window {window}"));
        }
        if grid.batch_sizes.as_ref().is_some_and(|sizes| sizes.len() > 1) {
            name += &format!("_batch-{batch}");
            apart.push(format!("batch {batch}"));
        }
        let label = match apart.is_empty() {
            true => model,
            false => format!("{model} ({})", apart.join(", ")),
        };
        name += &format!("_seed{}", at.seed);
        Ok(CellPlan {
            name: folder_name(&name),
            label,
            model: at.model.into(),
            dataset: at.dataset.into(),
            reading: grid.reading(),
            precision: at.precision,
            attention_window: at.window,
            batch_size: batch,
            memory: grid.memory.filter(|_| batch == BatchSize::Largest),
            protocols: grid.protocols.clone(),
            weights: grid.weights.clone(),
            random_blocks: grid.blocks(),
            max_train_samples,
            max_eval_samples,
            max_new_tokens,
            global_attention: global_attention.clone(),
            keep_model: grid.keep_models,
            train,
            control,
        })
    }

    /// How weights are kept while they are scored, besides as they are stored.
    pub fn more_weights(&self) -> Vec<Weights> {
        self.weights.iter().copied().filter(|&weights| weights != Weights::Stored).collect()
    }

    /// The model and the dataset that it needs.
    pub fn needs(&self) -> (&str, &str) {
        (&self.model, &self.dataset)
    }

    /// The dataset's name without folders and `.zip`.
    pub fn dataset_name(&self) -> String {
        dataset_name(&self.dataset)
    }
}

/// What a plan has that says nothing of it.
fn stored() -> Vec<Weights> {
    vec![Weights::Stored]
}

fn is_stored(weights: &[Weights]) -> bool {
    weights == [Weights::Stored]
}

/// Adds a hash to the names of cells that would share a folder.
pub(super) fn name_apart(cells: &mut [CellPlan]) {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for cell in cells.iter() {
        *uses.entry(cell.name.to_lowercase()).or_default() += 1;
    }
    for cell in cells.iter_mut().filter(|cell| uses[&cell.name.to_lowercase()] > 1) {
        let whole = format!("{}\n{}\n{}", cell.model, cell.dataset, cell.name);
        cell.name += &format!("_{}", &blake3::hash(whole.as_bytes()).to_hex()[..8]);
    }
}

/// A name that any file system takes.
fn folder_name(name: &str) -> String {
    const LONGEST: usize = 120;
    let keep = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let safe: String = name.chars().map(keep).collect();
    match safe == name && safe.len() <= LONGEST {
        true => safe,
        // What was lost must not make two names one.
        false => {
            let hash = blake3::hash(name.as_bytes()).to_hex();
            format!("{}_{}", &safe[..safe.len().min(LONGEST)], &hash[..8])
        }
    }
}

fn dataset_name(dataset: &str) -> String {
    let name = last_part(dataset);
    name.strip_suffix(".zip").map_or(name.clone(), String::from)
}

fn last_part(path: &str) -> String {
    let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| path.to_string())
}
