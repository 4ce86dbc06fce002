//! One safetensors file: its header in memory, its values read on demand.

use super::elements::{self, Decode};
use super::header::{self, MAX_HEADER};
use crate::error::{Error, Result};
use bytemuck::cast_slice;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes read at a time: whole elements of any type, small enough to be decoded from cache.
const CHUNK: usize = 256 * 1024;

/// The tensors of an open safetensors file.
#[derive(Debug)]
pub struct Tensors {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the values begin, in bytes from the start of the file.
    start: u64,
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
    Ok(Tensors { path: path.to_path_buf(), file, metadata, start })
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

    /// The names of all tensors, in the order of their values in the file.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    pub fn dtype(&self, name: &str) -> Result<Dtype> {
        Ok(self.info(name)?.dtype)
    }

    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.info(name)?.shape)
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

    /// Where a tensor's values begin, in bytes after the header.
    pub(super) fn offset(&self, name: &str) -> usize {
        self.metadata.info(name).map_or(0, |info| info.data_offsets.0)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.metadata.info(name).ok_or_else(|| self.broken(name, "there is no such tensor"))
    }

    fn decoder<T>(&self, name: &str, find: fn(Dtype) -> Option<Decode<T>>, known: &str) -> Result<Decode<T>> {
        let dtype = self.dtype(name)?;
        find(dtype).ok_or_else(|| self.broken(name, format!("dtype {dtype}, expected one of {known}")))
    }

    fn read<T>(&self, name: &str, decode: Decode<T>) -> Result<Vec<T>> {
        let length = self.shape(name)?.iter().product();
        let mut values = Vec::new();
        values
            .try_reserve_exact(length)
            .map_err(|e| Error::DoesNotFit(format!("{}: tensor {name:?}: {e}", self.path.display())))?;
        self.chunks(name, |bytes| decode(bytes, &mut values))?;
        Ok(values)
    }

    fn chunks(&self, name: &str, mut each: impl FnMut(&[u8])) -> Result<()> {
        let (from, to) = self.info(name)?.data_offsets;
        let failed = |e| unreadable(&self.path, &format!("tensor {name:?}"), &e);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + from as u64)).map_err(failed)?;
        let mut left = to - from;
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
