//! The training half of a cell, and `trained.json`, which says that it is done.

use super::phases;
use crate::disturbance::Watch;
use crate::energy::{Activity, RunEnergy};
use crate::error::Result;
use crate::files;
use crate::reading::Reading;
use crate::run::{Observer, Outcome, Run};
use crate::study::grid::CellPlan;
use crate::study::results::Cell;
use crate::train::Summary;
use crate::units::Seconds;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// `trained.json`: what training came to; the weights are in the run's `model`.
#[derive(Serialize, Deserialize)]
struct Done {
    plan: CellPlan,
    /// Without scores.
    cell: Cell,
}

/// What an earlier process wrote when it had trained a cell of exactly this plan.
pub fn earlier(dir: &Path, plan: &CellPlan) -> Option<Cell> {
    let text = fs::read_to_string(dir.join("trained.json")).ok()?;
    let done: Done = serde_json::from_str(&text).ok()?;
    (done.plan == *plan).then_some(done.cell)
}

/// Trains the run's model; a result without scores.
pub fn train(plan: &CellPlan, dir: &Path, run: &mut Run, observer: &mut dyn Observer) -> Result<Cell> {
    let watch = Watch::start();
    let Outcome { summary, resumed_from, .. } = run.train(observer)?;
    let conditions = watch.stop();
    let mut cell = Cell {
        device: run.device(),
        family: run.family().model_type.into(),
        batch_size: run.settings().training.per_device_train_batch_size as u64,
        planned_steps: run.total_steps(),
        train_examples: run.train_examples() as u64,
        eval_examples: run.validation().map_or(0, |part| part.examples.len() as u64),
        global_attention: run.global_attention().to_string(),
        train_left_out: run.left_out().train,
        parameters: run.parameters() as u64,
        headline_metric: run.headline(),
        peak_bytes_planned: Reading::predicted(run.needs().total.0 as f64),
        peak_bytes_measured: Reading::measured(run.used().0 as f64),
        ..measured(plan, &summary)
    };
    match run.phases().filter(|_| resumed_from == 0) {
        Some(steps) => (cell.phases, cell.phases_energy_joules) = phases::readings(steps),
        None => {
            let why = "phases are measured on the CPU, in a run that is not stopped";
            cell.phases_energy_joules = Reading::absent(why);
        }
    }
    let spent = run.write_energy()?.run;
    take(&mut cell, &spent);
    cell.take_conditions(&spent.whole.judge(conditions));
    let done = Done { plan: plan.clone(), cell };
    files::write_json(&dir.join("trained.json"), &done)?;
    Ok(done.cell)
}

/// What training came to; sensors and the rest of the cell are absent.
fn measured(plan: &CellPlan, summary: &Summary) -> Cell {
    let (samples, seconds) = (summary.samples as f64, summary.train_time.0);
    Cell {
        run: plan.name.clone(),
        model: plan.label.clone(),
        dataset: plan.dataset_name(),
        max_source_length: plan.train.max_source_length as u64,
        precision: plan.precision.name().into(),
        seed: plan.train.seed,
        steps: summary.steps,
        train_samples: summary.samples,
        train_tokens: summary.tokens,
        train_loss_final: Reading::measured(summary.final_loss),
        eval_loss: Reading::or_why(summary.eval_loss, "not evaluated"),
        train_seconds: Reading::measured(seconds),
        train_wall_seconds: Reading::measured(summary.times.total().0),
        train_samples_per_second: Reading::measured(samples / seconds),
        train_tokens_per_second: Reading::measured(summary.tokens as f64 / seconds),
        best_step: Reading::or_why(
            summary.best.map(|(step, _)| step as f64),
            "one evaluation alone, at the end",
        ),
        ..Cell::default()
    }
}

/// What the sensors said until the model was trained, over all processes that worked on it.
fn take(cell: &mut Cell, run: &RunEnergy) {
    const OF_TRAINING: [Activity; 4] =
        [Activity::Data, Activity::Training, Activity::Evaluation, Activity::Checkpoint];
    let spent = run.together(&OF_TRAINING);
    let why = spent.why.as_deref().unwrap_or_default();
    let joules = Reading::or_why(spent.energy.map(|energy| energy.0), why);
    let of_energy = |make: fn(f64, f64) -> f64, other: f64| joules.with(&Reading::measured(other), make);
    let (samples, tokens) = (cell.train_samples as f64, cell.train_tokens as f64);
    cell.mean_power_watts = of_energy(|joules, time| joules / time, spent.time.0);
    cell.samples_per_second_per_watt = of_energy(|joules, samples| samples / joules, samples);
    cell.joules_per_sample = of_energy(|joules, samples| joules / samples, samples);
    cell.joules_per_token = of_energy(|joules, tokens| joules / tokens, tokens);
    cell.energy_note = match joules.why() {
        None => run.source.clone(),
        Some(why) => format!("n/a: {why}"),
    };
    cell.energy_joules = joules;
    let no_sensor = match run.whole.energy {
        Some(_) => "this device has no sensor for it",
        None => &run.whole.note,
    };
    if run.whole.energy.is_none() {
        cell.phases_energy_joules = Reading::absent(no_sensor);
    }
    let runtime = Seconds(cell.train_wall_seconds.value().unwrap_or(f64::NAN));
    let paper = run.paper(cell.train_samples, runtime);
    let whole = &run.whole;
    cell.paper_power_watts = Reading::or_why(paper.map(|paper| paper.mean_power_w.0), no_sensor);
    cell.paper_energy_joules = Reading::or_why(paper.map(|paper| paper.energy_j.0), no_sensor);
    cell.peak_power_watts = Reading::or_why(whole.peak_power.map(|power| power.0), no_sensor);
    cell.utilisation_percent = Reading::or_why(whole.utilisation.map(|share| 100.0 * share), no_sensor);
    cell.device_memory_mean_bytes = Reading::or_why(whole.memory.map(|bytes| bytes.0 as f64), no_sensor);
    cell.device_memory_peak_bytes = Reading::or_why(whole.memory_peak.map(|bytes| bytes.0 as f64), no_sensor);
}
