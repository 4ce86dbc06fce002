//! Writes safetensors files whole or not at all.

use super::elements::first_nonfinite;
use super::{INDEX, WEIGHTS};
use crate::error::{Error, Result};
use crate::files;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Values to save.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    F32(&'a [f32]),
    I64(&'a [i64]),
}

/// A tensor to save, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub values: Values<'a>,
}

impl Named<'_> {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::I64(_) => Dtype::I64,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self.values {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::I64(values) => bytemuck::cast_slice(values),
        }
    }
}

/// Writes `model.safetensors` as transformers loads it, and removes shards and the index it replaces.
///
/// Makes the directory if need be. Tensors with a NaN or an infinity are refused, as they are on loading.
pub fn save(dir: &Path, tensors: &[Named]) -> Result<()> {
    let path = dir.join(WEIGHTS);
    for tensor in tensors {
        if let Values::F32(values) = tensor.values
            && let Some(at) = first_nonfinite(values)
        {
            return Err(Error::data(
                path.display(),
                format!(
                    "not written, because element {at} of tensor {:?} is {}; use an earlier checkpoint",
                    tensor.name, values[at]
                ),
            ));
        }
    }
    std::fs::create_dir_all(dir).map_err(|e| Error::output(dir, e))?;
    write_file(&path, tensors)?;
    remove_shards(dir).map_err(|e| Error::output(dir, format!("{e}; remove its old shards")))
}

/// Writes a safetensors file atomically: on an error the file that was there before is untouched.
pub fn write_file(path: &Path, tensors: &[Named]) -> Result<()> {
    let mut tensors: Vec<&Named> = tensors.iter().collect();
    // Wider elements first keeps every tensor aligned; names make the bytes independent of the caller's order.
    tensors.sort_by(|a, b| b.dtype().cmp(&a.dtype()).then(a.name.cmp(b.name)));
    let header = header(tensors.iter().map(|t| (t.name, t.dtype(), t.shape, t.bytes().len())))?;
    files::replace(path, |file| {
        file.write_all(&header)?;
        tensors.iter().try_for_each(|t| file.write_all(t.bytes()))
    })
}

/// The length of a header and the header, of a file whose tensors follow in this order: names, types, shapes, bytes.
pub(super) fn header<'a>(
    tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize], usize)>,
) -> Result<Vec<u8>> {
    let mut names = HashSet::new();
    let mut offset = 0;
    let mut entries = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        if !names.insert(name) {
            return Err(Error::internal(format!("tensor {name:?} is saved twice")));
        }
        let end = offset + bytes;
        let info = TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (offset, end) };
        entries.push((name.to_string(), info));
        offset = end;
    }
    // transformers refuses files that do not say which framework's layout they have.
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let metadata =
        Metadata::new(Some(format), entries).map_err(|e| Error::internal(format!("tensors to save: {e}")))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| Error::internal(format!("header: {e}")))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes()[..], &header].concat())
}

fn remove_shards(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_shard) {
            std::fs::remove_file(entry.path())?;
        }
    }
    File::open(dir)?.sync_all()
}

/// Whether a file is the index or a shard, such as `model-00001-of-00002.safetensors`.
fn is_shard(name: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    name == INDEX
        || name
            .strip_prefix("model-")
            .and_then(|rest| rest.strip_suffix(".safetensors")?.split_once("-of-"))
            .is_some_and(|(at, of)| number(at) && number(of))
}
