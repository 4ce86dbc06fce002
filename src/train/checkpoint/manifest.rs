//! What a checkpoint holds, written last: a folder without it, or that is not as it says, is no checkpoint.

use super::super::state::Cursor;
use super::{MANIFEST, Settings};
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Raised when an older program could no longer read what is written.
const FORMAT: u64 = 1;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u64,
    pub step: u64,
    /// Where in the data the run resumes.
    pub cursor: Cursor,
    /// The program that wrote it, and on what.
    pub version: String,
    pub device: String,
    pub settings: Settings,
    pub settings_blake3: String,
    pub files: BTreeMap<String, Digest>,
    /// Hash of this manifest with an empty string here.
    pub manifest_blake3: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    pub bytes: u64,
    pub blake3: String,
}

impl Digest {
    fn of(path: &Path) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        let (mut hash, mut bytes, mut chunk) = (blake3::Hasher::new(), 0, vec![0; CHUNK]);
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                n => {
                    hash.update(&chunk[..n]);
                    bytes += n as u64;
                }
            }
        }
        Ok(Digest { bytes, blake3: hash.finalize().to_hex().to_string() })
    }
}

impl Manifest {
    /// Writes the manifest of `dir`, all of whose files are on disk.
    pub fn write(dir: &Path, step: u64, cursor: Cursor, device: &str, settings: &Settings) -> Result<()> {
        let failed = |e| Error::output(dir, e);
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                found.insert(name.to_string(), Digest::of(&path).map_err(|e| Error::output(&path, e))?);
            }
        }
        let mut manifest = Manifest {
            format: FORMAT,
            step,
            cursor,
            version: env!("CARGO_PKG_VERSION").into(),
            device: device.into(),
            settings: settings.clone(),
            settings_blake3: settings.hash(),
            files: found,
            manifest_blake3: String::new(),
        };
        manifest.manifest_blake3 = manifest.own_hash()?;
        files::write_text(&dir.join(MANIFEST), &(manifest.text()? + "\n"))
    }

    /// Reads the manifest of `dir` and checks every file against it.
    pub fn verify(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let broken = |what: String| Error::data(path.display(), what);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, &e))?;
        // A newer format may have other fields, and says so in this one.
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }
        let Format { format } = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
        if format != FORMAT {
            let what = format!("format {format}, but this program reads format {FORMAT}; use a newer one");
            return Err(broken(what));
        }
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
        if manifest.own_hash()? != manifest.manifest_blake3 {
            return Err(broken("its hash is not the one it was written with; it is damaged".into()));
        }
        for (name, want) in &manifest.files {
            let path = dir.join(name);
            let got = Digest::of(&path).map_err(|e| Error::read(&path, &e))?;
            if got.bytes != want.bytes {
                let what =
                    format!("{} bytes long, but {} were written; it is damaged", got.bytes, want.bytes);
                return Err(Error::data(path.display(), what));
            }
            if got.blake3 != want.blake3 {
                let what = "its hash is not the one it was written with; it is damaged";
                return Err(Error::data(path.display(), what));
            }
        }
        Ok(manifest)
    }

    fn own_hash(&self) -> Result<String> {
        let text = Manifest { manifest_blake3: String::new(), ..self.clone() }.text()?;
        Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
    }

    fn text(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|e| Error::internal(format!("a manifest is not JSON: {e}")))
    }
}
