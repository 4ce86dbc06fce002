//! Finds a model's tensors in a checkpoint.

use super::Wanted;
use super::checkpoint::Checkpoint;
use super::elements::{FLOATS, first_nonfinite, floats};
use super::mismatch::Mismatch;
use crate::error::{Error, Result};
use safetensors::Dtype;
use std::collections::HashSet;
use std::path::Path;

/// Reads a model directory: values in the order of `wanted`, `None` for optional tensors that are absent.
///
/// Missing and misfit tensors are one error. Tensors that the model has no use for are a warning, as in transformers;
/// warnings go to stderr.
pub fn load(dir: &Path, wanted: &[Wanted]) -> Result<Vec<Option<Vec<f32>>>> {
    let mut loaded = vec![None; wanted.len()];
    load_each(dir, wanted, &mut |warning| eprintln!("warning: {warning}"), &mut |at, values| {
        loaded[at] = Some(values);
        Ok(())
    })?;
    Ok(loaded)
}

/// As [`load`], but hands over one tensor at a time, with its position in `wanted`, as they lie on disk.
pub fn load_each(
    dir: &Path,
    wanted: &[Wanted],
    warn: &mut dyn FnMut(String),
    place: &mut dyn FnMut(usize, Vec<f32>) -> Result<()>,
) -> Result<()> {
    let found = Found::open(dir, wanted, warn)?;
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&at| found.names[at].first().map(|name| found.checkpoint.position(name)));
    for at in order {
        if let Some(values) = found.read(at, warn)? {
            place(at, values)?;
        }
    }
    Ok(())
}

/// The tensors of a model, found in its directory and not yet read.
pub(super) struct Found<'a> {
    dir: &'a Path,
    checkpoint: Checkpoint,
    /// Under which each wanted tensor is present, its own name first.
    names: Vec<Vec<&'a str>>,
}

impl<'a> Found<'a> {
    pub fn open(dir: &'a Path, wanted: &'a [Wanted], warn: &mut dyn FnMut(String)) -> Result<Self> {
        let checkpoint = Checkpoint::open(dir)?;
        let names = find(dir, &checkpoint, wanted, warn)?;
        Ok(Found { dir, checkpoint, names })
    }

    /// The stored type of a wanted tensor, by its position; none of one that is absent.
    pub fn dtype(&self, at: usize) -> Result<Option<Dtype>> {
        let Some(name) = self.names[at].first() else {
            return Ok(None);
        };
        Ok(Some(tensors(&self.checkpoint, name)?.dtype(name)?))
    }

    /// The values of a wanted tensor, by its position.
    pub fn read(&self, at: usize, warn: &mut dyn FnMut(String)) -> Result<Option<Vec<f32>>> {
        let Some((name, ties)) = self.names[at].split_first() else {
            return Ok(None);
        };
        let values = read(&self.checkpoint, name)?;
        for tie in ties {
            let same = self.checkpoint.is_shared(name, tie)?
                || tensors(&self.checkpoint, tie)?.has_bits(tie, &values)?;
            if !same {
                warn(format!(
                    "{}: {name:?} and {tie:?} are one tensor to this model but differ; {name:?} is used",
                    self.dir.display()
                ));
            }
        }
        Ok(Some(values))
    }
}

/// The names under which each wanted tensor is present, its own name first.
fn find<'a>(
    dir: &Path,
    checkpoint: &Checkpoint,
    wanted: &'a [Wanted],
    warn: &mut dyn FnMut(String),
) -> Result<Vec<Vec<&'a str>>> {
    let bare = bare_prefix(checkpoint, wanted);
    let mut mismatch = Mismatch::default();
    let mut taken = HashSet::new();
    let mut found = Vec::with_capacity(wanted.len());
    for want in wanted {
        let mut present = Vec::new();
        for name in std::iter::once(&want.name).chain(&want.aliases) {
            let stored = |name: &&str| checkpoint.get(name).is_some();
            let Some(name) = std::iter::once(name.as_str())
                .chain(bare.and_then(|bare| name.strip_prefix(bare)))
                .find(stored)
            else {
                continue;
            };
            let tensors = tensors(checkpoint, name)?;
            let (shape, dtype) = (tensors.shape(name)?, tensors.dtype(name)?);
            if shape != want.shape {
                let line = format!("{name:?}: expected {:?}, found {shape:?}", want.shape);
                mismatch.shape.push(line);
            }
            if floats(dtype).is_none() {
                let line = format!("{name:?}: {dtype}, expected one of {FLOATS}");
                mismatch.dtype.push(line);
            }
            taken.insert(name);
            present.push(name);
        }
        if present.is_empty() && !want.optional {
            mismatch.missing.push(format!("{:?} {:?}", want.name, want.shape));
        }
        found.push(present);
    }
    for name in checkpoint.names().filter(|name| !taken.contains(name)) {
        let shape = tensors(checkpoint, name)?.shape(name)?;
        mismatch.unused.push(format!("{name:?} {shape:?}"));
    }
    if let Some(warning) = mismatch.verdict(dir)? {
        warn(warning);
    }
    Ok(found)
}

/// What every tensor's name begins with where the checkpoint has no such name: the base model was saved alone, as by
/// `LEDModel.save_pretrained`, and its names lack it.
fn bare_prefix<'a>(checkpoint: &Checkpoint, wanted: &'a [Wanted]) -> Option<&'a str> {
    let prefix = |name: &'a str| name.find('.').map(|dot| &name[..=dot]);
    let first = wanted.iter().find_map(|want| prefix(&want.name))?;
    checkpoint.names().all(|name| !name.starts_with(first)).then_some(first)
}

fn read(checkpoint: &Checkpoint, name: &str) -> Result<Vec<f32>> {
    let file = tensors(checkpoint, name)?;
    let values = file.f32(name)?;
    match first_nonfinite(&values) {
        None => Ok(values),
        Some(at) => Err(Error::data(
            file.path().display(),
            format!(
                "tensor {name:?}: element {at} is {} as float32; weights must be finite: use an earlier checkpoint",
                values[at]
            ),
        )),
    }
}

fn tensors<'a>(checkpoint: &'a Checkpoint, name: &str) -> Result<&'a super::Tensors> {
    checkpoint.get(name).ok_or_else(|| Error::internal(format!("tensor {name:?} was found and is gone")))
}
