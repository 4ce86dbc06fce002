//! What a study found: one [`Cell`] per trained and evaluated combination, kept in `results.json`
//! and `results.csv`.

mod csv;
mod naming;
mod reading;
mod table;

pub use csv::csv;
pub use naming::Varying;
pub use reading::{Mark, Reading};
pub use table::table;

use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The metric a dataset is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    #[serde(rename = "rouge1")]
    Rouge1,
    #[serde(rename = "rouge2")]
    Rouge2,
    #[serde(rename = "rougeL")]
    RougeL,
    #[serde(rename = "geometric_mean")]
    GeometricMean,
    #[serde(rename = "f1")]
    F1,
}

impl Metric {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Rouge1 => "rouge1",
            Metric::Rouge2 => "rouge2",
            Metric::RougeL => "rougeL",
            Metric::GeometricMean => "geometric_mean",
            Metric::F1 => "f1",
        }
    }

    /// The name in prose.
    pub fn label(self) -> &'static str {
        match self {
            Metric::Rouge1 => "ROUGE-1",
            Metric::Rouge2 => "ROUGE-2",
            Metric::RougeL => "ROUGE-L",
            Metric::GeometricMean => "ROUGE geometric mean",
            Metric::F1 => "F1",
        }
    }
}

/// A column name and the reading under it.
pub type Field = (&'static str, fn(&Cell) -> &Reading);

/// One combination of the study and everything read from it. Scores are 0 to 100.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub model: String,
    pub dataset: String,
    /// L, tokens every input is padded or cut to.
    pub max_source_length: u64,
    pub precision: String,
    pub seed: u64,
    /// How accuracy was taken: `paper` (teacher-forced) or `scrolls` (generated).
    pub protocol: String,
    pub device: String,
    pub batch_size: u64,
    pub steps: u64,
    pub train_examples: u64,
    pub eval_examples: u64,
    pub parameters: u64,
    pub headline_metric: Metric,
    pub rouge1: Reading,
    pub rouge2: Reading,
    #[serde(rename = "rougeL")]
    pub rouge_l: Reading,
    pub geometric_mean: Reading,
    pub f1: Reading,
    pub train_loss_final: Reading,
    pub eval_loss: Reading,
    pub train_seconds: Reading,
    pub train_samples_per_second: Reading,
    pub train_tokens_per_second: Reading,
    pub eval_seconds: Reading,
    pub eval_samples_per_second: Reading,
    /// Bytes the memory plan of the training step foresees.
    pub peak_bytes_planned: Reading,
    /// Bytes in use at the highest point of training.
    pub peak_bytes_measured: Reading,
    pub energy_joules: Reading,
    pub mean_power_watts: Reading,
    /// What the energy covers (which sensor, which parts), or why there is none.
    pub energy_note: String,
}

impl Cell {
    /// The score of the metric this dataset is judged by.
    pub fn headline(&self) -> &Reading {
        match self.headline_metric {
            Metric::Rouge1 => &self.rouge1,
            Metric::Rouge2 => &self.rouge2,
            Metric::RougeL => &self.rouge_l,
            Metric::GeometricMean => &self.geometric_mean,
            Metric::F1 => &self.f1,
        }
    }

    /// Peak memory in bytes: measured where it was, else planned.
    pub fn peak_bytes(&self) -> &Reading {
        match self.peak_bytes_measured.value() {
            Some(_) => &self.peak_bytes_measured,
            None => &self.peak_bytes_planned,
        }
    }

    /// Every reading's column name and field, in file order.
    pub const READINGS: [Field; 16] = [
        ("rouge1", |c| &c.rouge1),
        ("rouge2", |c| &c.rouge2),
        ("rougeL", |c| &c.rouge_l),
        ("geometric_mean", |c| &c.geometric_mean),
        ("f1", |c| &c.f1),
        ("train_loss_final", |c| &c.train_loss_final),
        ("eval_loss", |c| &c.eval_loss),
        ("train_seconds", |c| &c.train_seconds),
        ("train_samples_per_second", |c| &c.train_samples_per_second),
        ("train_tokens_per_second", |c| &c.train_tokens_per_second),
        ("eval_seconds", |c| &c.eval_seconds),
        ("eval_samples_per_second", |c| &c.eval_samples_per_second),
        ("peak_bytes_planned", |c| &c.peak_bytes_planned),
        ("peak_bytes_measured", |c| &c.peak_bytes_measured),
        ("energy_joules", |c| &c.energy_joules),
        ("mean_power_watts", |c| &c.mean_power_watts),
    ];
}

/// A whole study.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Results {
    pub title: String,
    /// What it ran on and with, in reading order: device, driver, versions, command, date.
    #[serde(with = "pairs")]
    pub environment: Vec<(String, String)>,
    pub cells: Vec<Cell>,
}

impl Results {
    /// Reads `results.json`. Fails with 66 when it is absent and 65 when it is not a study's results.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, &e))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::data(path.display(), format!("{e}; delete the file to start the study anew")))
    }

    /// Writes `results.json`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(|e| Error::output(path, e))?;
        text.push('\n');
        files::write_text(path, &text)
    }

    /// Writes `results.csv`, one row per cell.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        files::write_text(path, &csv(&self.cells))
    }
}

/// Pairs as one JSON object, in their order.
mod pairs {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use serde_json::{Map, Value};

    pub fn serialize<S: Serializer>(pairs: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(pairs.iter().map(|(key, value)| (key, value)))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
        Map::deserialize(from)?
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(value) => Ok((key, value)),
                other => Err(D::Error::custom(format!("environment.{key} is {other}, not a string"))),
            })
            .collect()
    }
}

#[cfg(test)]
pub(super) mod tests;
