//! Writes checkpoints while training continues, and removes those that are no longer wanted.

use super::super::state::TrainerState;
use super::find::folders;
use super::{
    LATEST, MANIFEST, MOMENTS, Manifest, OPTIMIZER, STATE, Settings, folder, is_unfinished, step_of,
};
use crate::error::{Error, Result};
use crate::files;
use crate::models::Weights;
use crate::weights::{Named, Values, write_file};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// All of a run at one step, on the host.
pub struct Snapshot {
    pub weights: Weights,
    /// First and second, slabs like the weights'.
    pub moments: [Vec<f32>; 2],
    pub state: TrainerState,
}

/// Writes a run's checkpoints, one at a time, in the background.
pub struct Saver {
    target: Arc<Target>,
    in_flight: Option<JoinHandle<Result<()>>>,
    /// The step saved last.
    pub(in super::super) newest: Option<u64>,
}

struct Target {
    run: PathBuf,
    settings: Settings,
    device: String,
    /// Files that make the model usable, such as the tokenizer's.
    companions: Vec<(String, Vec<u8>)>,
    /// Checkpoints kept; 0 for all.
    limit: usize,
}

impl Saver {
    /// Saves into the run directory `run`, at most `limit` checkpoints and the best one, or all if it is 0.
    pub fn new(
        run: &Path,
        settings: Settings,
        device: String,
        companions: Vec<(String, Vec<u8>)>,
        limit: usize,
    ) -> Self {
        let target = Target { run: run.to_path_buf(), settings, device, companions, limit };
        Saver { target: Arc::new(target), in_flight: None, newest: None }
    }

    /// The folder of the checkpoint after `step`.
    pub(in super::super) fn folder(&self, step: u64) -> PathBuf {
        self.target.run.join(folder(step))
    }

    /// Ends what the process that wrote the checkpoint `state` is from may not have come to.
    pub(in super::super) fn adopt(&mut self, state: &TrainerState) -> Result<()> {
        self.newest = Some(state.global_step);
        self.target.settle(state)
    }

    /// Begins to write a checkpoint, after the one before is done.
    pub(in super::super) fn start(&mut self, snapshot: Snapshot) -> Result<()> {
        self.finish()?;
        self.newest = Some(snapshot.state.global_step);
        let target = self.target.clone();
        self.in_flight = Some(std::thread::spawn(move || target.write(&snapshot)));
        Ok(())
    }

    /// The failure of the checkpoint that was being written, if it has failed by now.
    pub(in super::super) fn poll(&mut self) -> Result<()> {
        match &self.in_flight {
            Some(thread) if thread.is_finished() => self.finish(),
            _ => Ok(()),
        }
    }

    /// Waits until nothing is being written.
    pub(in super::super) fn finish(&mut self) -> Result<()> {
        match self.in_flight.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(Error::internal("the thread that writes checkpoints panicked")),
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // Whoever drops it without asking has another error to report.
        let _ = self.finish();
    }
}

impl Target {
    fn write(&self, snapshot: &Snapshot) -> Result<()> {
        let step = snapshot.state.global_step;
        let name = folder(step);
        let finished = self.run.join(&name);
        let unfinished = temporary(&self.run, &name, "new");
        let written = self.fill(&unfinished, snapshot).and_then(|()| {
            // A damaged one of this step may be in the way.
            if finished.exists() {
                rename(&finished, &temporary(&self.run, &name, "old"))?;
            }
            rename(&unfinished, &finished)?;
            files::sync_dir(&self.run)
        });
        if written.is_err() {
            // What it takes of a full disk is given back; the failure itself is reported.
            let _ = fs::remove_dir_all(&unfinished);
        }
        written?;
        self.settle(&snapshot.state)?;
        files::remove(&temporary(&self.run, &name, "old"))
    }

    /// Names the checkpoint of `state` the latest, and removes those that it makes superfluous.
    fn settle(&self, state: &TrainerState) -> Result<()> {
        let step = state.global_step;
        files::write_text(&self.run.join(LATEST), &(folder(step) + "\n"))?;
        self.prune(step, state.best.step)
    }

    fn fill(&self, dir: &Path, snapshot: &Snapshot) -> Result<()> {
        files::remove(dir)?;
        files::create_dir(dir)?;
        for (name, bytes) in &self.companions {
            files::replace(&dir.join(name), |file| file.write_all(bytes))?;
        }
        snapshot.weights.save(dir)?;
        write_moments(&dir.join(OPTIMIZER), snapshot)?;
        let state = &snapshot.state;
        let text = serde_json::to_string_pretty(state)
            .map_err(|e| Error::internal(format!("the trainer's state is not JSON: {e}")))?;
        files::write_text(&dir.join(STATE), &(text + "\n"))?;
        Manifest::write(dir, state.global_step, state.cursor, &self.device, &self.settings)
    }

    /// Removes the oldest checkpoints beyond the limit; never the newest, the best or one of a later step.
    fn prune(&self, newest: u64, best: Option<u64>) -> Result<()> {
        if self.limit == 0 {
            return Ok(());
        }
        let mut steps: Vec<u64> = folders(&self.run)?.iter().filter_map(|path| step_of(path)).collect();
        steps.retain(|&step| step <= newest);
        steps.sort_unstable();
        let mut surplus = steps.len().saturating_sub(self.limit);
        for step in steps {
            if surplus > 0 && step != newest && Some(step) != best {
                let name = folder(step);
                remove_whole(&self.run, &name)?;
                surplus -= 1;
            }
        }
        files::sync_dir(&self.run)
    }
}

fn write_moments(path: &Path, snapshot: &Snapshot) -> Result<()> {
    let entries = || snapshot.weights.entries.iter().filter(|entry| entry.trainable);
    let names: Vec<String> =
        MOMENTS.iter().flat_map(|moment| entries().map(move |e| format!("{moment}.{}", e.name))).collect();
    let values = snapshot.moments.iter().flat_map(|slab| entries().map(move |entry| (entry, slab)));
    let tensors: Vec<Named> = names
        .iter()
        .zip(values)
        .map(|(name, (entry, slab))| Named {
            name,
            shape: entry.shape.dims(),
            values: Values::F32(entry.of(slab)),
        })
        .collect();
    write_file(path, &tensors)
}

/// Whether the run directory `run` has checkpoints, or some of what [`remove_all`] has yet to remove.
pub fn is_any_in(run: &Path) -> bool {
    run.join(LATEST).exists()
}

/// Removes every checkpoint of the run directory `run`, and what names one at the end.
pub fn remove_all(run: &Path) -> Result<()> {
    for path in folders(run)? {
        if is_unfinished(&path) {
            files::remove(&path)?;
        // A folder that another program put there has no manifest.
        } else if let Some(step) = step_of(&path).filter(|_| path.join(MANIFEST).exists()) {
            remove_whole(run, &folder(step))?;
        }
    }
    files::remove(&run.join(LATEST))
}

/// The name in `run` of a folder while it comes or goes.
fn temporary(run: &Path, name: &str, which: &str) -> PathBuf {
    run.join(format!("{name}.tmp-{}-{which}", std::process::id()))
}

/// Removes the checkpoint `name` under a name that is never taken for one: removing takes many steps, and a process may
/// die between them.
fn remove_whole(run: &Path, name: &str) -> Result<()> {
    let going = temporary(run, name, "old");
    rename(&run.join(name), &going)?;
    files::remove(&going)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::output(to, e))
}
