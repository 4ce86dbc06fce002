//! What a study found: one [`Cell`] per trained combination and way to score it, kept in `results.json` and, to be read
//! elsewhere, in `results.csv`, `results.md` and `results.tex`.

mod activities;
mod columns;
mod emissions;
mod metric;
mod naming;
mod tables;

pub use activities::{Activities, Taken};
pub use columns::*;
pub use emissions::emissions;
pub use metric::{Better, Metric, Theme};
pub use naming::Varying;
pub use tables::{csv, disturbed, latex, markdown, text};

use crate::disturbance::Conditions;
use crate::error::{Error, Result};
use crate::files;
use crate::metrics::bootstrap::Interval;
use crate::metrics::{Headline, Scores};
use crate::models;
use crate::nn::Weights;
use crate::reading::Reading;
use crate::run::SplitLeftOut;
use crate::units::Joules;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One combination of the study and everything read from it. Scores are 0 to 100.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cell {
    /// The cell's run directory under `cells/`.
    #[serde(default)]
    pub run: String,
    pub model: String,
    /// The model's family: `model_type` of its config.json.
    #[serde(default)]
    pub family: String,
    pub dataset: String,
    /// L, tokens every input is padded or cut to.
    pub max_source_length: u64,
    pub precision: String,
    pub seed: u64,
    /// How accuracy was taken: `paper` (teacher-forced) or `scrolls` (generated).
    pub protocol: String,
    /// How the trained weights were kept while they were scored.
    #[serde(default)]
    pub weights: Weights,
    pub device: String,
    /// The name of the processor, in results that say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub processor: String,
    pub batch_size: u64,
    /// Steps done, fewer than planned after early stopping.
    pub steps: u64,
    #[serde(default)]
    pub planned_steps: u64,
    pub train_examples: u64,
    /// Examples trained on, counted as often as they were.
    #[serde(default)]
    pub train_samples: u64,
    /// Source and target tokens trained on, padding not counted.
    #[serde(default)]
    pub train_tokens: u64,
    pub eval_examples: u64,
    /// Which tokens had global attention.
    #[serde(default)]
    pub global_attention: String,
    /// What of the training split was not read.
    #[serde(default)]
    pub train_left_out: SplitLeftOut,
    /// What of the validation split was not read, under this protocol.
    #[serde(default)]
    pub eval_left_out: SplitLeftOut,
    pub parameters: u64,
    pub headline_metric: Headline,
    pub rouge1: Reading,
    pub rouge2: Reading,
    #[serde(rename = "rougeL")]
    pub rouge_l: Reading,
    pub geometric_mean: Reading,
    pub f1: Reading,
    #[serde(default)]
    pub rouge1_precision: Reading,
    #[serde(default)]
    pub rouge1_recall: Reading,
    #[serde(default)]
    pub rouge2_precision: Reading,
    #[serde(default)]
    pub rouge2_recall: Reading,
    #[serde(default, rename = "rougeL_precision")]
    pub rouge_l_precision: Reading,
    #[serde(default, rename = "rougeL_recall")]
    pub rouge_l_recall: Reading,
    #[serde(default)]
    pub f1_precision: Reading,
    #[serde(default)]
    pub f1_recall: Reading,
    /// Mean words of a prediction.
    #[serde(default)]
    pub output_words: Reading,
    /// Ends of the headline's 95 % interval, by drawing the examples again.
    #[serde(default)]
    pub score_low: Reading,
    #[serde(default)]
    pub score_high: Reading,
    pub train_loss_final: Reading,
    pub eval_loss: Reading,
    pub train_seconds: Reading,
    /// With evaluations and checkpoints, as HF's `train_runtime` and Ang et al. 2022.
    #[serde(default)]
    pub train_wall_seconds: Reading,
    pub train_samples_per_second: Reading,
    pub train_tokens_per_second: Reading,
    pub eval_seconds: Reading,
    pub eval_samples_per_second: Reading,
    /// The step of the best evaluation, where evaluations decide.
    #[serde(default)]
    pub best_step: Reading,
    /// Bytes the memory plan of the training step foresees.
    pub peak_bytes_planned: Reading,
    /// Bytes in use at the highest point of training.
    pub peak_bytes_measured: Reading,
    /// Energy of training with its data, evaluations and checkpoints.
    pub energy_joules: Reading,
    pub mean_power_watts: Reading,
    #[serde(default)]
    pub peak_power_watts: Reading,
    /// Training samples/s/W, which is samples per joule.
    #[serde(default)]
    pub samples_per_second_per_watt: Reading,
    #[serde(default)]
    pub joules_per_sample: Reading,
    /// Joules per token of the sources.
    #[serde(default)]
    pub joules_per_token: Reading,
    #[serde(default)]
    pub eval_energy_joules: Reading,
    /// As Ang et al. 2022 took them: the mean of samples every 2 s, and that times the time.
    #[serde(default)]
    pub paper_power_watts: Reading,
    #[serde(default)]
    pub paper_energy_joules: Reading,
    /// Percent of the time in which any kernel ran.
    #[serde(default)]
    pub utilisation_percent: Reading,
    /// In use on the device while training, whoever uses them.
    #[serde(default)]
    pub device_memory_mean_bytes: Reading,
    #[serde(default)]
    pub device_memory_peak_bytes: Reading,
    /// Where the time of the steps went, the most first; empty where that was not measured.
    #[serde(default)]
    pub phases: Vec<PhaseTime>,
    /// Energy of the steps that `phases` divide, with what lies between phases.
    #[serde(default)]
    pub phases_energy_joules: Reading,
    /// Activities of the cell's run, with all of its protocols.
    #[serde(default)]
    pub activities: Activities,
    /// Grams of CO2 equivalents a kilowatt-hour, where whoever ran the study knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carbon_intensity: Option<f64>,
    /// What the energy covers (which sensor, which parts), or why there is none.
    pub energy_note: String,
    /// Percent of the processor time that training and scoring wanted, which they got.
    #[serde(default)]
    pub processor_share_percent: Reading,
    /// In what conditions training and scoring were measured.
    #[serde(default)]
    pub conditions: Conditions,
    /// Why times and energy are not to be relied on; empty where nothing speaks against them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub disturbed: String,
}

/// Time and energy of one phase of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// As in the trace, for example `encoder.attention`.
    pub phase: String,
    /// `forward` or `backward`.
    pub pass: String,
    pub seconds: Reading,
    /// Absent, with its bound, where it cannot be told from that of other phases.
    #[serde(default)]
    pub energy_joules: Reading,
}

impl Cell {
    /// The score of the metric this dataset is judged by.
    pub fn headline(&self) -> &Reading {
        match self.headline_metric {
            Headline::Rouge1 => &self.rouge1,
            Headline::Rouge2 => &self.rouge2,
            Headline::RougeL => &self.rouge_l,
            Headline::GeometricMean => &self.geometric_mean,
            Headline::F1 => &self.f1,
        }
    }

    /// Peak memory in bytes: measured where it was, else planned.
    pub fn peak_bytes(&self) -> &Reading {
        match self.peak_bytes_measured.value() {
            Some(_) => &self.peak_bytes_measured,
            None => &self.peak_bytes_planned,
        }
    }

    /// What its times and its energy are of: a GPU by its name, whichever of several it was, or the processor.
    pub fn machine(&self) -> String {
        let gpu =
            self.device.strip_prefix("cuda:").and_then(|rest| rest.split_once(" (")?.1.strip_suffix(')'));
        match gpu {
            Some(name) => name.into(),
            None if self.device == "cpu" && !self.processor.is_empty() => format!("cpu ({})", self.processor),
            None => self.device.clone(),
        }
    }

    /// The headline's 95 % interval over examples, where it is known.
    pub fn interval(&self) -> Option<Interval> {
        Some(Interval { low: self.score_low.value()?, high: self.score_high.value()? })
    }

    /// Joules of inference per example.
    pub fn inference_joules(&self) -> Reading {
        self.eval_energy_joules.with(&Reading::measured(self.eval_examples as f64), |joules, n| joules / n)
    }

    /// Grams of CO2 equivalents of training, at the intensity that was given.
    pub fn emissions(&self) -> Reading {
        let intensity = Reading::or_why(self.carbon_intensity, "no carbon intensity was given");
        self.energy_joules.with(&intensity, |joules, intensity| Joules(joules).kwh() * intensity)
    }

    /// Takes in what `scores` say, of which `words` were predicted on average.
    pub fn take_scores(&mut self, scores: &Scores, words: f64) {
        let of = Reading::measured;
        self.rouge1 = of(scores.rouge1);
        self.rouge2 = of(scores.rouge2);
        self.rouge_l = of(scores.rouge_l);
        self.geometric_mean = of(scores.geometric_mean);
        self.f1 = of(scores.f1);
        self.rouge1_precision = of(scores.rouge1_precision);
        self.rouge1_recall = of(scores.rouge1_recall);
        self.rouge2_precision = of(scores.rouge2_precision);
        self.rouge2_recall = of(scores.rouge2_recall);
        self.rouge_l_precision = of(scores.rouge_l_precision);
        self.rouge_l_recall = of(scores.rouge_l_recall);
        self.f1_precision = of(scores.f1_precision);
        self.f1_recall = of(scores.f1_recall);
        self.output_words = of(words);
    }

    /// Says in which conditions a part of the cell was measured; the least favourable ones count.
    pub fn take_conditions(&mut self, conditions: &Conditions) {
        let why = "the system does not count what threads wait for";
        let share = conditions.processor_share.map(|share| 100.0 * share);
        let before = self.processor_share_percent.value();
        self.processor_share_percent = Reading::or_why(before.into_iter().chain(share).reduce(f64::min), why);
        self.conditions = std::mem::take(&mut self.conditions).and(conditions);
        self.disturbed = self.conditions.disturbed.clone().unwrap_or_default();
    }

    /// Whether every token of the model's input sees every other.
    pub fn is_dense(&self) -> bool {
        models::ALL.iter().any(|family| family.model_type == self.family && family.is_dense())
    }

    /// Seconds of inference per example.
    pub fn latency(&self) -> Reading {
        match &self.eval_samples_per_second {
            Reading::Measured(rate) => Reading::measured(1.0 / rate),
            Reading::Predicted(rate) => Reading::predicted(1.0 / rate),
            absent => absent.clone(),
        }
    }
}

/// A whole study.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Results {
    pub title: String,
    /// What it ran on and with, in reading order: device, driver, versions, command, date.
    #[serde(with = "pairs")]
    pub environment: Vec<(String, String)>,
    pub cells: Vec<Cell>,
    /// Cells that could not be run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failure>,
    /// Names of cells that have still to be run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// A cell that could not be run, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub cell: String,
    pub error: String,
    pub exit_code: i32,
}

impl Results {
    /// Reads `results.json`. Fails with 66 when it is absent and 65 when it is not a study's results.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, &e))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::data(path.display(), format!("{e}; delete the file to start the study anew")))
    }

    /// Grams of CO2 equivalents a kilowatt-hour, where they were given.
    pub fn carbon_intensity(&self) -> Option<f64> {
        self.cells.iter().find_map(|cell| cell.carbon_intensity)
    }

    /// Values all energy at `intensity`, where it is given.
    pub fn set_carbon_intensity(&mut self, intensity: Option<f64>) {
        if intensity.is_some() {
            self.cells.iter_mut().for_each(|cell| cell.carbon_intensity = intensity);
        }
    }

    /// Writes `results.json`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(|e| Error::output(path, e))?;
        text.push('\n');
        files::write_text(path, &text)
    }

    /// Writes every form of the results but the report: results.json, .csv, .md and .tex.
    pub fn write_all(&self, dir: &Path) -> Result<()> {
        self.write(&dir.join("results.json"))?;
        files::write_text(&dir.join("results.csv"), &csv(&self.cells))?;
        files::write_text(&dir.join("results.md"), &markdown(self))?;
        files::write_text(&dir.join("results.tex"), &latex(self))
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
