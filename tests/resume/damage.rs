//! Checkpoints that are not as they were written are passed over, with the reason.

use crate::resume::tiny::{Record, Run, options};
use std::fs;
use std::path::Path;
use wattention::train::Control;
use wattention::train::checkpoint::{Found, newest, open};

/// A run with checkpoints 1 and 2.
fn two(dir: &Path) -> Run {
    let run = Run::new(dir, options(2), Control { save_steps: 1, ..Control::default() });
    run.go(None, &mut Record::default()).0.unwrap();
    run
}

/// The step of what is found, and the reasons for what was passed over.
fn found(dir: &Path) -> (Option<u64>, String) {
    let Found { checkpoint, passed_over } = newest(dir).unwrap();
    (checkpoint.map(|found| found.state.global_step), passed_over.join("\n"))
}

#[test]
fn the_newest_whole_one_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let run = two(dir.path());
    assert_eq!(found(dir.path()), (Some(2), String::new()));
    assert_eq!(found(&dir.path().join("none")), (None, String::new()));
    // Half written folders are not even looked into, and go.
    for name in ["checkpoint-3.tmp-77-new", "checkpoint-1.tmp-77-old"] {
        fs::rename(run.checkpoint(1), dir.path().join(name)).unwrap();
        let (step, why) = found(dir.path());
        assert_eq!(step, Some(2));
        assert!(why.contains(name) && why.contains("never finished"), "{why}");
        assert!(!dir.path().join(name).exists());
        two(dir.path());
    }
    // Other things with similar names are neither checkpoints nor in the way.
    for name in ["checkpoint-best", "checkpoint-07", "checkpoint-"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("checkpoint-9"), "").unwrap();
    assert_eq!(found(dir.path()), (Some(2), String::new()));
}

#[test]
fn files_that_are_missing_or_cut_short_are_named() {
    let names =
        ["manifest.json", "model.safetensors", "optimizer.safetensors", "trainer_state.json", "config.json"];
    for name in names {
        let dir = tempfile::tempdir().unwrap();
        let path = two(dir.path()).checkpoint(2).join(name);
        let whole = fs::read(&path).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 2] {
            fs::write(&path, &whole[..length]).unwrap();
            let (step, why) = found(dir.path());
            assert_eq!(step, Some(1), "{name} of {length} bytes");
            assert!(why.contains(name) && why.contains("checkpoint-2"), "{why}");
        }
        fs::write(&path, [&whole[..], b" {}"].concat()).unwrap();
        assert_eq!(found(dir.path()).0, Some(1), "{name} is too long");
        fs::remove_file(&path).unwrap();
        let (step, why) = found(dir.path());
        assert_eq!(step, Some(1));
        assert!(why.contains(name), "{why}");
        fs::remove_file(dir.path().join("checkpoint-1/manifest.json")).unwrap();
        let (step, why) = found(dir.path());
        assert_eq!((step, why.lines().count()), (None, 2), "{why}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let newest = two(dir.path()).checkpoint(2);
    for entry in fs::read_dir(&newest).unwrap() {
        let path = entry.unwrap().path();
        let whole = fs::read(&path).unwrap();
        // All of the manifest, and about a hundred places of each other file.
        let apart = if path.ends_with("manifest.json") { 1 } else { whole.len().div_ceil(100) };
        for at in (0..whole.len()).step_by(apart) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            assert!(open(&newest).is_err(), "bit {} of byte {at} of {}", at % 8, path.display());
        }
        fs::write(&path, &whole).unwrap();
    }
    open(&newest).unwrap();
}

#[test]
fn a_newer_format_and_a_renamed_folder_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let run = two(dir.path());
    let manifest = run.checkpoint(2).join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"format\": 1", "\"format\": 2, \"new\": 0")).unwrap();
    let why = open(&run.checkpoint(2)).unwrap_err().to_string();
    assert!(why.contains("format 2") && why.contains("format 1"), "{why}");
    fs::rename(run.checkpoint(1), run.checkpoint(5)).unwrap();
    let why = open(&run.checkpoint(5)).unwrap_err().to_string();
    assert!(why.contains("step 1"), "{why}");
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run_and_leaves_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    // A folder has the name of checkpoint 2, and a file that by which the folder would go away.
    fs::create_dir(dir.path().join("checkpoint-2")).unwrap();
    fs::write(dir.path().join(format!("checkpoint-2.tmp-{}-old", std::process::id())), "").unwrap();
    let run = Run::new(dir.path(), options(50), Control { save_steps: 1, ..Control::default() });
    let refusal = run.go(None, &mut Record::default()).0.unwrap_err();
    assert_eq!(refusal.exit_code(), 74);
    assert_eq!(found(dir.path()).0, Some(1));
}
