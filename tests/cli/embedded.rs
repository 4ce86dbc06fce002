//! The models inside the program by name, whatever the user's folders are like.

use super::{command, ran};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Plans a step of tiny-led, which needs its config.json on disk.
fn plan(cache: &Path, temporary: &Path) -> Command {
    let mut plan = command();
    plan.args(["plan", "--model", "tiny-led", "--max-source-length", "64", "--json"]);
    plan.env("XDG_CACHE_HOME", cache).env("TMPDIR", temporary).current_dir(temporary);
    plan
}

/// The config.json of tiny-led that lies below `folder`.
fn config(folder: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(folder.join("wattention/models")).ok()?;
    let mut found = versions.map(|version| version.unwrap().path().join("tiny-led/config.json"));
    found.find(|path| path.is_file())
}

#[test]
fn they_are_unpacked_into_the_cache_once_and_again_when_damaged() {
    let (cache, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ran(&mut plan(cache.path(), temporary.path())).succeeds();
    let config = config(cache.path()).expect("it lies in the cache");
    let written = fs::metadata(&config).unwrap().modified().unwrap();
    let whole = fs::read(&config).unwrap();
    ran(&mut plan(cache.path(), temporary.path())).succeeds();
    assert_eq!(fs::metadata(&config).unwrap().modified().unwrap(), written);
    fs::write(&config, "{").unwrap();
    ran(&mut plan(cache.path(), temporary.path())).succeeds();
    assert_eq!(fs::read(&config).unwrap(), whole);
}

#[test]
fn with_a_home_that_cannot_be_written_they_lie_among_temporary_files() {
    let (temporary, file) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    // Nothing can be made below a file, not even by root.
    ran(&mut plan(file.path(), temporary.path())).succeeds();
    assert!(config(temporary.path()).is_some());
}

#[test]
fn a_folder_of_the_same_name_comes_first() {
    let temporary = tempfile::tempdir().unwrap();
    fs::create_dir(temporary.path().join("tiny-led")).unwrap();
    ran(&mut plan(temporary.path(), temporary.path())).fails(66, &["config.json"]);
}
