//! One cell of a study: a fine-tuning run like any other, scored under every protocol of the study and with its
//! weights kept in every way; what is done is not done again.

mod failed;
mod phases;
mod scored;
mod trained;

use super::grid::{BatchSize, CellPlan};
use super::published::Places;
use super::results::{Activities, Cell};
use crate::collective::Group;
use crate::data::{self, RecordFormat};
use crate::device::Device;
use crate::energy::{Sampler, Work};
use crate::error::{Error, Result};
use crate::files::{self, lock, lock::Lock};
use crate::generate::GenerateOptions;
use crate::models::ModelLimits;
use crate::run::{Batch, Existing, Means, Observer, Origin, Run, RunDir, Settings};
use crate::tape::Recompute;
use crate::train::token_cache::TokenCache;
use crate::train::{RankLayout, checkpoint};
use crate::units::Seconds;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

pub use failed::{Failed, fail, failed};
use scored::How;
pub use scored::example_scores;

/// What a study's cells share.
pub struct Shared<'a> {
    pub sampler: &'a Sampler,
    pub places: &'a Places,
    /// Token ids are kept under this folder.
    pub beside: &'a Path,
    /// The name of the processor here.
    pub processor: String,
}

/// `cell.json`: a cell that is done.
#[derive(Serialize, Deserialize)]
struct Finished {
    plan: CellPlan,
    /// One a protocol and a way to keep weights.
    cells: Vec<Cell>,
}

/// The results in `dir` if a cell of exactly this plan was finished there.
pub fn finished(dir: &Path, plan: &CellPlan) -> Option<Vec<Cell>> {
    let text = fs::read_to_string(dir.join("cell.json")).ok()?;
    let finished: Finished = serde_json::from_str(&text).ok()?;
    (finished.plan == *plan).then_some(finished.cells)
}

/// Forgets what is in `dir`, whose lock the caller has, so that the cell runs from its beginning.
pub fn forget(dir: &Path) -> Result<()> {
    // First what says that it is done: a process may die between two files.
    files::remove(&dir.join("cell.json"))?;
    for entry in fs::read_dir(dir).map_err(|e| Error::output(dir, e))? {
        let path = entry.map_err(|e| Error::output(dir, e))?.path();
        if path.file_name().is_some_and(|name| name != lock::NAME) {
            files::remove(&path)?;
        }
    }
    Ok(())
}

/// Runs the cell in its run directory `dir`, whose lock the caller has, to its end, from wherever an earlier process
/// left it; one result a protocol and a way to keep weights.
pub fn run(
    plan: &CellPlan,
    dir: &Path,
    lock: &Arc<Lock>,
    device: &Device,
    shared: &Shared,
    observer: &mut dyn Observer,
) -> Result<Vec<Cell>> {
    let origin = origin(plan, shared.places)?;
    let run_dir = RunDir::check(dir, Existing::Continue, &origin.folders())?.locked_by(lock.clone());
    let has_model = run_dir.has_model();
    let means = Means {
        device,
        sampler: shared.sampler,
        cache: Some(TokenCache::new(&shared.beside.join("tokens"))),
        tensorboard: None,
        more_protocols: plan.protocols[1..].to_vec(),
        more_weights: plan.more_weights(),
        carbon_intensity: None,
        group: Rc::new(Group::alone()),
        layout: RankLayout::ALONE,
    };
    let settings = settings(plan, device, shared.places, &origin.limits()?);
    let mut run = Run::open(origin, settings, run_dir, means, observer)?;
    if run.validation().is_none() {
        let what = "it has no validation split, which a study's cells are scored on";
        return Err(Error::missing(&plan.dataset, what));
    }
    let trained = match trained::earlier(dir, plan).filter(|_| has_model) {
        Some(trained) => {
            let work = Work { samples: trained.train_samples, tokens: trained.train_tokens };
            let runtime = Seconds(trained.train_wall_seconds.value().unwrap_or(f64::NAN));
            run.take_trained(work, runtime, observer)?;
            trained
        }
        None => trained::train(plan, dir, &mut run, observer)?,
    };
    let mut cells = Vec::new();
    for &weights in &plan.weights {
        for &protocol in &plan.protocols {
            let how = How { protocol, weights };
            cells.push(scored::score(plan, dir, &mut run, how, &trained, observer)?);
        }
    }
    let energy = run.write_energy()?;
    run.write_card(&energy)?;
    for cell in &mut cells {
        cell.activities = Activities::of(&energy.run);
        cell.processor = shared.processor.clone();
    }
    lock.check()?;
    let finished = Finished { plan: plan.clone(), cells };
    files::write_json(&dir.join("cell.json"), &finished)?;
    tidy(dir, plan)?;
    Ok(finished.cells)
}

/// Whether a worker has left nothing in `dir` that a finished cell does not need.
pub fn is_tidy(dir: &Path, plan: &CellPlan) -> bool {
    let has = |name| dir.join(name).exists();
    let is_left = has(lock::NAME) || has(failed::NAME) || checkpoint::is_any_in(dir);
    !is_left && (plan.keep_model || !has("model"))
}

/// Removes from `dir`, whose lock the caller has, what a finished cell does not need.
pub fn tidy(dir: &Path, plan: &CellPlan) -> Result<()> {
    files::remove_leftovers(dir)?;
    failed::forget(dir)?;
    checkpoint::remove_all(dir)?;
    if plan.keep_model { Ok(()) } else { files::remove(&dir.join("model")) }
}

/// The model that the cell starts from.
fn origin(plan: &CellPlan, places: &Places) -> Result<Origin> {
    let origin = match places.own_model(&plan.model) {
        Some(dir) => Origin::folder(&dir)?,
        None => Origin::model(plan.model.as_str())?,
    };
    match plan.attention_window {
        Some(window) => origin.with_window(window),
        None => Ok(origin),
    }
}

/// The plan as the settings of a run.
fn settings(plan: &CellPlan, device: &Device, places: &Places, limits: &ModelLimits) -> Settings {
    let all = |most: usize| (most > 0).then_some(most);
    Settings {
        dataset: places.dataset_path(&plan.dataset),
        reading: match data::is_embedded(&places.dataset_path(&plan.dataset)) {
            true => RecordFormat::default(),
            false => plan.reading.clone(),
        },
        max_train_samples: all(plan.max_train_samples),
        max_eval_samples: all(plan.max_eval_samples),
        protocol: plan.protocols[0],
        decoding: GenerateOptions {
            max_new_tokens: plan.max_new_tokens,
            seed: plan.train.seed,
            ..GenerateOptions::new(limits)
        },
        predict: true,
        global_attention: plan.global_attention.clone(),
        random_blocks: plan.random_blocks,
        recompute: Recompute::default(),
        // On a GPU the launches return before their work is done, and waiting for each would change what is measured.
        energy_per_phase: device.uuid().is_none(),
        batch: Batch {
            per_device_train_batch_size: plan.batch_size,
            gradient_accumulation_steps: plan.train.gradient_accumulation_steps,
            memory: plan.memory.map(|memory| memory.0),
            ..Batch::default()
        },
        training: match plan.batch_size {
            BatchSize::Of(size) => {
                crate::train::Options { per_device_train_batch_size: size, ..plan.train.clone() }
            }
            BatchSize::Largest => plan.train.clone(),
        },
        control: plan.control.clone(),
    }
}
