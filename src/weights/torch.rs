//! `pytorch_model.bin`: a pickle that describes tensors and, in the same zip archive, their values.
//!
//! Read without running anything, and values only when they are asked for: their records are not compressed.

mod archive;
mod pickle;
mod value;

use super::file::{self, Stored, Tensors};
use crate::error::{Error, Result};
use crate::hub;
use archive::{Archive, Record};
use pickle::State;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use value::{Storage, View};

/// The pickles of published models are below 1 MB.
const LONGEST_PICKLE: u64 = 16 << 20;

/// What every file starts with that PyTorch wrote before 1.6: a pickle of one number.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Opens a file of `torch.save` and checks that every tensor lies in its storage.
pub fn read_file(path: &Path) -> Result<Tensors> {
    let (file, length) = file::open(path)?;
    let refused = |what: String| Error::data(path.display(), what);
    let mut head = Vec::new();
    (&file).take(512).read_to_end(&mut head).map_err(|e| Error::read(path, &e))?;
    if !head.starts_with(b"PK") {
        return Err(refused(not_an_archive(&head)));
    }
    let archive = Archive::open(&file, length).map_err(refused)?;
    let pickle = record(&file, &archive, "data.pkl").map_err(refused)?;
    if archive.get("byteorder").is_some() {
        let order = record(&file, &archive, "byteorder").map_err(refused)?;
        if order != b"little" {
            let what = "it was saved on a big-endian machine; save it as safetensors there";
            return Err(refused(what.into()));
        }
    }
    let stored = tensors(&pickle, &archive).map_err(refused)?;
    Ok(Tensors::new(path, file, stored))
}

fn not_an_archive(head: &[u8]) -> String {
    let again = "load and save it again with PyTorch 1.6 or newer: \
                 torch.save(torch.load(\"pytorch_model.bin\", weights_only=True), \"pytorch_model.bin\")";
    if let Some(what) = hub::recognise(head) {
        what.to_string()
    } else if head.starts_with(LEGACY) {
        format!("this is the form that PyTorch wrote before 1.6; {again}")
    } else if head.get(257..262) == Some(b"ustar") {
        "this is a tar archive, as PyTorch wrote in 2016; convert it to safetensors with the program it is from".into()
    } else if head.starts_with(b"\x80") {
        format!("this is a pickle without the archive that torch.save writes; {again}")
    } else {
        "not a PyTorch file, or a damaged one; download it again".into()
    }
}

/// The content of a small record.
fn record(file: &File, archive: &Archive, name: &str) -> std::result::Result<Vec<u8>, String> {
    let Record { start, bytes } = archive.get(name).ok_or_else(|| format!("the archive has no {name}"))?;
    if bytes > LONGEST_PICKLE {
        return Err(format!("{name} has {bytes} bytes, too many for a description of tensors"));
    }
    let mut content = vec![0; bytes as usize];
    let mut file = file;
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.read_exact(&mut content))
        .map_err(|e| format!("cannot read {name}: {e}"))?;
    Ok(content)
}

fn tensors(pickle: &[u8], archive: &Archive) -> std::result::Result<BTreeMap<String, Stored>, String> {
    let State { entries, storages } = pickle::read(pickle)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in entries {
        let storage = storages.get(view.storage).ok_or("a tensor without a storage")?;
        let stored = locate(&view, storage, archive).map_err(|what| format!("tensor {name:?}: {what}"))?;
        if tensors.insert(name.to_string(), stored).is_some() {
            return Err(format!("tensor {name:?} is there twice"));
        }
    }
    Ok(tensors)
}

/// Where in the file a tensor lies.
fn locate(view: &View, storage: &Storage, archive: &Archive) -> std::result::Result<Stored, String> {
    let Storage { dtype, key, length } = storage;
    let width = dtype.bitsize() as u64 / 8;
    let record =
        archive.get(&format!("data/{key}")).ok_or_else(|| format!("the archive has no data/{key}"))?;
    if length.checked_mul(width) != Some(record.bytes) {
        return Err(format!(
            "its storage is said to hold {length} elements of {dtype}, but data/{key} has {} bytes",
            record.bytes
        ));
    }
    let elements = extent(view, *length)?;
    let size = |n: &u64| usize::try_from(*n).map_err(|_| format!("a dimension of {n}"));
    let sizes = |all: &[u64]| all.iter().map(size).collect::<std::result::Result<Vec<_>, _>>();
    Ok(Stored {
        dtype: *dtype,
        shape: sizes(&view.shape)?,
        start: record.start + view.offset * width,
        bytes: elements * width,
        strides: match is_row_major(view) {
            true => None,
            false => Some(sizes(&view.strides)?),
        },
    })
}

/// The elements from a view's first to its last, which must lie in a storage of `length`.
fn extent(view: &View, length: u64) -> std::result::Result<u64, String> {
    let View { offset, shape, strides, .. } = view;
    let outside = || {
        format!("shape {shape:?}, strides {strides:?} from {offset} leave its storage of {length} elements")
    };
    if shape.len() != strides.len() {
        return Err(format!("shape {shape:?} with strides {strides:?}"));
    }
    let count = shape.iter().try_fold(1u64, |count, size| count.checked_mul((*size).max(1)));
    let count = count.ok_or_else(outside)?;
    if shape.contains(&0) {
        return if *offset <= length { Ok(0) } else { Err(outside()) };
    }
    // Strides of 0 could make terabytes of one element.
    if count > length {
        return Err(format!("shape {shape:?} repeats elements of its storage; save a contiguous() copy"));
    }
    let mut last = 0u64;
    for (size, stride) in shape.iter().zip(strides) {
        let step = (size - 1).checked_mul(*stride).and_then(|step| last.checked_add(step));
        last = step.ok_or_else(outside)?;
    }
    match last.checked_add(1).and_then(|elements| Some((elements, elements.checked_add(*offset)?))) {
        Some((elements, end)) if end <= length => Ok(elements),
        _ => Err(outside()),
    }
}

fn is_row_major(view: &View) -> bool {
    let mut step = 1u64;
    for (size, stride) in view.shape.iter().zip(&view.strides).rev() {
        if *size != 1 && *stride != step {
            return view.shape.contains(&0);
        }
        step = step.saturating_mul(*size);
    }
    true
}
