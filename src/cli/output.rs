//! Standard output, and output files, checked before the work whose result they take.

use crate::error::{Error, Result};
use anyhow::Context;
use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// A line on stdout.
pub fn print(text: impl Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Fails unless a file can be put at `path`.
pub fn check_file(path: &Path) -> Result<()> {
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    if path.file_name().is_none() {
        return Err(Error::output(path, "this is no file name"));
    }
    // A device or a pipe would be replaced by a file of its name.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(Error::output(path, "it is there and is not a regular file"));
    }
    if !dir.is_dir() {
        let what = format!("there is no folder {}; make it first", dir.display());
        return Err(Error::output(path, what));
    }
    tempfile::Builder::new().prefix(".wattention-").tempfile_in(dir).map_err(|e| Error::output(path, e))?;
    Ok(())
}

/// Fails when `output` is the very file that `input` is read from.
pub fn check_apart(input: &Path, output: &Path) -> Result<()> {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(from), Ok(to)) if from == to => Err(Error::usage(format!(
            "{} would be overwritten while it is the input; choose another output",
            output.display()
        ))),
        _ => Ok(()),
    }
}
