//! Every metric of a cell, described once. A metric that is added is a field of [`Cell`] and a line here.

use super::Cell;
use super::metric::Metric;
use super::metric::Theme::{Accuracy, Activities, Agreement, Energy, Memory, Time};
use crate::reading::Reading;
use crate::units::{Format, Quantity};

/// A metric that is a field of [`Cell`].
macro_rules! of {
    ($($field:ident).+, $key:literal, $title:literal, $format:ident) => {
        Metric::new($key, $title, $format, |cell: &Cell| cell.$($field).+.clone())
    };
}

/// Percent of the texts that lengths leave.
macro_rules! left_out {
    ($key:literal, $title:literal, $part:ident.$percent:ident) => {
        Metric::new($key, $title, POINTS, |cell: &Cell| {
            Reading::or_why(cell.$part.cut.$percent(), "these results do not say what was left out")
        })
        .under(Accuracy)
        .derived()
    };
}

const POINTS: Format = Format::Decimals(2);
const PLAIN: Format = Format::Significant;
const TIME: Format = Format::In(Quantity::Time);
const MEMORY: Format = Format::In(Quantity::Memory);
const ENERGY: Format = Format::In(Quantity::Energy);

/// By the metric that the dataset is judged by.
pub const SCORE: Metric = Metric::new("score", "score", POINTS, |c| c.headline().clone())
    .higher()
    .in_summary()
    .picked("Best", None, "")
    .derived();

pub const TRAIN_TIME: Metric =
    of!(train_seconds, "train_seconds", "training time", TIME).lower().under(Time).in_summary();

pub const TRAIN_ENERGY: Metric = of!(energy_joules, "energy_joules", "training energy", ENERGY)
    .lower()
    .under(Energy)
    .in_summary()
    .picked("Least", Some("energy"), "");

/// Measured where it was, else planned.
pub const PEAK_MEMORY: Metric = Metric::new("peak_bytes", "peak memory", MEMORY, |c| c.peak_bytes().clone())
    .lower()
    .in_summary()
    .picked("Smallest", Some("peak memory"), "")
    .derived();

/// Time of one example.
pub const INFERENCE_TIME: Metric = Metric::new(
    "inference_seconds",
    "inference time per example",
    Format::Each(Quantity::Time),
    Cell::latency,
)
.lower()
.under(Time)
.derived();

/// Energy of one example.
pub const INFERENCE_ENERGY: Metric = Metric::new(
    "inference_joules",
    "inference energy per example",
    Format::Each(Quantity::Energy),
    Cell::inference_joules,
)
.lower()
.under(Energy)
.derived();

/// Grams of CO2 equivalents of training.
pub const EMISSIONS: Metric =
    Metric::new("emissions_grams", "training emissions (g CO\u{2082}e)", PLAIN, Cell::emissions)
        .lower()
        .under(Energy)
        .derived();

pub const SCORE_LOW: Metric = of!(score_low, "score_low", "interval from", POINTS).under(Accuracy);

pub const SCORE_HIGH: Metric = of!(score_high, "score_high", "interval to", POINTS).under(Accuracy);

/// Percent of the scored documents' tokens that the model read.
pub const INPUT_READ: Metric = left_out!("input_read_percent", "input read (%)", eval_left_out.read_percent);

pub const UTILISATION: Metric =
    of!(utilisation_percent, "utilisation_percent", "utilisation (%)", PLAIN).higher().under(Memory);

pub const POWER_EFFICIENCY: Metric =
    of!(samples_per_second_per_watt, "samples_per_second_per_watt", "training samples/s/W", PLAIN)
        .higher()
        .under(Energy);

pub const TRAIN_SPEED: Metric =
    of!(train_samples_per_second, "train_samples_per_second", "training examples/s", PLAIN)
        .higher()
        .under(Time)
        .in_summary()
        .picked("Fastest", Some("training"), "examples/s");

pub const INFERENCE_SPEED: Metric =
    of!(eval_samples_per_second, "eval_samples_per_second", "inference examples/s", PLAIN)
        .higher()
        .under(Time)
        .in_summary()
        .picked("Fastest", Some("inference"), "examples/s");

/// What a choice between models and lengths is weighed by, beside its score.
pub const COSTS: [Metric; 6] =
    [TRAIN_TIME, INFERENCE_TIME, PEAK_MEMORY, TRAIN_ENERGY, INFERENCE_ENERGY, EMISSIONS];

/// Precision, recall and length of the predictions, which scores are made of.
pub fn agreement() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().filter(|metric| metric.theme == Some(Agreement))
}

/// Every metric, in the order of results.csv.
pub static METRICS: &[Metric] = &[
    SCORE,
    of!(rouge1, "rouge1", "ROUGE\u{2011}1", POINTS).higher().under(Accuracy),
    of!(rouge2, "rouge2", "ROUGE\u{2011}2", POINTS).higher().under(Accuracy),
    of!(rouge_l, "rougeL", "ROUGE\u{2011}L", POINTS).higher().under(Accuracy),
    of!(geometric_mean, "geometric_mean", "geometric mean", POINTS).higher().under(Accuracy),
    of!(f1, "f1", "F1", POINTS).higher().under(Accuracy),
    of!(rouge1_precision, "rouge1_precision", "ROUGE\u{2011}1 precision", POINTS).higher().under(Agreement),
    of!(rouge1_recall, "rouge1_recall", "ROUGE\u{2011}1 recall", POINTS).higher().under(Agreement),
    of!(rouge2_precision, "rouge2_precision", "ROUGE\u{2011}2 precision", POINTS).higher().under(Agreement),
    of!(rouge2_recall, "rouge2_recall", "ROUGE\u{2011}2 recall", POINTS).higher().under(Agreement),
    of!(rouge_l_precision, "rougeL_precision", "ROUGE\u{2011}L precision", POINTS).higher().under(Agreement),
    of!(rouge_l_recall, "rougeL_recall", "ROUGE\u{2011}L recall", POINTS).higher().under(Agreement),
    of!(f1_precision, "f1_precision", "F1 precision", POINTS).higher().under(Agreement),
    of!(f1_recall, "f1_recall", "F1 recall", POINTS).higher().under(Agreement),
    of!(output_words, "output_words", "words of an answer", PLAIN).under(Agreement),
    SCORE_LOW,
    SCORE_HIGH,
    INPUT_READ,
    left_out!("train_input_read_percent", "training input read (%)", train_left_out.read_percent),
    left_out!(
        "train_reference_read_percent",
        "training reference read (%)",
        train_left_out.reference_percent
    ),
    of!(train_loss_final, "train_loss_final", "last training loss", PLAIN).lower().under(Accuracy),
    of!(eval_loss, "eval_loss", "evaluation loss", PLAIN).lower().under(Accuracy),
    TRAIN_TIME,
    of!(train_wall_seconds, "train_wall_seconds", "with evaluations", TIME).lower().under(Time),
    TRAIN_SPEED,
    of!(train_tokens_per_second, "train_tokens_per_second", "training tokens/s", PLAIN).higher().under(Time),
    of!(eval_seconds, "eval_seconds", "evaluation time", TIME).lower().under(Time),
    INFERENCE_SPEED,
    INFERENCE_TIME,
    of!(best_step, "best_step", "best step", PLAIN).under(Time),
    of!(processor_share_percent, "processor_share_percent", "processor time got (%)", PLAIN)
        .higher()
        .under(Time),
    PEAK_MEMORY,
    of!(peak_bytes_planned, "peak_bytes_planned", "peak memory, planned", MEMORY).lower().under(Memory),
    of!(peak_bytes_measured, "peak_bytes_measured", "peak memory, measured", MEMORY).lower().under(Memory),
    TRAIN_ENERGY,
    of!(mean_power_watts, "mean_power_watts", "mean power (W)", PLAIN).lower().under(Energy),
    of!(peak_power_watts, "peak_power_watts", "peak power (W)", PLAIN).lower().under(Energy),
    POWER_EFFICIENCY,
    of!(joules_per_sample, "joules_per_sample", "joules per sample", PLAIN).lower().under(Energy),
    of!(joules_per_token, "joules_per_token", "joules per token", PLAIN).lower().under(Energy),
    of!(eval_energy_joules, "eval_energy_joules", "evaluation energy", ENERGY).lower().under(Energy),
    INFERENCE_ENERGY,
    EMISSIONS,
    of!(paper_power_watts, "paper_power_watts", "power as the paper (W)", PLAIN).lower().under(Energy),
    of!(paper_energy_joules, "paper_energy_joules", "energy as the paper", ENERGY).lower().under(Energy),
    UTILISATION,
    of!(device_memory_mean_bytes, "device_memory_mean_bytes", "device memory, mean", MEMORY)
        .lower()
        .under(Memory),
    of!(device_memory_peak_bytes, "device_memory_peak_bytes", "device memory, peak", MEMORY)
        .lower()
        .under(Memory),
    of!(phases_energy_joules, "phases_energy_joules", "energy of the steps", ENERGY).lower(),
    of!(activities.data.seconds, "data_activity_seconds", "data", TIME).lower().under(Activities),
    of!(activities.data.energy_joules, "data_activity_joules", "data", ENERGY).lower().under(Activities),
    of!(activities.training.seconds, "training_activity_seconds", "training", TIME).lower().under(Activities),
    of!(activities.training.energy_joules, "training_activity_joules", "training", ENERGY)
        .lower()
        .under(Activities),
    of!(activities.evaluation.seconds, "evaluation_activity_seconds", "evaluation", TIME)
        .lower()
        .under(Activities),
    of!(activities.evaluation.energy_joules, "evaluation_activity_joules", "evaluation", ENERGY)
        .lower()
        .under(Activities),
    of!(activities.checkpoint.seconds, "checkpoint_activity_seconds", "checkpoint", TIME)
        .lower()
        .under(Activities),
    of!(activities.checkpoint.energy_joules, "checkpoint_activity_joules", "checkpoint", ENERGY)
        .lower()
        .under(Activities),
    of!(activities.rest.seconds, "rest_activity_seconds", "rest", TIME).lower().under(Activities),
    of!(activities.rest.energy_joules, "rest_activity_joules", "rest", ENERGY).lower().under(Activities),
    of!(activities.whole.seconds, "whole_activity_seconds", "whole", TIME).lower().under(Activities),
    of!(activities.whole.energy_joules, "whole_activity_joules", "whole", ENERGY).lower().under(Activities),
];
