//! A model directory's weights: one file, or shards with an index.

use super::file::{self, Tensors};
use super::header::{MAX_HEADER, UniqueMap, recognise};
use super::{INDEX, WEIGHTS, torch};
use crate::error::{Error, Result};
use crate::hub;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// A kind of file that weights lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Safetensors,
    /// What `torch.save` writes.
    Torch,
}

impl Format {
    /// In order of preference, as transformers has it.
    const ALL: [Format; 2] = [Format::Safetensors, Format::Torch];

    /// The file of a model in one piece.
    pub fn whole(self) -> &'static str {
        match self {
            Format::Safetensors => WEIGHTS,
            Format::Torch => "pytorch_model.bin",
        }
    }

    /// The file that names the shards of a model.
    pub fn index(self) -> &'static str {
        match self {
            Format::Safetensors => INDEX,
            Format::Torch => "pytorch_model.bin.index.json",
        }
    }

    fn read(self, path: &Path) -> Result<Tensors> {
        match self {
            Format::Safetensors => file::read_file(path),
            Format::Torch => torch::read_file(path),
        }
    }
}

/// The file of a model directory that its weights are read from, or the index of their shards.
pub fn entry(dir: &Path) -> Option<(Format, &'static str)> {
    let entries = Format::ALL.iter().flat_map(|&format| [(format, format.whole()), (format, format.index())]);
    entries.into_iter().find(|(_, name)| is_entry(&dir.join(name)))
}

/// Every tensor of a model directory and the file that holds it.
pub(super) struct Checkpoint {
    files: Vec<Tensors>,
    /// Positions in `files`, by tensor name.
    holder: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Opens `model.safetensors` or its shards, or else `pytorch_model.bin` or its shards.
    pub fn open(dir: &Path) -> Result<Self> {
        match entry(dir) {
            Some((format, name)) if name == format.whole() => Self::of(vec![format.read(&dir.join(name))?]),
            Some((format, _)) => Self::of_shards(dir, format),
            None => {
                let [safetensors, torch] = Format::ALL.map(Format::whole);
                let what = format!(
                    "not there, and neither is {torch} or an index of shards; name a model directory"
                );
                Err(hub::lacks(dir, safetensors, &what))
            }
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.holder.keys().map(String::as_str)
    }

    pub fn get(&self, name: &str) -> Option<&Tensors> {
        self.holder.get(name).map(|&at| &self.files[at])
    }

    /// Sorts tensors as they lie on disk.
    pub fn position(&self, name: &str) -> Option<(usize, u64)> {
        let &at = self.holder.get(name)?;
        Some((at, self.files[at].stored(name).ok()?.start))
    }

    /// Whether two names are for the same elements of the same file.
    pub fn is_shared(&self, one: &str, other: &str) -> Result<bool> {
        let (Some(first), Some(second)) = (self.get(one), self.get(other)) else {
            return Ok(false);
        };
        Ok(std::ptr::eq(first, second) && first.stored(one)? == second.stored(other)?)
    }

    fn of(files: Vec<Tensors>) -> Result<Self> {
        let mut holder = BTreeMap::new();
        for (at, file) in files.iter().enumerate() {
            for name in file.names() {
                if let Some(other) = holder.insert(name.clone(), at) {
                    let other = files[other].path().display();
                    return Err(Error::data(
                        file.path().display(),
                        format!("tensor {name:?} is also in {other}; save the model again"),
                    ));
                }
            }
        }
        Ok(Checkpoint { files, holder })
    }

    fn of_shards(dir: &Path, format: Format) -> Result<Self> {
        let path = dir.join(format.index());
        let UniqueMap(weight_map) = read_index(&path)?;
        let shards: BTreeSet<&str> = weight_map.iter().map(|(_, shard)| shard.as_str()).collect();
        let open = |shard| format.read(&shard_path(&path, dir, shard)?);
        let files = shards.into_iter().map(open).collect::<Result<_>>()?;
        let checkpoint = Self::of(files)?;
        for (name, shard) in &weight_map {
            let holder = checkpoint.get(name).map(Tensors::path);
            if holder.and_then(Path::file_name) != Some(shard.as_ref()) {
                return Err(Error::data(
                    path.display(),
                    format!("tensor {name:?} should be in {shard:?}, which does not hold it"),
                ));
            }
        }
        Ok(checkpoint)
    }
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: UniqueMap<String>,
}

fn read_index(path: &Path) -> Result<UniqueMap<String>> {
    let (file, length) = file::open(path)?;
    if length > MAX_HEADER {
        let what = format!("{length} bytes are too many for an index of shards");
        return Err(Error::data(path.display(), what));
    }
    let mut json = Vec::new();
    file.take(MAX_HEADER).read_to_end(&mut json).map_err(|e| Error::read(path, &e))?;
    let index: Index = serde_json::from_slice(&json).map_err(|e| {
        let what = recognise(&json).map_or_else(|| e.to_string(), str::to_string);
        Error::data(path.display(), what)
    })?;
    Ok(index.weight_map)
}

/// The path of a shard that `index` names: a file of `dir` itself, also once links are followed.
fn shard_path(index: &Path, dir: &Path, shard: &str) -> Result<PathBuf> {
    let outside = || {
        Error::data(
            index.display(),
            format!("shard {shard:?} is outside the model directory; it is not read"),
        )
    };
    let mut parts = Path::new(shard).components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else {
        return Err(outside());
    };
    if name != shard {
        return Err(outside());
    }
    let path = dir.join(name);
    let target = path.canonicalize().map_err(|e| {
        Error::missing(&path, format!("{e}, and {} names this shard{}", index.display(), hub::again(dir)))
    })?;
    let home = dir.canonicalize().map_err(|e| Error::read(dir, &e))?;
    match target.starts_with(&home) || target.parent() == hub_blobs(&home).as_deref() {
        true => Ok(path),
        false => Err(outside()),
    }
}

/// Where the Hugging Face cache keeps the files that `models--*/snapshots/<commit>` links to.
fn hub_blobs(dir: &Path) -> Option<PathBuf> {
    let snapshots = dir.parent()?;
    (snapshots.file_name()? == "snapshots").then(|| snapshots.with_file_name("blobs"))
}

/// Whether the name is taken, be it by a link to nothing.
fn is_entry(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
