//! The batch of a run: as asked, or the largest that memory holds, known before any of it is taken.

use super::Ran;
use super::finetune::finetune;

/// All inputs and references are longer than this, so every batch of a size needs the same.
const SAME: &str = "--dataset qmsum-slice --max-train-samples 12 --max-eval-samples 4 --max-source-length 64 \
    --max-target-length 16 --max-new-tokens 8 --max-steps 1 --learning-rate 1e-4 --overwrite-output-dir --json";

fn run(flags: &str) -> (Ran, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (finetune(dir.path(), &format!("{SAME} {flags}")), dir)
}

/// (planned, used) bytes, and the batch and accumulation that `config.json` of the run holds.
fn outcome(flags: &str) -> ([u64; 2], [u64; 2]) {
    let (done, dir) = run(flags);
    let report = done.json();
    let text = std::fs::read_to_string(dir.path().join("run/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let bytes = ["planned_bytes", "used_bytes"].map(|key| report[key].as_u64().unwrap());
    let counts = ["per_device_train_batch_size", "gradient_accumulation_steps"]
        .map(|key| config["arguments"][key].as_u64().unwrap());
    (bytes, counts)
}

#[test]
fn the_plan_is_what_the_run_then_holds_to_the_byte() {
    for flags in
        ["--batch-size 3", "--batch-size 5 --no-predict", "--batch-size 1", "--batch-size 2 --protocol paper"]
    {
        let ([planned, used], _) = outcome(flags);
        assert_eq!(planned, used, "{flags}");
    }
}

#[test]
fn auto_takes_what_fits_and_one_more_does_not() {
    let ([five, _], _) = outcome("--batch-size 5");
    let ([six, _], _) = outcome("--batch-size 6");
    assert!(five < six);
    for memory in [five, six - 1] {
        let ([planned, used], [batch, accumulation]) =
            outcome(&format!("--batch-size auto --memory {memory}"));
        assert_eq!([batch, accumulation], [5, 1]);
        assert_eq!([planned, used], [five, five]);
        let (refused, dir) = run(&format!("--batch-size 6 --memory {memory}"));
        refused.fails(75, &["batch of 6 needs", "--memory allows", "--per-device-train-batch-size 5"]);
        assert!(!dir.path().join("run").exists());
    }
}

#[test]
fn the_global_batch_is_kept_whatever_fits() {
    let ([five, _], _) = outcome("--batch-size 5");
    let counts = |flags: &str| outcome(flags).1;
    // 5 fit; of the divisors of 12, 4 is the largest of those.
    assert_eq!(counts(&format!("--batch-size auto --memory {five} --global-batch-size 12")), [4, 3]);
    assert_eq!(counts("--batch-size auto --memory 1GiB --global-batch-size 4"), [4, 1]);
    assert_eq!(counts("--batch-size 2 --global-batch-size 6"), [2, 3]);
    // No batch is larger than the data.
    assert_eq!(counts("--batch-size auto --memory 1GiB"), [12, 1]);
    // What is free here holds this model.
    assert_eq!(counts("--per_device_train_batch_size=auto"), [12, 1]);
}

#[test]
fn what_cannot_fit_is_refused_with_what_would_help() {
    let source = "--max-source-length";
    run("--batch-size 2 --memory 100KiB")
        .0
        .fails(75, &["even a batch of 1 needs", "weights", "100.0 KiB", source]);
    run("--batch-size auto --memory 100KiB").0.fails(75, &["even a batch of 1 needs", source]);
    let ([one, _], _) = outcome("--batch-size 1 --per-device-eval-batch-size 1");
    let flags = format!("--batch-size auto --memory {one} --per-device-eval-batch-size 4");
    run(&flags).0.fails(75, &["--per-device-eval-batch-size, which is 4"]);
    assert_eq!(run("--batch-size many").0.code, Some(2));
    assert_eq!(run("--memory lots").0.code, Some(2));
    assert_eq!(run("--global-batch-size 4 --gradient-accumulation-steps 2").0.code, Some(2));
}
