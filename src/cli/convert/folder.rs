//! A folder that appears when all of it is written.

use crate::error::{Error, Result};
use crate::files;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Replace,
}

/// A folder being written beside the place it is for.
pub struct Folder {
    target: PathBuf,
    unfinished: TempDir,
}

impl Folder {
    /// Checks `target` before the work; nothing of it is changed yet. `source` is read and must lie elsewhere.
    pub fn start(target: &Path, existing: Existing, source: &Path) -> Result<Self> {
        if let (Ok(from), Ok(to)) = (source.canonicalize(), target.canonicalize())
            && from == to
        {
            let what = format!(
                "{} would be overwritten while it is read; choose another --output-dir",
                source.display()
            );
            return Err(Error::usage(what));
        }
        let taken = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(Error::output(target, e)),
        };
        if taken && existing == Existing::Refuse {
            let what = "the folder is not empty; choose another one or pass --overwrite-output-dir";
            return Err(Error::output(target, what));
        }
        let parent = match target.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        files::create_dir(parent)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".wattention-");
        // tempfile's own default is 0700, which the umask does not widen.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let unfinished = builder.tempdir_in(parent).map_err(|e| Error::output(target, e))?;
        Ok(Folder { target: target.to_path_buf(), unfinished })
    }

    /// Where to write until it is finished.
    pub fn path(&self) -> &Path {
        self.unfinished.path()
    }

    /// Puts `files` in their place; the last of them says that the others are there.
    pub fn finish(self, files: &[String]) -> Result<()> {
        let Folder { target, unfinished } = self;
        let attempt = || -> io::Result<()> {
            // A folder that is empty, or not there, is replaced whole.
            if fs::rename(unfinished.path(), &target).is_err() {
                fs::create_dir_all(&target)?;
                if let Some(last) = files.last().filter(|last| target.join(last).exists()) {
                    fs::remove_file(target.join(last))?;
                }
                for name in files {
                    fs::rename(unfinished.path().join(name), target.join(name))?;
                }
                File::open(&target)?.sync_all()?;
            }
            File::open(unfinished.path().parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        attempt().map_err(|e| Error::output(&target, e))
    }
}
