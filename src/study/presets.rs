//! The studies that come with the program.

use super::grid::{BatchSize, Grid, Memory, Rule};
use crate::data;
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::hub::embedded;
use crate::metrics::Protocol;
use crate::nn::Weights;
use crate::train::{self, Control, GlobalAttention, Optimizer};
use crate::units::Bytes;
use serde_json::{Map, Value, json};

/// Names, and what each is, for help texts.
pub const NAMES: [&str; 4] = ["quick", "paper", "scrolls", "precision"];

/// The datasets of both published studies.
pub const DATASETS: [&str; 4] = ["gov_report", "summ_screen_fd", "qmsum", "qasper"];

/// The models of Ang et al. 2022.
pub const MODELS: [&str; 3] =
    ["allenai/led-base-16384", "allenai/led-large-16384", "google/bigbird-pegasus-large-pubmed"];

/// The dense model that long inputs are compared with, of those that come with the program.
const BASELINE: &str = "tiny-bart";

/// How large a dataset of SCROLLS is (Shaham et al. 2022, table 1), which decides how many steps an epoch has.
pub struct Size {
    pub dataset: &'static str,
    /// Lines of the training split.
    pub training: usize,
    /// Lines of the validation split, and the different inputs among them.
    pub validation: [usize; 2],
}

const SIZES: [Size; 4] = [
    Size { dataset: "gov_report", training: 17_457, validation: [972, 972] },
    Size { dataset: "summ_screen_fd", training: 3_673, validation: [338, 338] },
    Size { dataset: "qmsum", training: 1_257, validation: [272, 272] },
    Size { dataset: "qasper", training: 2_567, validation: [1_726, 984] },
];

/// A preset by name.
pub fn named(name: &str) -> Result<Grid> {
    match name {
        "quick" => Ok(quick()),
        "paper" => Ok(paper()),
        "scrolls" => Ok(scrolls()),
        "precision" => Ok(precision()),
        other => Err(Error::usage(format!(
            "there is no preset '{other}'; there are {}, and --config FILE for a grid of your own",
            NAMES.join(", ")
        ))),
    }
}

/// The size of a published dataset, where it is one.
pub fn published_size(dataset: &str) -> Option<&'static Size> {
    SIZES.iter().find(|size| size.dataset == dataset)
}

/// The batch that a model and length had in Ang et al. 2022, where it is known: their examples of LED-base.
pub fn paper_batch(model: &str, length: usize) -> Option<usize> {
    (model == "led-base-16384" && length == 1024).then_some(24)
}

/// Minutes on two cores, on what the program brings along.
///
/// The models find a fact before they are fine-tuned, so a few examples do; of meetings they know nothing yet.
pub fn quick() -> Grid {
    let needle = Rule {
        dataset: Some("needle-qa".into()),
        max_train_samples: Some(16),
        max_eval_samples: Some(48),
        max_new_tokens: Some(8),
        train: fields(json!({ "learning_rate": 1e-4, "max_target_length": 16 })),
        ..Rule::default()
    };
    Grid { rules: vec![needle], baselines: vec![BASELINE.into()], ..meetings() }
}

/// The quick study's models in fp32 and in bf16, at the one length that all of them read.
fn precision() -> Grid {
    Grid {
        title: "Number formats: tiny models in fp32 and in bf16".into(),
        datasets: vec!["needle-qa".into()],
        max_source_lengths: vec![1024],
        precisions: Some(vec![Precision::Fp32, Precision::Bf16]),
        ..quick()
    }
}

impl Default for Grid {
    /// The quick preset without its baseline: what a file leaves out is as there.
    fn default() -> Self {
        Grid { baselines: Vec::new(), ..quick() }
    }
}

/// The embedded models of long inputs on every length, and the settings that are right for meetings.
fn meetings() -> Grid {
    Grid {
        title: "Quick study: tiny models on facts to find and on real meetings".into(),
        models: embedded::ALL
            .iter()
            .map(|model| model.name)
            .filter(|name| *name != BASELINE)
            .map(String::from)
            .collect(),
        baselines: Vec::new(),
        datasets: vec!["needle-qa".into(), data::embedded::NAME.into()],
        text_column: None,
        summary_column: None,
        skip_bad_records: 0,
        max_source_lengths: vec![1024, 2048, 4096],
        precisions: None,
        seeds: None,
        attention_windows: None,
        batch_sizes: None,
        memory: None,
        gpu: None,
        protocols: vec![Protocol::Scrolls],
        weights: vec![Weights::Stored],
        random_blocks: None,
        max_train_samples: 0,
        max_eval_samples: 0,
        max_new_tokens: 96,
        global_attention: GlobalAttention::Auto,
        keep_models: false,
        train: train::Options {
            learning_rate: 1e-3,
            warmup_ratio: 0.1,
            num_train_epochs: 1.0,
            per_device_train_batch_size: 2,
            per_device_eval_batch_size: 8,
            max_target_length: 128,
            adam_beta2: 0.98,
            weight_decay: 0.001,
            ..train::Options::default()
        },
        control: Control { save_total_limit: 1, ..Control::default() },
        rules: Vec::new(),
    }
}

/// What both published studies trained with: transformers of 2021.
fn published() -> train::Options {
    train::Options {
        optim: Optimizer::AdamwHf,
        adam_beta2: 0.98,
        adam_epsilon: 1e-6,
        weight_decay: 0.001,
        warmup_ratio: 0.1,
        ..train::Options::default()
    }
}

/// Ang et al. 2022 (arXiv 2204.07288): their models, data, lengths and settings; batches by their rule, the largest
/// that a card of 48 GB holds.
///
/// They evaluated every 500 steps, and every 10 on answers, where four batches are added up.
fn paper() -> Grid {
    Grid {
        title: "Ang et al. 2022: accuracy against efficiency of long-context models".into(),
        models: MODELS.map(String::from).into(),
        datasets: DATASETS.map(String::from).into(),
        max_source_lengths: vec![1024, 2048, 3072, 4096],
        // Their fp32 multiplied in TF32, as torch 1.10 did.
        precisions: Some(vec![Precision::Tf32]),
        batch_sizes: Some(vec![BatchSize::Largest]),
        memory: Some(Memory(Bytes(48 << 30))),
        gpu: Some("a6000".into()),
        protocols: vec![Protocol::Paper],
        global_attention: GlobalAttention::First,
        train: train::Options {
            learning_rate: 2e-5,
            num_train_epochs: 50.0,
            per_device_eval_batch_size: 16,
            eval_steps: 500,
            max_target_length: 128,
            ..published()
        },
        control: Control {
            save_steps: 500,
            save_total_limit: 2,
            load_best_model_at_end: true,
            metric_for_best_model: "geometric_mean".into(),
            early_stopping_patience: 3,
            ..Control::default()
        },
        rules: vec![Rule {
            dataset: Some("qasper".into()),
            train: fields(json!({ "eval_steps": 10, "gradient_accumulation_steps": 4 })),
            control: fields(json!({ "save_steps": 10, "metric_for_best_model": "f1" })),
            ..Rule::default()
        }],
        max_new_tokens: 128,
        ..meetings()
    }
}

/// LED-base of SCROLLS (Shaham et al. 2022, arXiv 2201.03533): generated answers, the official recipe on one GPU.
///
/// Eight GPUs had 16,384 tokens each in a step; here the same tokens are added up over eight batches. An evaluation
/// ends every epoch, and the least loss decides.
fn scrolls() -> Grid {
    // Epochs, and learning rates by length.
    const RECIPE: [(&str, f64, [f64; 3]); 4] = [
        ("gov_report", 10.0, [1e-4, 1e-4, 5e-5]),
        ("summ_screen_fd", 10.0, [5e-5, 2e-5, 1e-5]),
        ("qmsum", 20.0, [5e-5, 1e-5, 1e-5]),
        ("qasper", 20.0, [2e-5, 5e-5, 2e-5]),
    ];
    const LENGTHS: [usize; 3] = [1024, 4096, 16384];
    const GPUS: usize = 8;
    let mut rules = Vec::new();
    for (dataset, epochs, rates) in RECIPE {
        for (length, rate) in LENGTHS.into_iter().zip(rates) {
            let batch = 16_384 / length;
            let lines = published_size(dataset).map_or(1, |size| size.training);
            let steps = lines.div_ceil(batch).div_ceil(GPUS);
            rules.push(Rule {
                dataset: Some(dataset.into()),
                max_source_length: Some(length),
                train: fields(json!({
                    "learning_rate": rate, "num_train_epochs": epochs, "eval_steps": steps,
                    "per_device_train_batch_size": batch, "gradient_accumulation_steps": GPUS,
                })),
                control: fields(json!({ "save_steps": steps })),
                ..Rule::default()
            });
        }
    }
    Grid {
        title: "SCROLLS: LED-base on four datasets, generated answers".into(),
        models: vec![MODELS[0].into()],
        datasets: DATASETS.map(String::from).into(),
        max_source_lengths: LENGTHS.into(),
        // Theirs was fp16, for which these GPUs have bf16.
        precisions: Some(vec![Precision::Bf16]),
        gpu: Some("a100".into()),
        protocols: vec![Protocol::Scrolls],
        max_new_tokens: 1024,
        global_attention: GlobalAttention::First,
        train: train::Options { max_target_length: 1024, per_device_eval_batch_size: 2, ..published() },
        control: Control {
            save_total_limit: 2,
            load_best_model_at_end: true,
            group_by_length: true,
            ..Control::default()
        },
        rules,
        ..meetings()
    }
}

/// The fields of an object.
fn fields(of: Value) -> Map<String, Value> {
    match of {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::grid::CellPlan;
    use crate::study::published::Places;

    fn cells(name: &str) -> Vec<CellPlan> {
        named(name).unwrap().cells(&Places::default(), Precision::Fp32, 42).unwrap()
    }

    #[test]
    fn every_preset_has_cells_that_may_run() {
        assert_eq!((cells("paper").len(), cells("scrolls").len()), (48, 12));
        // The program brings along all that these two need.
        for name in ["quick", "precision"] {
            Places::default().check(cells(name).iter().map(CellPlan::needs)).unwrap();
        }
        // Three models at three lengths and the baseline, on two datasets; four models at one length in two formats.
        assert_eq!((cells("quick").len(), cells("precision").len()), (20, 8));
        assert_eq!(named("fast").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_quick_studys_baseline_is_read_whole_and_no_file_has_it_unasked() {
        let of_baseline: Vec<CellPlan> =
            cells("quick").into_iter().filter(|cell| cell.model == BASELINE).collect();
        let lengths: Vec<_> =
            of_baseline.iter().map(|cell| (&*cell.dataset, cell.train.max_source_length)).collect();
        assert_eq!(lengths, [("needle-qa", 1024), ("qmsum-slice", 1024)]);
        assert!(Grid::default().baselines.is_empty());
    }

    #[test]
    fn the_papers_settings_are_those_of_its_code() {
        for cell in cells("paper") {
            let (train, control) = (&cell.train, &cell.control);
            let answers = cell.dataset == "qasper";
            assert_eq!((train.learning_rate, train.num_train_epochs, train.seed), (2e-5, 50.0, 42));
            assert_eq!((train.adam_beta1, train.adam_beta2, train.adam_epsilon), (0.9, 0.98, 1e-6));
            assert_eq!((train.weight_decay, train.warmup_ratio, train.max_grad_norm), (0.001, 0.1, 1.0));
            assert_eq!(train.gradient_accumulation_steps, if answers { 4 } else { 1 });
            assert_eq!(train.eval_steps, if answers { 10 } else { 500 });
            assert_eq!(control.metric(), if answers { "f1" } else { "geometric_mean" });
            assert_eq!((control.save_steps, control.early_stopping_patience), (train.eval_steps, 3));
            assert_eq!((cell.batch_size, cell.precision), (BatchSize::Largest, Precision::Tf32));
            assert_eq!(cell.random_blocks, crate::models::RandomBlocks::Drawn);
        }
    }

    #[test]
    fn every_step_of_scrolls_has_the_tokens_of_eight_gpus() {
        for cell in cells("scrolls") {
            let train = &cell.train;
            let examples = train.per_device_train_batch_size * train.gradient_accumulation_steps;
            assert_eq!(examples * train.max_source_length, 131_072);
            let lines = published_size(&cell.dataset).unwrap().training;
            assert_eq!(train.eval_steps, train.steps_per_epoch(lines), "{}", cell.name);
        }
        let long =
            cells("scrolls").into_iter().find(|cell| cell.name.starts_with("led-base-16384_qmsum_4096"));
        assert_eq!(long.unwrap().train.learning_rate, 1e-5);
    }
}
