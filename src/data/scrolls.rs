//! SCROLLS datasets as published: `<name>.zip` holding `<name>/<split>.jsonl`, or such a folder unpacked.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::{Record, Split, jsonl};
use crate::error::{Error, Result};

/// Largest split accepted from a zip, unpacked. The largest real one, GovReport's train, is under 1 GiB.
const LARGEST_SPLIT: u64 = 8 << 30;

/// Text deflates to a tenth at best; beyond this ratio a large entry is a zip bomb.
const LARGEST_RATIO: u64 = 100;

/// Entries below this size may have any ratio.
const SMALL_SPLIT: u64 = 16 << 20;

/// Where the splits of a dataset lie.
#[derive(Debug)]
pub enum Source {
    Folder(PathBuf),
    Zip(PathBuf),
}

impl Source {
    /// A folder with at least one split, or a zip file.
    pub fn find(path: &Path) -> Result<Self> {
        if path.is_dir() {
            if Split::ALL.iter().any(|split| path.join(split.file_name()).is_file()) {
                return Ok(Source::Folder(path.to_path_buf()));
            }
            let what = "holds none of train.jsonl, validation.jsonl, test.jsonl; a dataset in SCROLLS form has them directly in its folder";
            return Err(Error::missing(path, what));
        }
        let mut magic = [0u8; 4];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        match read {
            Ok(()) if magic.starts_with(b"PK") => Ok(Source::Zip(path.to_path_buf())),
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(Error::read(path, &error)),
            _ => Err(Error::data(
                path.display(),
                "is not a zip; give the published zip of a SCROLLS dataset or the folder with its train.jsonl and validation.jsonl",
            )),
        }
    }

    /// Calls `each` with the records of a split in file order.
    pub fn visit(&self, split: Split, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        match self {
            Source::Folder(folder) => visit_file(&folder.join(split.file_name()), split, each),
            Source::Zip(archive) => visit_entry(archive, split, each),
        }
    }
}

fn visit_file(path: &Path, split: Split, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => missing_split(path, split),
        _ => Error::read(path, &error),
    })?;
    let at = path.display().to_string();
    jsonl::visit(BufReader::with_capacity(1 << 20, file), &at, split, each)
}

fn missing_split(path: impl AsRef<Path>, split: Split) -> Error {
    Error::missing(
        path,
        format!(
            "not there; put the {} split here, one JSON object a line with the strings id, pid, input, output",
            split.name()
        ),
    )
}

fn visit_entry(path: &Path, split: Split, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::read(path, &error))?;
    let broken = |error: ZipError| {
        Error::data(path.display(), format!("is not a readable zip: {error}; download it again"))
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let index = find_entry(&archive, path, split)?;
    let entry = archive.by_index(index).map_err(broken)?;
    let name = entry.name().map_err(broken)?.into_owned();
    let at = format!("{}/{name}", path.display());
    let (size, packed) = (entry.size(), entry.compressed_size());
    let suspicious = size > SMALL_SPLIT && size / packed.max(1) > LARGEST_RATIO;
    if size > LARGEST_SPLIT || suspicious {
        let what =
            format!("unpacks from {packed} to {size} bytes, which no text does; refused as a zip bomb");
        return Err(Error::data(at, what));
    }
    // The declared size may lie: reading stops one byte past it, and the crate checks the sum at the end.
    let reader = BufReader::with_capacity(1 << 20, entry.take(size.saturating_add(1)));
    jsonl::visit(reader, &at, split, each)
}

/// The entry `<split>.jsonl` or `<folder>/<split>.jsonl`; the folder named like the zip wins.
fn find_entry<R: Read + std::io::Seek>(archive: &ZipArchive<R>, path: &Path, split: Split) -> Result<usize> {
    let stem = path.file_stem().unwrap_or_default();
    let mut found: Vec<(PathBuf, usize)> = Vec::new();
    for (index, name) in archive.file_names().enumerate() {
        let Ok(name) = name else {
            continue;
        };
        let entry = PathBuf::from(name.as_ref());
        let plain = entry.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || name.contains(['\\', '\0']) {
            let what = format!("holds an entry named {name:?}, which points outside; refused");
            return Err(Error::data(path.display(), what));
        }
        let depth = entry.components().count();
        if depth <= 2 && entry.file_name().is_some_and(|file| file == split.file_name()) {
            found.push((entry, index));
        }
    }
    let named = found.iter().find(|(entry, _)| entry.parent() == Some(Path::new(stem)));
    match (named, found.as_slice()) {
        (Some((_, index)), _) | (None, [(_, index)]) => Ok(*index),
        (None, []) => {
            let inside = Path::new(stem).join(split.file_name());
            Err(missing_split(path.join(inside), split))
        }
        (None, many) => {
            let names: Vec<_> = many.iter().map(|(entry, _)| entry.display().to_string()).collect();
            let what =
                format!("holds several datasets ({}); unpack it and give one folder", names.join(", "));
            Err(Error::data(path.display(), what))
        }
    }
}
