//! Writing files so that a reader sees the old content or the new one, never a part.

pub mod lock;

use crate::error::{Error, Result};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// How the temporary files of [`replace`] begin.
pub const TEMPORARY: &str = ".wattention-";

/// Replaces `path` by what `write` produces: temporary file beside it, fsync, rename, fsync of the folder.
pub fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let attempt = || -> io::Result<()> {
        let dir = folder_of(path);
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY);
        // tempfile's own default is 0600, which the umask does not widen.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut temporary = builder.tempfile_in(dir)?;
        write(temporary.as_file_mut())?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|e| e.error)?;
        // The rename itself survives a power loss only once the folder is synced.
        File::open(dir)?.sync_all()
    };
    attempt().map_err(|e| Error::output(path, e))
}

/// Replaces `path` by `text`.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    replace(path, |file| file.write_all(text.as_bytes()))
}

/// Replaces `path` by `value` as indented JSON with a line's end.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::internal(format!("{} would be no JSON: {e}", path.display())))?;
    write_text(path, &(text + "\n"))
}

/// The folder that `path` lies in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

/// Creates `dir` and its parents.
pub fn create_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::output(dir, e))
}

/// Makes what was created, renamed or removed in `dir` survive a power loss.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::output(dir, e))
}

/// Removes the file or folder `path`, with all that is in it, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    // A link to a folder is a file.
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::output(path, e)),
        _ => Ok(()),
    }
}

/// Removes the temporary files that a killed process left in `dir`, where no other one is writing.
pub fn remove_leftovers(dir: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::output(dir, e))?,
    };
    for entry in entries {
        let path = entry.map_err(|e| Error::output(dir, e))?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY)) {
            continue;
        }
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        match removed {
            // A claim that another process is preparing for a lock: it is gone, or has just got its file.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
            removed => removed.map_err(|e| Error::output(&path, e))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_gone_and_what_is_not_there_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let [file, folder, link] = ["file", "folder", "link"].map(|name| dir.path().join(name));
        write_text(&file, "").unwrap();
        create_dir(&folder.join("in/it")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        for path in [&link, &file, &folder] {
            remove(path).unwrap();
            assert!(path.symlink_metadata().is_err());
            remove(path).unwrap();
        }
        assert!(dir.path().exists(), "a link's folder stays");
        write_text(&file, "").unwrap();
        let error = remove(&file.join("below")).unwrap_err();
        assert!(error.to_string().contains("below"), "{error}");
    }
}
