//! One process at a time in a folder.

use crate::error::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The name of the lock in its folder.
pub const NAME: &str = "run.lock";

/// Holds a folder until it is dropped; the system lets go of it when the process ends, however it does.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// What holds the lock, which ends with the file.
    _file: File,
}

impl Lock {
    /// Takes `dir`, which exists; an error naming the process that holds it otherwise.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        loop {
            let failed = |e| Error::output(&path, e);
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(held(dir, &mut file)),
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            // Whoever held it before may have removed the file that was just locked.
            if !is_at(&file, &path) {
                continue;
            }
            let text = format!("process {} on {}\n", std::process::id(), host());
            file.set_len(0)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .and_then(|_| file.write_all(text.as_bytes()))
                .map_err(failed)?;
            return Ok(Lock { path, _file: file });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked, so that nobody else can be holding this file; one left behind is no obstacle.
        let _ = fs::remove_file(&self.path);
    }
}

fn held(dir: &Path, file: &mut File) -> Error {
    let mut holder = String::new();
    let holder = match file.take(200).read_to_string(&mut holder) {
        Ok(_) if !holder.trim().is_empty() => holder.trim(),
        _ => "another process",
    };
    Error::output(dir, format!("{holder} is at work there; wait for it or choose another folder"))
}

/// Whether `path` is still the name of `file`.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "this machine".into() } else { name.trim().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_by_the_name_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let refusal = Lock::take(dir.path()).unwrap_err();
        assert_eq!(refusal.exit_code(), 74);
        assert!(refusal.to_string().contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(lock);
        assert!(!dir.path().join(NAME).exists());
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_file_left_behind_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "process 1 on a machine with a longer name\n").unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join(NAME)).unwrap();
        assert!(text.starts_with(&format!("process {} on ", std::process::id())), "{text}");
        assert_eq!(text.lines().count(), 1);
        drop(lock);
    }
}
