//! Finds the checkpoint that a run resumes from.

use super::super::state::TrainerState;
use super::{MOMENTS, Manifest, OPTIMIZER, STATE, is_unfinished, step_of};
use crate::error::{Error, Result};
use crate::models::Loaded;
use crate::weights;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A checkpoint whose every byte is as it was written.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub dir: PathBuf,
    pub manifest: Manifest,
    pub state: TrainerState,
}

/// The newest checkpoint of a run, and why newer ones were passed over.
#[derive(Debug, Default)]
pub struct Found {
    pub checkpoint: Option<Checkpoint>,
    pub passed_over: Vec<String>,
}

/// Looks for the newest complete checkpoint of the run directory `run`, and removes unfinished ones.
///
/// Nobody else may be writing there.
pub fn newest(run: &Path) -> Result<Found> {
    let mut found = Found::default();
    let mut steps = Vec::new();
    for path in folders(run)? {
        if is_unfinished(&path) {
            fs::remove_dir_all(&path).map_err(|e| Error::output(&path, e))?;
            let what = "was never finished, or half removed; it is gone now";
            found.passed_over.push(format!("{}: {what}", path.display()));
        } else if let Some(step) = step_of(&path) {
            steps.push((step, path));
        }
    }
    steps.sort();
    for (_, path) in steps.into_iter().rev() {
        match open(&path) {
            Ok(checkpoint) => {
                found.checkpoint = Some(checkpoint);
                break;
            }
            Err(error) => found.passed_over.push(error.to_string()),
        }
    }
    Ok(found)
}

/// The folders in `run`, which may not exist, in order of name.
pub(super) fn folders(run: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(run) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::read(run, &e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::read(run, &e))?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Opens one checkpoint and checks all of it.
pub fn open(dir: &Path) -> Result<Checkpoint> {
    if !dir.is_dir() {
        return Err(Error::missing(dir, "no such folder; name a checkpoint-N"));
    }
    let manifest = Manifest::verify(dir)?;
    let path = dir.join(STATE);
    let broken = |what: String| Error::data(path.display(), what);
    let text = fs::read_to_string(&path).map_err(|e| Error::read(&path, &e))?;
    let state: TrainerState = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
    // The folder may have been renamed by hand.
    let named = step_of(dir).unwrap_or(manifest.step);
    if [state.global_step, named] != [manifest.step; 2] || state.cursor != manifest.cursor {
        let what = format!("at step {}, but the manifest is of step {}", state.global_step, manifest.step);
        return Err(broken(what));
    }
    Ok(Checkpoint { dir: dir.to_path_buf(), manifest, state })
}

impl Checkpoint {
    /// Reads the first and second moments into slabs laid out as `loaded`'s parameters.
    pub(in super::super) fn moments(&self, loaded: &Loaded) -> Result<[Vec<f32>; 2]> {
        let parameters = &loaded.parameters;
        let file = weights::read_file(&self.dir.join(OPTIMIZER))?;
        let mut slabs = MOMENTS.map(|_| vec![0.0; parameters.slab.len()]);
        for (slab, moment) in slabs.iter_mut().zip(MOMENTS) {
            for entry in parameters.entries.iter().filter(|entry| entry.trainable) {
                let name = format!("{moment}.{}", entry.name);
                let values = file.f32(&name)?;
                if values.len() != entry.shape.len() {
                    return Err(Error::data(
                        file.path().display(),
                        format!(
                            "tensor {name:?} has {} elements, expected {}",
                            values.len(),
                            entry.shape.len()
                        ),
                    ));
                }
                slab[entry.first..entry.first + values.len()].copy_from_slice(&values);
            }
        }
        Ok(slabs)
    }
}
