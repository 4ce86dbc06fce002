//! The training half of a cell, which goes on from its last checkpoint, and `trained.json`, which says that it is
//! done.

use super::log::Log;
use super::parts::{Parts, Spent};
use super::{CellObserver, Material, Part};
use crate::error::{Error, Result};
use crate::evaluate::Work;
use crate::files;
use crate::models::session::Session;
use crate::study::grid::CellPlan;
use crate::study::results::{Cell, PhaseTime, Reading};
use crate::trace;
use crate::train::checkpoint::{self, Checkpoint, Saver, Settings};
use crate::train::{Event, Observer, Options, Summary, Trainer};
use crate::units::Seconds;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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

/// Trains the session's model, or takes the weights that an earlier process trained; a result without scores.
pub fn train(
    material: &Material,
    options: &Options,
    session: &mut Session<Work>,
    train: &Part,
    validation: &Part,
    observer: &mut dyn CellObserver,
) -> Result<Cell> {
    let run = material.run;
    let (path, model) = (run.dir.join("trained.json"), run.dir.join(MODEL));
    let done = fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Done>(&text).ok());
    if let Some(done) = done.filter(|done| done.plan == *run.plan && model.join("config.json").is_file()) {
        session.real().loaded.read_weights(&model)?;
        return Ok(done.cell);
    }
    let cell = anew(material, options, session, train, validation, observer)?;
    files::create_dir(&model)?;
    session.real().loaded.save(&model)?;
    let done = Done { plan: run.plan.clone(), cell };
    let text = serde_json::to_string_pretty(&done).map_err(|e| Error::output(&path, e))?;
    files::write_text(&path, &(text + "\n"))?;
    Ok(done.cell)
}

fn anew(
    material: &Material,
    options: &Options,
    session: &mut Session<Work>,
    train: &Part,
    validation: &Part,
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
    let mut recorder = Recorder {
        log: Log::open(&run.dir.join("metrics.jsonl"), step)?,
        parts: Parts::start(run.sampler, &run.dir.join("energy.jsonl"), step)?,
        steps_per_epoch: options.steps_per_epoch(train.examples.len()),
        observer,
    };
    // On a GPU the launches return before their work is done, and waiting for each would change what is measured.
    let timed = run.device.uuid().is_none() && step == 0;
    if timed {
        trace::start_timing();
    }
    let outcome = trainer.run(&mut recorder);
    let timings = trace::stop_timing();
    let summary = outcome?;
    let spent = recorder.parts.stop();
    let mut phases: BTreeMap<trace::Phase, f64> = BTreeMap::new();
    for ((phase, _), timing) in timings {
        *phases.entry(phase).or_default() += timing.time.as_secs_f64();
    }
    let planned = session.planned();
    Ok(Cell {
        device: run.device.name(),
        batch_size: options.per_device_train_batch_size as u64,
        planned_steps,
        train_examples: train.examples.len() as u64,
        eval_examples: validation.examples.len() as u64,
        parameters: parameters as u64,
        headline_metric: material.metric(),
        peak_bytes_planned: Reading::predicted(planned.total() as f64),
        peak_bytes_measured: Reading::measured(session.real().device().used().total() as f64),
        phases: by_time(&phases),
        ..measured(run.plan, &summary, &spent, step > 0)
    })
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

/// Writes down what happens, and passes it on.
struct Recorder<'a> {
    log: Log,
    parts: Parts<'a>,
    steps_per_epoch: u64,
    observer: &'a mut dyn CellObserver,
}

impl Observer for Recorder<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        if let Event::Checkpoint { step } = event {
            self.parts.checkpoint(*step)?;
        }
        self.log.event(event, self.steps_per_epoch)?;
        self.observer.event(event)
    }

    fn interrupted(&self) -> Option<i32> {
        self.observer.interrupted()
    }
}

fn by_time(phases: &BTreeMap<trace::Phase, f64>) -> Vec<PhaseTime> {
    let mut sorted: Vec<_> = phases.iter().collect();
    sorted.sort_by(|a, b| b.1.total_cmp(a.1));
    let of = |(phase, seconds): (&trace::Phase, &f64)| PhaseTime {
        phase: phase.label.into(),
        pass: format!("{:?}", phase.pass).to_lowercase(),
        seconds: Reading::measured(*seconds),
    };
    sorted.into_iter().map(of).collect()
}

/// What training measured; the rest of the cell is left as nobody took it.
fn measured(plan: &CellPlan, summary: &Summary, spent: &Spent, resumed: bool) -> Cell {
    let Spent { energy, last } = spent;
    let (samples, seconds) = (summary.samples as f64, summary.train_time.0);
    let wall = summary.times.total();
    let time = if resumed { wall } else { last.time };
    let joules = match energy {
        Ok(joules) => Reading::measured(*joules),
        Err(why) => Reading::absent(why),
    };
    let of_energy = |make: fn(f64, f64) -> f64, other: f64| joules.with(&Reading::measured(other), make);
    let no_sensor = match last.energy {
        Some(_) => "this device has no sensor for it",
        None => &last.note,
    };
    let Seconds(wall) = wall;
    let not_whole = "the process was stopped in between, and such means need the whole run";
    let paper = last.paper.filter(|_| !resumed);
    let why_not_paper = if resumed && last.paper.is_some() { not_whole } else { no_sensor };
    let peak = last.peak_power.filter(|_| !resumed);
    let why_not_peak = if resumed && last.peak_power.is_some() { not_whole } else { no_sensor };
    Cell {
        run: plan.name.clone(),
        model: plan.label.clone(),
        dataset: plan.dataset_name(),
        max_source_length: plan.train.max_source_length as u64,
        precision: plan.precision.name().into(),
        seed: plan.train.seed,
        steps: summary.steps,
        train_loss_final: Reading::measured(summary.final_loss),
        eval_loss: Reading::or_why(summary.eval_loss, "not evaluated"),
        train_seconds: Reading::measured(seconds),
        train_wall_seconds: Reading::measured(wall),
        train_samples_per_second: Reading::measured(samples / seconds),
        train_tokens_per_second: Reading::measured(summary.tokens as f64 / seconds),
        best_step: Reading::or_why(
            summary.best.map(|(step, _)| step as f64),
            "one evaluation alone, at the end",
        ),
        mean_power_watts: of_energy(|joules, time| joules / time, time.0),
        peak_power_watts: Reading::or_why(peak.map(|power| power.0), why_not_peak),
        samples_per_second_per_watt: of_energy(|joules, samples| samples / joules, samples),
        joules_per_sample: of_energy(|joules, samples| joules / samples, samples),
        joules_per_token: of_energy(|joules, tokens| joules / tokens, summary.tokens as f64),
        energy_note: match energy {
            Ok(_) => last.note.clone(),
            Err(why) => format!("n/a: {why}"),
        },
        energy_joules: joules.clone(),
        paper_power_watts: Reading::or_why(paper.map(|paper| paper.power.0), why_not_paper),
        paper_energy_joules: Reading::or_why(paper.map(|paper| paper.energy.0), why_not_paper),
        utilisation_percent: Reading::or_why(last.utilisation.map(|share| 100.0 * share), no_sensor),
        device_memory_mean_bytes: Reading::or_why(last.memory.map(|bytes| bytes.0 as f64), no_sensor),
        device_memory_peak_bytes: Reading::or_why(last.memory_peak.map(|bytes| bytes.0 as f64), no_sensor),
        ..Cell::default()
    }
}
