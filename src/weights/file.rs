//! One file of tensors: what it holds in memory, its values read on demand.

use super::elements::{self, Decode};
use super::header::{self, MAX_HEADER};
use crate::error::{Error, Result};
use bytemuck::cast_slice;
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes read at a time: whole elements of any type, small enough to be decoded from cache.
const CHUNK: usize = 256 * 1024;

/// The tensors of an open file.
#[derive(Debug)]
pub struct Tensors {
    path: PathBuf,
    file: File,
    stored: BTreeMap<String, Stored>,
}

/// Where and how a tensor lies in its file.
#[derive(Debug, PartialEq)]
pub(super) struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Where the first element is, in bytes from the start of the file.
    pub start: u64,
    /// From the first element to the end of the last.
    pub bytes: u64,
    /// Steps of each dimension in elements; none where the elements lie in row-major order.
    pub strides: Option<Vec<usize>>,
}

/// Opens any safetensors file and checks that its header describes it to the last byte.
pub fn read_file(path: &Path) -> Result<Tensors> {
    let (file, length) = open(path)?;
    let mut head = Vec::new();
    (&file).take(64).read_to_end(&mut head).map_err(|e| Error::read(path, &e))?;
    let Some(size) = head.first_chunk().map(|size| u64::from_le_bytes(*size)) else {
        return Err(not_safetensors(path, &head, length));
    };
    if size > MAX_HEADER || size > length.saturating_sub(8) {
        return Err(not_safetensors(path, &head, length));
    }

    let mut json = vec![0; size as usize];
    (&file)
        .seek(SeekFrom::Start(8))
        .and_then(|_| (&file).read_exact(&mut json))
        .map_err(|e| unreadable(path, "the header", &e))?;
    let metadata = header::parse(path, &json)?;
    let start = 8 + size;
    let described = start.checked_add(metadata.data_len() as u64);
    if described != Some(length) {
        return Err(Error::data(
            path.display(),
            format!(
                "the file has {length} bytes, but its header describes {} bytes; \
                 it is truncated or damaged: download it again",
                described.map_or("too many".into(), |bytes| bytes.to_string())
            ),
        ));
    }
    let stored = metadata.tensors().into_iter().map(|(name, info)| {
        let (from, to) = info.data_offsets;
        let (shape, start, bytes) = (info.shape.clone(), start + from as u64, (to - from) as u64);
        (name, Stored { dtype: info.dtype, shape, start, bytes, strides: None })
    });
    Ok(Tensors::new(path, file, stored.collect()))
}

/// Opens a regular file and gives its length in bytes.
pub(super) fn open(path: &Path) -> Result<(File, u64)> {
    // Asked before opening, because opening a pipe would wait for a writer.
    let kind = std::fs::metadata(path).map_err(|e| Error::read(path, &e))?;
    if !kind.is_file() {
        return Err(Error::data(path.display(), "not a regular file"));
    }
    let file = File::open(path).map_err(|e| Error::read(path, &e))?;
    let length = file.metadata().map_err(|e| Error::read(path, &e))?.len();
    Ok((file, length))
}

impl Tensors {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn new(path: &Path, file: File, stored: BTreeMap<String, Stored>) -> Self {
        Tensors { path: path.to_path_buf(), file, stored }
    }

    /// The names of all tensors, in the order of their values in the file.
    pub fn names(&self) -> Vec<String> {
        let mut order: Vec<_> = self.stored.iter().collect();
        order.sort_by_key(|(_, stored)| (stored.start, stored.bytes));
        order.into_iter().map(|(name, _)| name.clone()).collect()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.stored.contains_key(name)
    }

    pub fn dtype(&self, name: &str) -> Result<Dtype> {
        Ok(self.stored(name)?.dtype)
    }

    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.stored(name)?.shape)
    }

    /// Reads a tensor of floating-point numbers; `F64` is rounded to nearest.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>> {
        let decode = self.decoder(name, elements::floats, elements::FLOATS)?;
        self.read(name, decode)
    }

    /// Reads a tensor of integers or booleans.
    pub fn i64(&self, name: &str) -> Result<Vec<i64>> {
        let decode = self.decoder(name, elements::integers, elements::INTEGERS)?;
        self.read(name, decode)
    }

    /// Whether a tensor, converted to `f32`, is `values` bit for bit.
    pub(super) fn has_bits(&self, name: &str, values: &[f32]) -> Result<bool> {
        let decode = self.decoder(name, elements::floats, elements::FLOATS)?;
        if self.stored(name)?.strides.is_some() {
            return Ok(cast_slice::<f32, u8>(&self.read(name, decode)?) == cast_slice::<f32, u8>(values));
        }
        let mut decoded = Vec::new();
        let mut rest = values;
        let mut same = true;
        self.chunks(name, |bytes| {
            decoded.clear();
            decode(bytes, &mut decoded);
            let (expected, after) = rest.split_at(decoded.len().min(rest.len()));
            same &= cast_slice::<f32, u8>(&decoded) == cast_slice::<f32, u8>(expected);
            rest = after;
        })?;
        Ok(same && rest.is_empty())
    }

    pub(super) fn stored(&self, name: &str) -> Result<&Stored> {
        self.stored.get(name).ok_or_else(|| self.broken(name, "there is no such tensor"))
    }

    fn decoder<T>(&self, name: &str, find: fn(Dtype) -> Option<Decode<T>>, known: &str) -> Result<Decode<T>> {
        let dtype = self.dtype(name)?;
        find(dtype).ok_or_else(|| self.broken(name, format!("dtype {dtype}, expected one of {known}")))
    }

    fn read<T: Copy>(&self, name: &str, decode: Decode<T>) -> Result<Vec<T>> {
        let stored = self.stored(name)?;
        let length = match stored.strides {
            None => stored.shape.iter().product(),
            Some(_) => (stored.bytes / (stored.dtype.bitsize() as u64 / 8)) as usize,
        };
        let does_not_fit = |e| Error::DoesNotFit(format!("{}: tensor {name:?}: {e}", self.path.display()));
        let mut values = Vec::new();
        values.try_reserve_exact(length).map_err(does_not_fit)?;
        self.chunks(name, |bytes| decode(bytes, &mut values))?;
        Ok(match &stored.strides {
            None => values,
            Some(strides) => row_major(&values, &stored.shape, strides),
        })
    }

    fn chunks(&self, name: &str, mut each: impl FnMut(&[u8])) -> Result<()> {
        let stored = self.stored(name)?;
        let failed = |e| unreadable(&self.path, &format!("tensor {name:?}"), &e);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(stored.start)).map_err(failed)?;
        let mut left = stored.bytes as usize;
        let mut buffer = vec![0u64; left.min(CHUNK).div_ceil(8)];
        while left > 0 {
            let chunk = &mut bytemuck::cast_slice_mut(&mut buffer)[..left.min(CHUNK)];
            file.read_exact(chunk).map_err(failed)?;
            each(chunk);
            left -= chunk.len();
        }
        Ok(())
    }

    fn broken(&self, name: &str, what: impl std::fmt::Display) -> Error {
        Error::data(self.path.display(), format!("tensor {name:?}: {what}"))
    }
}

/// The elements of a view in row-major order; every one of them is among `values`.
fn row_major<T: Copy>(values: &[T], shape: &[usize], strides: &[usize]) -> Vec<T> {
    let mut rows = vec![0];
    let (Some((&length, outer)), Some(&step)) = (shape.split_last(), strides.last()) else {
        return values.to_vec();
    };
    for (&size, &stride) in outer.iter().zip(strides) {
        rows = rows.iter().flat_map(|row| (0..size).map(move |i| row + i * stride)).collect();
    }
    rows.into_iter().flat_map(|row| (0..length).map(move |i| values[row + i * step])).collect()
}

fn not_safetensors(path: &Path, head: &[u8], length: u64) -> Error {
    let what = header::recognise(head).map_or_else(
        || format!("not a safetensors file, or only the start of one ({length} bytes); download it again"),
        str::to_string,
    );
    Error::data(path.display(), what)
}

fn unreadable(path: &Path, part: &str, source: &std::io::Error) -> Error {
    match source.kind() {
        ErrorKind::UnexpectedEof => Error::data(
            path.display(),
            format!("the file shrank while {part} was read; do not write to it meanwhile"),
        ),
        _ => Error::data(path.display(), format!("cannot read {part}: {source}")),
    }
}
