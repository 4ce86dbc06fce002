//! Saved files are whole, as transformers writes them, or not there at all.

use crate::weights::{GOLDEN, assert_says, failure, named, names_in, want, write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use wattention::weights::{load, read_file, save, write_file};

#[test]
fn a_saved_model_is_byte_for_byte_what_transformers_saved() {
    let golden = read_file(Path::new(GOLDEN)).unwrap();
    let wanted: Vec<_> =
        golden.names().iter().rev().map(|name| want(name, golden.shape(name).unwrap())).collect();
    let values = load(Path::new(GOLDEN).parent().unwrap(), &wanted).unwrap();
    let tensors: Vec<_> = wanted
        .iter()
        .zip(&values)
        .map(|(want, values)| named(&want.name, &want.shape, values.as_ref().unwrap()))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/model");
    save(&out, &tensors).unwrap();
    let saved = std::fs::read(out.join("model.safetensors")).unwrap();
    assert!(saved == std::fs::read(GOLDEN).unwrap(), "the files differ");
    assert_eq!(names_in(&out), ["model.safetensors"]);
}

#[test]
fn saving_replaces_shards_and_leaves_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let kept = ["config.json", "model-1-of-2.safetensors", "model-00001-of-00002.bin"];
    let stale = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ];
    for name in kept.iter().chain(&stale) {
        write(&dir, name, "old");
    }
    save(dir.path(), &[named("a", &[1], &[1.0])]).unwrap();
    let mut expected = vec!["model.safetensors"];
    expected.extend(kept);
    expected.sort();
    assert_eq!(names_in(dir.path()), expected);
}

#[test]
fn the_mode_is_that_of_any_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let plain = write(&dir, "plain", "");
    save(dir.path(), &[named("a", &[1], &[1.0])]).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&dir.path().join("model.safetensors")), mode(&plain));
}

#[test]
fn a_model_that_is_not_finite_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &[named("a", &[1], &[1.0])]).unwrap();
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        let values = [0.0, bad];
        let diverged = [named("a", &[1], &[2.0]), named("b", &[2], &values)];
        let message = failure(save(dir.path(), &diverged), 65);
        assert_says(&message, &["\"b\"", "element 1", "not written"]);
    }
    assert_eq!(names_in(dir.path()), ["model.safetensors"]);
    let old = load(dir.path(), &[want("a", &[1])]).unwrap();
    assert_eq!(old, [Some(vec![1.0])]);
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [named("a", &[1], &[1.0])];
    let file = write(&dir, "file", "");
    failure(save(&file, &tensors), 74);
    failure(save(&file.join("below"), &tensors), 74);
    failure(write_file(&dir.path().join("absent/x"), &tensors), 74);
    let taken = dir.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    let message = failure(write_file(&taken, &tensors), 74);
    assert_says(&message, &["cannot write", "taken"]);
    assert_eq!(names_in(dir.path()), ["file", "taken"]);
}

#[test]
fn tensors_that_contradict_themselves_are_a_defect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let twice = [named("a", &[1], &[1.0]), named("a", &[1], &[2.0])];
    assert_says(&failure(write_file(&path, &twice), 70), &["\"a\"", "twice"]);
    failure(write_file(&path, &[named("a", &[3], &[1.0])]), 70);
    assert!(names_in(dir.path()).is_empty());
}
