//! Datasets in files: `<name>.zip` holding `<name>/<split>.jsonl`, as SCROLLS is published, or such a folder unpacked.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::files::{self, Form};
use super::jsonl::{self, Visit};
use super::{Split, table};
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
            if Split::ALL.iter().any(|split| files::find(path, *split).is_some()) {
                return Ok(Source::Folder(path.to_path_buf()));
            }
            let usual = || "a dataset has them directly in its folder".to_string();
            let what = files::instead(path).unwrap_or_else(usual);
            let what = format!(
                "holds none of train.jsonl, validation.jsonl, test.jsonl (or .json, .csv, .tsv); {what}"
            );
            return Err(Error::missing(path, what));
        }
        let mut magic = [0u8; 4];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match read {
            Ok(()) if magic.starts_with(b"PK") => Ok(Source::Zip(path.to_path_buf())),
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(Error::read(path, &error)),
            _ if Split::ALL.iter().any(|split| files::rank(&name, *split).is_some()) => {
                let folder = path.parent().filter(|folder| *folder != Path::new(""));
                let folder = folder.unwrap_or(Path::new(".")).display();
                let what = format!("is the file of one split; give the folder of the splits, {folder}");
                Err(Error::data(path.display(), what))
            }
            _ => Err(Error::data(
                path.display(),
                "is not a zip; give the published zip of a SCROLLS dataset or the folder with its train.jsonl and validation.jsonl",
            )),
        }
    }

    /// Hands over the records of a split in file order.
    pub fn visit(&self, visit: &mut Visit) -> Result<()> {
        match self {
            Source::Folder(folder) => {
                let Some((path, form)) = files::find(folder, visit.split) else {
                    return Err(missing_split(folder.join(visit.split.file_name()), visit.split));
                };
                let file = File::open(&path).map_err(|error| Error::read(&path, &error))?;
                let reader = BufReader::with_capacity(1 << 20, file);
                visit_form(reader, &path.display().to_string(), form, visit)
            }
            Source::Zip(archive) => visit_entry(archive, visit),
        }
    }
}

fn visit_form(mut reader: impl BufRead, at: &str, form: Form, visit: &mut Visit) -> Result<()> {
    match form {
        Form::Lines => jsonl::visit(reader, at, visit),
        Form::Csv => table::visit_csv(reader, at, visit),
        Form::Json => {
            let start = reader.fill_buf().map_err(|error| Error::data(at, error.to_string()))?;
            let first = start.iter().find(|byte| byte.is_ascii_punctuation());
            match first {
                Some(b'[') => table::visit_list(reader, at, visit),
                _ => jsonl::visit(reader, at, visit),
            }
        }
    }
}

fn missing_split(path: impl AsRef<Path>, split: Split) -> Error {
    Error::missing(
        path,
        format!(
            "not there; put the {} split here, one JSON object a line with the strings input and output",
            split.name()
        ),
    )
}

fn visit_entry(path: &Path, visit: &mut Visit) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::read(path, &error))?;
    let broken = |error: ZipError| {
        Error::data(path.display(), format!("is not a readable zip: {error}; download it again"))
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let (index, form) = find_entry(&archive, path, visit.split)?;
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
    visit_form(reader, &at, form, visit)
}

/// The entry of a split in any folder; the folder named like the zip wins.
fn find_entry<R: Read + std::io::Seek>(
    archive: &ZipArchive<R>,
    path: &Path,
    split: Split,
) -> Result<(usize, Form)> {
    let stem = path.file_stem().unwrap_or_default();
    let mut found: Vec<(PathBuf, usize, (usize, Form))> = Vec::new();
    for (index, name) in archive.file_names().enumerate() {
        let Ok(name) = name else {
            continue;
        };
        // Some tools of Windows write backslashes, and some others a leading dot.
        let entry = PathBuf::from(name.replace('\\', "/"));
        let plain = entry.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain || name.contains('\0') {
            let what = format!("holds an entry named {name:?}, which points outside; refused");
            return Err(Error::data(path.display(), what));
        }
        let entry: PathBuf = entry.components().filter(|part| *part != Component::CurDir).collect();
        let rank = entry.file_name().and_then(|file| files::rank(file.to_str()?, split));
        if let Some(rank) = rank.filter(|_| !entry.starts_with("__MACOSX")) {
            found.push((entry, index, rank));
        }
    }
    found.sort_by(|a, b| (a.2.0, &a.0).cmp(&(b.2.0, &b.0)));
    let folder = |entry: &Path| entry.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut folders: Vec<PathBuf> = found.iter().map(|(entry, ..)| folder(entry)).collect();
    folders.sort();
    folders.dedup();
    let named = found.iter().find(|(entry, ..)| folder(entry).file_name() == Some(stem));
    match (named, folders.as_slice(), found.first()) {
        (Some((_, index, (_, form))), ..) | (None, [_], Some((_, index, (_, form)))) => Ok((*index, *form)),
        (None, many, Some(_)) => {
            let names: Vec<_> = many.iter().map(|folder| folder.display().to_string()).collect();
            let what =
                format!("holds several datasets ({}); unpack it and give one folder", names.join(", "));
            Err(Error::data(path.display(), what))
        }
        (None, ..) => {
            let inside = Path::new(stem).join(split.file_name());
            Err(missing_split(path.join(inside), split))
        }
    }
}
