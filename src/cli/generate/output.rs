//! Predictions as they come, into a file that takes its name when it is whole.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that grows as `<path>.part`, which stays behind when the work fails.
pub struct Growing {
    path: PathBuf,
    part: PathBuf,
    file: File,
}

impl Growing {
    pub fn create(path: &Path) -> Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|e| Error::output(&part, e))?;
        Ok(Growing { path: path.to_path_buf(), part, file })
    }

    pub fn line(&mut self, line: &str) -> Result<()> {
        // One unbuffered write: a reader never sees a part of a line.
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|e| Error::output(&self.part, e))
    }

    /// Gives the file its name.
    pub fn finish(self) -> Result<()> {
        let attempt = || -> io::Result<()> {
            self.file.sync_all()?;
            fs::rename(&self.part, &self.path)
        };
        attempt().map_err(|e| Error::output(&self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_appears_with_the_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        let mut growing = Growing::create(&path).unwrap();
        growing.line("{\"a\": 1}").unwrap();
        let part = dir.path().join("x.jsonl.part");
        assert_eq!(fs::read_to_string(&part).unwrap(), "{\"a\": 1}\n");
        assert!(!path.exists());
        growing.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\": 1}\n");
        assert!(!part.exists());
    }
}
