//! The token cache of `finetune`: the same run with and without, and after harm.

use super::finetune::finetune;
use super::names_in;
use std::fs;
use std::path::Path;

const RUN: &str = "--dataset qmsum-slice --max-train-samples 6 --max-eval-samples 2 --no-predict --max-steps 2 \
    --per-device-train-batch-size 2 --max-source-length 64 --max-target-length 16 --overwrite-output-dir -v";

/// What the run said, and the model it made.
fn run(dir: &Path, flags: &str) -> (String, Vec<u8>) {
    let done = finetune(dir, &format!("{RUN} {flags}"));
    done.succeeds();
    (done.err, fs::read(dir.join("run/model/model.safetensors")).unwrap())
}

#[test]
fn the_same_ids_with_and_without_and_after_harm() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let with = format!("--cache-dir {}", cache.display());
    let (said, without) = run(dir.path(), "--no-cache");
    assert!(!said.contains("tokenised") && !said.contains("tokens from"), "{said}");
    let (said, first) = run(dir.path(), &with);
    assert!(said.contains("train: tokenised, and kept") && said.contains("validation: tokenised"), "{said}");
    assert_eq!(names_in(&cache).len(), 2);
    let (said, second) = run(dir.path(), &with);
    assert!(said.contains("train: tokens from the cache"), "{said}");
    for name in names_in(&cache) {
        fs::write(cache.join(name), "not tokens").unwrap();
    }
    let (said, third) = run(dir.path(), &with);
    assert!(said.contains("train: tokenised again") && said.contains("only 10 bytes"), "{said}");
    assert!(first == without && second == without && third == without, "the cache changes the run");
    // The seed decides no ids.
    run(dir.path(), &format!("{with} --seed 1"));
    assert_eq!(names_in(&cache).len(), 2);
    let (said, _) = run(dir.path(), "--cache-dir /dev/null");
    assert!(said.contains("not kept for the next run") && said.contains("/dev/null"), "{said}");
}
