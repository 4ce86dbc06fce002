//! Writing a dataset in SCROLLS form: a folder of `<split>.jsonl`.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{Record, Split};
use crate::error::{Error, Result};

/// What to do when an output file is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Replace,
}

/// Splits on their way to disk. Either all files appear, in [`Writer::finish`], or none.
pub struct Writer<'a> {
    to: &'a Path,
    existing: Existing,
    written: Vec<(NamedTempFile, PathBuf)>,
}

impl<'a> Writer<'a> {
    /// Creates the folder `to`.
    pub fn new(to: &'a Path, existing: Existing) -> Result<Self> {
        fs::create_dir_all(to).map_err(|error| Error::output(to, error))?;
        for path in Split::ALL.map(|split| to.join(split.file_name())) {
            if existing == Existing::Refuse && path.exists() {
                let what = "it is there already; choose another folder or pass --overwrite";
                return Err(Error::output(&path, what));
            }
        }
        Ok(Writer { to, existing, written: Vec::new() })
    }

    /// Writes the records of a split and returns how many there are.
    pub fn write(
        &mut self,
        split: Split,
        records: impl IntoIterator<Item = Result<Record>>,
    ) -> Result<usize> {
        let failed = |error: std::io::Error| Error::output(self.to, error);
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // The umask applies to this; tempfile alone would make the file private.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.prefix(".import-").tempfile_in(self.to).map_err(failed)?;
        let mut out = BufWriter::new(file.as_file());
        let mut count = 0;
        for record in records {
            serde_json::to_writer(&mut out, &record?).map_err(|error| failed(error.into()))?;
            out.write_all(b"\n").map_err(failed)?;
            count += 1;
        }
        out.flush().map_err(failed)?;
        drop(out);
        file.as_file().sync_all().map_err(failed)?;
        self.written.push((file, self.to.join(split.file_name())));
        Ok(count)
    }

    /// Puts the files in their places.
    pub fn finish(self) -> Result<()> {
        for (file, path) in self.written {
            let placed = match self.existing {
                Existing::Replace => file.persist(&path),
                Existing::Refuse => file.persist_noclobber(&path),
            };
            placed.map_err(|error| Error::output(&path, error.error))?;
        }
        Ok(())
    }
}
