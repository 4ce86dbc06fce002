//! The training half of a cell, which goes on from its last checkpoint, and `trained.json`, which says that it is
//! done.

use super::log::Log;
use super::phases;
use super::{CellObserver, Material, Part};
use crate::energy::{Activity, Books, RunEnergy, Sampler, StepPhases};
use crate::error::{Error, Result};
use crate::evaluate::Work;
use crate::files;
use crate::models::session::Session;
use crate::study::grid::CellPlan;
use crate::study::results::{Cell, Reading};
use crate::train::checkpoint::{self, Checkpoint, Saver, Settings};
use crate::train::{Event, Observer, Options, Summary, Trainer};
use crate::units::Seconds;
use serde::{Deserialize, Serialize};
use std::fs;

/// The folder of the trained model, in the cell's run directory.
pub const MODEL: &str = "model";

/// `trained.json`: what training came to; the weights are in [`MODEL`].
#[derive(Serialize, Deserialize)]
struct Done {
    plan: CellPlan,
    /// Without scores.
    cell: Cell,
}

/// Trains the session's model on the first of `parts`, validating on the second, or takes the weights that an earlier
/// process trained; a result without scores.
pub fn train(
    material: &Material,
    options: &Options,
    session: &mut Session<Work>,
    parts: [&Part; 2],
    books: &mut Books,
    observer: &mut dyn CellObserver,
) -> Result<Cell> {
    let run = material.run;
    let (path, model) = (run.dir.join("trained.json"), run.dir.join(MODEL));
    let done = fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Done>(&text).ok());
    if let Some(done) = done.filter(|done| done.plan == *run.plan && model.join("config.json").is_file()) {
        // What cannot be read leaves the energy unknown, and says why.
        let _ = books.go_on();
        session.real().loaded.read_weights(&model)?;
        return Ok(done.cell);
    }
    let mut cell = anew(material, options, session, parts, books, observer)?;
    books.enter(Activity::Checkpoint);
    files::create_dir(&model)?;
    session.real().loaded.save(&model)?;
    books.enter(Activity::Rest);
    let spent = books.so_far();
    books.write(&spent)?;
    take(&mut cell, &spent);
    let done = Done { plan: run.plan.clone(), cell };
    let text = serde_json::to_string_pretty(&done).map_err(|e| Error::output(&path, e))?;
    files::write_text(&path, &(text + "\n"))?;
    Ok(done.cell)
}

fn anew(
    material: &Material,
    options: &Options,
    session: &mut Session<Work>,
    [train, validation]: [&Part; 2],
    books: &mut Books,
    observer: &mut dyn CellObserver,
) -> Result<Cell> {
    let run = material.run;
    let control = &run.plan.control;
    let decoding = material.decoding();
    let mut predicting = material.task(validation, run.plan.protocols[0], &decoding, options);
    let loaded = &session.real().loaded;
    let mut settings = Settings::of(loaded, &train.corpus, Some(&validation.corpus), options, control)?;
    settings.add("random_blocks", &run.plan.random_blocks)?;
    settings.add("protocol", &run.plan.protocols[0])?;
    settings.add("max_new_tokens", &run.plan.max_new_tokens)?;
    let parameters = loaded.parameters.trainable();
    let checkpoint = newest(material, &settings)?;
    let step = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.state.global_step);
    match step {
        0 => books.begin()?,
        // What cannot be read leaves the energy unknown, and says why.
        _ => drop(books.go_on()),
    }
    let saver = Saver::new(run.dir, settings, run.device.name(), Vec::new(), control.save_total_limit);
    let mut trainer = Trainer::new(session, &train.corpus, options, control)?
        .save_with(saver)
        .validate_on(&validation.corpus);
    if control.metric() != "loss" {
        trainer = trainer.score_with(&mut predicting);
    }
    if let Some(checkpoint) = &checkpoint {
        trainer = trainer.restore(checkpoint)?;
    }
    let planned_steps = trainer.total_steps();
    // On a GPU the launches return before their work is done, and waiting for each would change what is measured.
    let timed = run.device.uuid().is_none() && step == 0;
    let mut recorder = Recorder {
        log: Log::open(&run.dir.join("metrics.jsonl"), step)?,
        books,
        sampler: run.sampler,
        phases: timed.then(StepPhases::default),
        steps_per_epoch: options.steps_per_epoch(train.examples.len()),
        observer,
    };
    let outcome = trainer.run(&mut recorder);
    recorder.enters(Activity::Rest);
    let phases = recorder.phases;
    let summary = outcome?;
    let planned = session.planned();
    let mut cell = Cell {
        device: run.device.name(),
        batch_size: options.per_device_train_batch_size as u64,
        planned_steps,
        train_examples: train.examples.len() as u64,
        eval_examples: validation.examples.len() as u64,
        parameters: parameters as u64,
        headline_metric: material.metric(),
        peak_bytes_planned: Reading::predicted(planned.total() as f64),
        peak_bytes_measured: Reading::measured(session.real().device().used().total() as f64),
        ..measured(run.plan, &summary)
    };
    match phases {
        Some(phases) => (cell.phases, cell.phases_energy_joules) = phases::readings(&phases),
        None => {
            let why = "phases are told on the CPU, in a run that is not stopped";
            cell.phases_energy_joules = Reading::absent(why);
        }
    }
    Ok(cell)
}

/// The checkpoint to go on from: one of a run with exactly these settings. Any other is removed.
fn newest(material: &Material, settings: &Settings) -> Result<Option<Checkpoint>> {
    let dir = material.run.dir;
    let found = checkpoint::newest(dir)?.checkpoint;
    let same = found.filter(|found| settings.check(&found.manifest.settings, "the checkpoint").is_ok());
    if same.is_none() {
        checkpoint::remove_all(dir)?;
    }
    Ok(same)
}

/// Writes down what happens and what it takes, and passes it on.
struct Recorder<'a> {
    log: Log,
    books: &'a mut Books,
    sampler: &'a Sampler,
    phases: Option<StepPhases>,
    steps_per_epoch: u64,
    observer: &'a mut dyn CellObserver,
}

impl Observer for Recorder<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            // A run that is killed later goes on from here, and with what it had taken until here.
            Event::Checkpoint { .. } => {
                let spent = self.books.so_far();
                self.books.write(&spent)?;
            }
            Event::Evaluation { .. } => {}
            Event::Step { .. } | Event::Skipped { .. } => {
                if let Some(phases) = &mut self.phases {
                    phases.take_in(self.sampler);
                }
            }
        }
        self.log.event(event, self.steps_per_epoch)?;
        self.observer.event(event)
    }

    fn enters(&mut self, activity: Activity) {
        if let Some(phases) = &mut self.phases {
            phases.enter(activity, self.sampler);
        }
        self.books.enter(activity);
    }

    fn interrupted(&self) -> Option<i32> {
        self.observer.interrupted()
    }
}

/// What training came to; sensors and the rest of the cell are left as nobody took them.
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
