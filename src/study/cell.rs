//! One cell of a study: fine-tune, evaluate, measure.

use super::embedded;
use super::grid::CellPlan;
use super::results::{Cell, Metric, Reading};
use crate::data::{self, Split};
use crate::device::Device;
use crate::energy::{Measurement, Sampler, Window};
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, Task, evaluate, work};
use crate::metrics::{Headline, Protocol};
use crate::models::session::Session;
use crate::models::{self, Options, RandomBlocks};
use crate::text::Tokenizer;
use crate::train::batches::Lengths;
use crate::train::{Corpus, Observer, Summary, fine_tune};
use std::path::Path;

/// What a cell's run tells whoever watches, besides training events.
pub trait CellObserver: Observer {
    /// Examples scored so far.
    fn evaluated(&mut self, done: usize, total: usize);
}

/// Runs `plan` on `device`; embedded models are unpacked under `models_dir`.
pub fn run(
    plan: &CellPlan,
    device: &Device,
    sampler: &Sampler,
    models_dir: &Path,
    observer: &mut dyn CellObserver,
) -> Result<Cell> {
    let dir = embedded::directory(&plan.model, models_dir)?;
    let tokenizer = Tokenizer::load(&dir)?;
    let dataset = data::open(&plan.dataset)?;
    // The drawn plan everywhere is what the 2022 study measured.
    let options = Options {
        random_blocks: match plan.protocol {
            Protocol::Paper => RandomBlocks::Drawn,
            Protocol::Scrolls => RandomBlocks::EvalZero,
        },
        ..Options::default()
    };
    let loaded = models::load(&dir, device, options)?;
    let limits = loaded.model.limits();
    let lengths = Lengths { source: plan.train.max_source_length, target: plan.train.max_target_length };
    let read = |split: Split, most: usize| {
        let mut examples = dataset.examples(split, plan.protocol)?;
        if most > 0 {
            examples.truncate(most);
        }
        if examples.is_empty() {
            return Err(Error::data(&plan.dataset, format!("its {} split has no examples", split.name())));
        }
        let corpus = Corpus::encode(&tokenizer, &examples, lengths, limits, plan.global_attention)?;
        Ok((examples, corpus))
    };
    let (train_examples, train) = read(Split::Train, plan.max_train_samples)?;
    let (eval_examples, validation) = read(Split::Validation, plan.max_eval_samples)?;
    let parameters = loaded.parameters.trainable();
    let mut session = Session::new(loaded, options, work)?;
    let window = Window::start(sampler);
    let summary = fine_tune(&mut session, &train, Some(&validation), &plan.train, observer)?;
    let energy = window.stop();
    let (used, planned) = (session.real().device().used(), session.planned());
    let batch = plan.train.per_device_eval_batch_size;
    let total = eval_examples.len();
    let task = Task {
        tokenizer: &tokenizer,
        corpus: &validation,
        examples: &eval_examples,
        protocol: plan.protocol,
        max_new_tokens: plan.max_new_tokens,
        batch_size: batch,
    };
    let evaluation = evaluate(&mut session, task, &mut |done| observer.evaluated(done, total))?;
    let headline = match dataset.headline {
        Headline::GeometricMean => Metric::GeometricMean,
        Headline::F1 => Metric::F1,
    };
    Ok(Cell {
        device: device.name(),
        train_examples: train_examples.len() as u64,
        parameters: parameters as u64,
        headline_metric: headline,
        peak_bytes_planned: Reading::predicted(planned.total() as f64),
        peak_bytes_measured: Reading::measured(used.total() as f64),
        ..cell(plan, &summary, &evaluation, &energy)
    })
}

fn cell(plan: &CellPlan, summary: &Summary, evaluation: &Evaluation, energy: &Measurement) -> Cell {
    let scores = evaluation.scores.rounded();
    let per_second = |n: f64, seconds: f64| Reading::measured(n / seconds);
    let or_why = |value: Option<f64>| value.map_or_else(|| Reading::absent(&energy.note), Reading::measured);
    Cell {
        model: plan.model_name(),
        dataset: Path::new(&plan.dataset)
            .file_name()
            .map_or_else(|| plan.dataset.clone(), |name| name.to_string_lossy().into_owned()),
        max_source_length: plan.train.max_source_length as u64,
        precision: "fp32".into(),
        seed: plan.train.seed,
        protocol: match plan.protocol {
            Protocol::Scrolls => "scrolls".into(),
            Protocol::Paper => "paper".into(),
        },
        device: String::new(),
        batch_size: plan.train.per_device_train_batch_size as u64,
        steps: summary.steps,
        train_examples: 0,
        eval_examples: evaluation.examples as u64,
        parameters: 0,
        headline_metric: Metric::GeometricMean,
        rouge1: Reading::measured(scores.rouge1),
        rouge2: Reading::measured(scores.rouge2),
        rouge_l: Reading::measured(scores.rouge_l),
        geometric_mean: Reading::measured(scores.geometric_mean),
        f1: Reading::measured(scores.f1),
        train_loss_final: Reading::measured(summary.final_loss),
        eval_loss: summary.eval_loss.map_or_else(|| Reading::absent("not evaluated"), Reading::measured),
        train_seconds: Reading::measured(summary.train_time.0),
        train_samples_per_second: per_second(summary.samples as f64, summary.train_time.0),
        train_tokens_per_second: per_second(summary.tokens as f64, summary.train_time.0),
        eval_seconds: Reading::measured(evaluation.time.0),
        eval_samples_per_second: per_second(evaluation.examples as f64, evaluation.time.0),
        peak_bytes_planned: Reading::absent("not planned"),
        peak_bytes_measured: Reading::absent("not measured"),
        energy_joules: or_why(energy.energy.map(|joules| joules.0)),
        mean_power_watts: or_why(energy.power().map(|watts| watts.0)),
        energy_note: match energy.energy {
            Some(_) => energy.note.clone(),
            None => format!("n/a: {}", energy.note),
        },
    }
}
