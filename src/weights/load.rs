//! Finds a model's tensors in a checkpoint.

use super::Wanted;
use super::checkpoint::Checkpoint;
use super::elements::{FLOATS, first_nonfinite, floats};
use super::mismatch::Mismatch;
use crate::error::{Error, Result};
use std::collections::HashSet;
use std::path::Path;

/// Reads a model directory: values in the order of `wanted`, `None` for optional tensors that are absent.
///
/// Missing, unused and misfit tensors are one error; warnings go to stderr.
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
    let checkpoint = Checkpoint::open(dir)?;
    let found = find(dir, &checkpoint, wanted)?;
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&at| found[at].first().map(|name| checkpoint.position(name)));
    for at in order {
        if let Some((name, ties)) = found[at].split_first() {
            let values = read(&checkpoint, name)?;
            for tie in ties {
                if !tensors(&checkpoint, tie)?.has_bits(tie, &values)? {
                    warn(format!(
                        "{}: {name:?} and {tie:?} are one tensor to this model but differ; {name:?} is used",
                        dir.display()
                    ));
                }
            }
            place(at, values)?;
        }
    }
    Ok(())
}

/// The names under which each wanted tensor is present, its own name first.
fn find<'a>(dir: &Path, checkpoint: &Checkpoint, wanted: &'a [Wanted]) -> Result<Vec<Vec<&'a str>>> {
    let mut mismatch = Mismatch::default();
    let mut taken = HashSet::new();
    let mut found = Vec::with_capacity(wanted.len());
    for want in wanted {
        let mut present = Vec::new();
        for name in std::iter::once(&want.name).chain(&want.aliases) {
            let Some(tensors) = checkpoint.get(name) else {
                continue;
            };
            let (shape, dtype) = (tensors.shape(name)?, tensors.dtype(name)?);
            if shape != want.shape {
                let line = format!("{name:?}: expected {:?}, found {shape:?}", want.shape);
                mismatch.shape.push(line);
            }
            if floats(dtype).is_none() {
                let line = format!("{name:?}: {dtype}, expected one of {FLOATS}");
                mismatch.dtype.push(line);
            }
            taken.insert(name.as_str());
            present.push(name.as_str());
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
    match mismatch.into_error(dir) {
        Some(error) => Err(error),
        None => Ok(found),
    }
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
