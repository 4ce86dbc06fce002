//! Which cells a study has, from a preset or a TOML file.

use super::embedded;
use crate::data;
use crate::error::{Error, Result};
use crate::metrics::Protocol;
use crate::train::{self, GlobalAttention};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A study as a user writes it; every combination of the lists is a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grid {
    pub title: String,
    /// Model directories, or names of embedded models.
    pub models: Vec<String>,
    /// Dataset paths, or names of embedded datasets.
    pub datasets: Vec<String>,
    pub max_source_lengths: Vec<usize>,
    pub seeds: Vec<u64>,
    pub protocol: Protocol,
    /// 0 for all.
    pub max_train_samples: usize,
    /// 0 for all.
    pub max_eval_samples: usize,
    pub max_new_tokens: usize,
    pub global_attention: GlobalAttention,
    /// Training settings of every cell; source length and seed come from the grid.
    pub train: train::Options,
}

/// One combination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellPlan {
    pub model: String,
    pub dataset: String,
    pub protocol: Protocol,
    pub max_train_samples: usize,
    pub max_eval_samples: usize,
    pub max_new_tokens: usize,
    pub global_attention: GlobalAttention,
    pub train: train::Options,
}

impl Default for Grid {
    /// The quick preset: minutes on two cores, on what the binary brings along.
    fn default() -> Self {
        Grid {
            title: "Quick study: tiny models on real meetings".into(),
            models: embedded::ALL.iter().map(|model| model.name.to_string()).collect(),
            datasets: vec![data::embedded::NAME.into()],
            max_source_lengths: vec![1024, 2048, 4096],
            seeds: vec![42],
            protocol: Protocol::Scrolls,
            max_train_samples: 0,
            max_eval_samples: 0,
            max_new_tokens: 96,
            global_attention: GlobalAttention::First,
            train: train::Options {
                learning_rate: 5e-4,
                warmup_ratio: 0.1,
                num_train_epochs: 1.0,
                per_device_train_batch_size: 4,
                per_device_eval_batch_size: 8,
                max_target_length: 128,
                adam_beta2: 0.98,
                weight_decay: 0.001,
                ..train::Options::default()
            },
        }
    }
}

impl Grid {
    /// A preset by name.
    pub fn preset(name: &str) -> Result<Self> {
        match name {
            "quick" => Ok(Grid::default()),
            other => Err(Error::usage(format!(
                "preset '{other}' is not in this build; there is quick, and --config FILE for a grid of your own"
            ))),
        }
    }

    /// A grid from a TOML file; what it leaves out is as in the quick preset.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, &e))?;
        let grid: Grid = toml::from_str(&text).map_err(|e| {
            let line = line_of(&text, e.message(), e.span());
            Error::data(format!("{}:{line}", path.display()), e.message().to_string())
        })?;
        Ok(grid)
    }

    /// All cells, models innermost so that a drift of the machine favours none.
    pub fn cells(&self) -> Result<Vec<CellPlan>> {
        for (key, empty) in [
            ("models", self.models.is_empty()),
            ("datasets", self.datasets.is_empty()),
            ("max_source_lengths", self.max_source_lengths.is_empty()),
            ("seeds", self.seeds.is_empty()),
        ] {
            if empty {
                return Err(Error::usage(format!("the study's `{key}` is empty; list at least one")));
            }
        }
        let mut cells = Vec::new();
        for dataset in &self.datasets {
            for &seed in &self.seeds {
                for &max_source_length in &self.max_source_lengths {
                    for model in &self.models {
                        let train = train::Options { max_source_length, seed, ..self.train.clone() };
                        train.check()?;
                        cells.push(CellPlan {
                            model: model.clone(),
                            dataset: dataset.clone(),
                            protocol: self.protocol,
                            max_train_samples: self.max_train_samples,
                            max_eval_samples: self.max_eval_samples,
                            max_new_tokens: self.max_new_tokens,
                            global_attention: self.global_attention,
                            train,
                        });
                    }
                }
            }
        }
        Ok(cells)
    }
}

impl CellPlan {
    /// The model's name without its folders.
    pub fn model_name(&self) -> String {
        last_part(&self.model)
    }

    /// A folder name for the cell's run directory.
    pub fn slug(&self) -> String {
        let dataset = last_part(&self.dataset);
        let parts = [
            last_part(&self.model),
            dataset,
            self.train.max_source_length.to_string(),
            format!("seed{}", self.train.seed),
        ];
        let keep = |c: char| {
            if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }
        };
        parts.join("_").chars().map(keep).collect()
    }
}

/// Line of a TOML error: that of the key it quotes, for the span of an unknown key is its whole table.
fn line_of(text: &str, message: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let quoted = message.split('`').nth(1).unwrap_or("\n");
    let by_key = text.lines().position(|line| line.trim_start().starts_with(quoted));
    let by_span = span.map_or(0, |span| text[..span.start].matches('\n').count());
    by_key.unwrap_or(by_span) + 1
}

fn last_part(path: &str) -> String {
    let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| path.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_the_product_and_models_alternate() {
        let cells = Grid::default().cells().unwrap();
        let models = Grid::default().models.len();
        assert_eq!(cells.len(), 3 * models);
        assert_ne!(cells[0].model, cells[1].model);
        assert_eq!(cells[0].train.max_source_length, cells[1].train.max_source_length);
        let slugs: std::collections::HashSet<String> = cells.iter().map(CellPlan::slug).collect();
        assert_eq!(slugs.len(), 3 * models);
    }

    #[test]
    fn unknown_keys_and_empty_lists_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("study.toml");
        std::fs::write(&path, "title = 'x'\nmodles = ['a']\n").unwrap();
        let error = Grid::read(&path).unwrap_err();
        assert_eq!(error.exit_code(), 65);
        assert!(error.to_string().contains("study.toml:2"), "{error}");
        std::fs::write(&path, "seeds = []\n").unwrap();
        assert_eq!(Grid::read(&path).unwrap().cells().unwrap_err().exit_code(), 2);
    }
}
