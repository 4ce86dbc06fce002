//! Which cells a study has, from a preset or a TOML file.

mod keys;
mod memory;
mod plan;
mod rules;

pub use crate::train::BatchSize;
pub use keys::in_keys;
pub use memory::Memory;
pub use plan::CellPlan;
pub use rules::Rule;

use super::published::Places;
use crate::data::RecordFormat;
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::metrics::Protocol;
use crate::models::RandomBlocks;
use crate::nn::Weights;
use crate::train::{self, Control, GlobalAttention};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A study as a user writes it; every combination of the lists is a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grid {
    pub title: String,
    /// Model directories, repositories in the Hugging Face cache, or names of embedded models.
    pub models: Vec<String>,
    /// Dense models to compare with, each once: at the longest input that it has positions for, or at the longest of
    /// `max_source_lengths` where that is less. A file that leaves them out has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<String>,
    /// Dataset paths, or names of embedded datasets.
    pub datasets: Vec<String>,
    /// Columns of the datasets that are files; left out, those that are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_column: Option<String>,
    /// Records of a split that may be wrong and are passed over.
    #[serde(skip_serializing_if = "crate::data::is_zero")]
    pub skip_bad_records: usize,
    /// L, tokens that inputs are cut to.
    pub max_source_lengths: Vec<usize>,
    /// Number formats; left out, that of the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precisions: Option<Vec<Precision>>,
    /// Left out, that of the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
    /// LED's attention windows, tokens of both sides together; left out, that of each model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_windows: Option<Vec<usize>>,
    /// Examples of a training step, or the most that fit; left out, `per_device_train_batch_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_sizes: Option<Vec<BatchSize>>,
    /// What the largest batch may take; left out, what is free on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The GPU whose costs a dry run foresees, unless it is told another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// How each trained model is scored.
    pub protocols: Vec<Protocol>,
    /// How its weights are kept then: as they are stored, or those of linear layers and of the head in 8 bits.
    pub weights: Vec<Weights>,
    /// BigBird's random blocks outside of training; left out, drawn where `paper` is among the protocols.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_blocks: Option<RandomBlocks>,
    /// 0 for all.
    pub max_train_samples: usize,
    /// 0 for all.
    pub max_eval_samples: usize,
    pub max_new_tokens: usize,
    pub global_attention: GlobalAttention,
    /// Whether each cell's run directory keeps the trained model.
    pub keep_models: bool,
    /// Training settings of every cell; source length, seed and batch come from the grid.
    pub train: train::Options,
    /// Checkpoints and early stopping of every cell.
    pub control: Control,
    /// Settings of some cells only; of two that meet, the later one counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl Grid {
    /// A grid from a TOML file; what it leaves out is as in the quick preset, but for the baselines. The preset's rules
    /// change nothing that the file sets.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, &e))?;
        let failed = |e: toml::de::Error| {
            let line = line_of(&text, e.message(), e.span());
            Error::data(format!("{}:{line}", path.display()), e.message().to_string())
        };
        let mut grid: Grid = toml::from_str(&text).map_err(failed)?;
        let written: toml::Table = text.parse().map_err(failed)?;
        if !written.contains_key("rules") {
            grid.rules.iter_mut().for_each(|rule| rule.give_way(&written));
        }
        Ok(grid)
    }

    fn reading(&self) -> RecordFormat {
        RecordFormat {
            text_column: self.text_column.clone(),
            summary_column: self.summary_column.clone(),
            skip_bad_records: self.skip_bad_records,
        }
    }

    /// All cells, models innermost so that a drift of the machine favours none.
    ///
    /// `precision` and `seed` stand in where the grid lists none. Models and datasets are looked up only where their
    /// kind decides what cells there are.
    pub fn cells(&self, places: &Places, precision: Precision, seed: u64) -> Result<Vec<CellPlan>> {
        let precisions = self.precisions.clone().unwrap_or_else(|| vec![precision]);
        let seeds = self.seeds.clone().unwrap_or_else(|| vec![seed]);
        let fixed = || vec![BatchSize::Of(self.train.per_device_train_batch_size)];
        let batch_sizes = self.batch_sizes.clone().unwrap_or_else(fixed);
        let windows = match &self.attention_windows {
            Some(windows) => windows.iter().copied().map(Some).collect(),
            None => vec![None],
        };
        for (key, entries) in [
            ("models", self.models.len()),
            ("datasets", self.datasets.len()),
            ("max_source_lengths", self.max_source_lengths.len()),
            ("precisions", precisions.len()),
            ("seeds", seeds.len()),
            ("attention_windows", windows.len()),
            ("batch_sizes", batch_sizes.len()),
            ("protocols", self.protocols.len()),
            ("weights", self.weights.len()),
        ] {
            if entries == 0 {
                return Err(Error::usage(format!("the study's `{key}` is empty; list at least one")));
            }
        }
        let longest = self.max_source_lengths.iter().copied().max().unwrap_or(0);
        // One that cannot be found is left to its cell.
        let positions = |model: &String| places.positions(model).unwrap_or(longest).min(longest);
        let baselines: Vec<(&String, usize)> = self
            .baselines
            .iter()
            .map(|model| (model, positions(model)))
            .filter(|(model, length)| {
                !(self.models.contains(model) && self.max_source_lengths.contains(length))
            })
            .collect();
        let mut cells = Vec::new();
        for dataset in &self.datasets {
            for &seed in &seeds {
                for &(model, length) in &baselines {
                    for (&precision, &batch) in product(&precisions, &batch_sizes) {
                        let at = plan::At { model, dataset, length, precision, seed, window: None, batch };
                        cells.push(CellPlan::new(self, at)?);
                    }
                }
                for &length in &self.max_source_lengths {
                    for (&precision, &batch) in product(&precisions, &batch_sizes) {
                        for (&window, model) in product(&windows, &self.models) {
                            let at = plan::At { model, dataset, length, precision, seed, window, batch };
                            cells.extend(self.cell(places, at)?);
                        }
                    }
                }
            }
        }
        plan::name_apart(&mut cells);
        Ok(cells)
    }

    /// The cell of one combination; none of a window for a model that has no window but the grid's first.
    fn cell(&self, places: &Places, at: plan::At) -> Result<Option<CellPlan>> {
        let has_window = at.window.is_none() || places.has_window(at.model)?;
        let first = self.attention_windows.as_ref().and_then(|windows| windows.first().copied());
        if !has_window && at.window != first {
            return Ok(None);
        }
        let window = at.window.filter(|_| has_window);
        CellPlan::new(self, plan::At { window, ..at }).map(Some)
    }

    /// BigBird's blocks outside of training. The drawn plan everywhere is what the 2022 study measured.
    fn blocks(&self) -> RandomBlocks {
        self.random_blocks.unwrap_or(match self.protocols.contains(&Protocol::Paper) {
            true => RandomBlocks::Drawn,
            false => RandomBlocks::EvalZero,
        })
    }
}

fn product<'a, A, B>(outer: &'a [A], inner: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    outer.iter().flat_map(move |a| inner.iter().map(move |b| (a, b)))
}

/// Line of a TOML error: that of the key it quotes, for the span of an unknown key is its whole table.
fn line_of(text: &str, message: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let quoted = message.split('`').nth(1).unwrap_or("\n");
    let by_key = text.lines().position(|line| line.trim_start().starts_with(quoted));
    let by_span = span.map_or(0, |span| text[..span.start].matches('\n').count());
    by_key.unwrap_or(by_span) + 1
}

#[cfg(test)]
mod tests;
