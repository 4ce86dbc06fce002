//! `finetune` by several ranks is `finetune` by one.

use super::super::{Ran, finetune, resume};
use super::*;

/// Eight micro-batches a step by one rank, four by two, two by four, and shares that do not come out even by three.
#[test]
fn ranks_share_out_what_one_process_does() {
    if !has_ranks() {
        return;
    }
    let run = |ranks: usize, accumulation: usize, flags: &str| {
        let dir = tempfile::tempdir().unwrap();
        let flags = format!(
            "--per-device-train-batch-size 1 --gradient-accumulation-steps {accumulation} --max-eval-samples 5 \
             --per-device-eval-batch-size 1 {flags}"
        );
        ran(&mut run(dir.path(), ranks, &flags)).succeeds();
        dir
    };
    let one = run(1, 8, "");
    for (ranks, accumulation) in [(2, 4), (4, 2)] {
        let shared = run(ranks, accumulation, "");
        same_run(one.path(), shared.path());
        assert_eq!(predictions(one.path()), predictions(shared.path()));
        assert_eq!(names_in(&one.path().join("run")), names_in(&shared.path().join("run")));
        let again = run(ranks, accumulation, "");
        assert!(model(shared.path()) == model(again.path()), "{ranks} ranks: other bits");
        assert_eq!(events(&shared.path().join("run")), events(&again.path().join("run")));
    }
    let config: Value = {
        let three = tempfile::tempdir().unwrap();
        let flags = "--per-device-train-batch-size 1 --global-batch-size 8 --max-eval-samples 5";
        let flags = format!("{flags} --per-device-eval-batch-size 1");
        ran(&mut super::run(three.path(), 3, &flags)).succeeds();
        same_run(one.path(), three.path());
        serde_json::from_str(&fs::read_to_string(three.path().join("run/config.json")).unwrap()).unwrap()
    };
    assert_eq!(
        (&config["ranks"], &config["arguments"]["global_batch_size"]),
        (&Value::from(3), &Value::from(8))
    );
}

/// Without dropout, whose masks are those of a micro-batch.
#[test]
fn ranks_with_a_small_batch_are_one_with_a_large_one() {
    if !has_ranks() {
        return;
    }
    let run = |ranks: usize, batch: usize| {
        let dir = tempfile::tempdir().unwrap();
        let start =
            resume::start(dir.path(), &format!("{BASE} --per-device-train-batch-size {batch} --no-predict"));
        let config = dir.path().join("config.json");
        fs::write(&config, finetune::CONFIG.replace("\"dropout\": 0.1", "\"dropout\": 0.0")).unwrap();
        ran(&mut by(ranks, &start)).succeeds();
        dir
    };
    let one = run(1, 8);
    for (ranks, batch) in [(2, 4), (4, 2)] {
        same_run(one.path(), run(ranks, batch).path());
    }
}

/// The run in `dir` again from its checkpoint of a step.
fn resumed(dir: &Path, ranks: usize, step: usize, flags: &str) {
    let from = dir.join(format!("run/checkpoint-{step}"));
    ran(&mut run(dir, ranks, &format!("{flags} --resume {}", from.display()))).succeeds();
}

#[test]
fn a_run_goes_on_by_any_number_of_ranks() {
    if !has_ranks() {
        return;
    }
    let flags = "--per-device-train-batch-size 1 --no-predict";
    let whole = tempfile::tempdir().unwrap();
    ran(&mut run(whole.path(), 4, flags)).succeeds();
    let dir = tempfile::tempdir().unwrap();
    ran(&mut run(dir.path(), 4, flags)).succeeds();
    for (ranks, step) in [(2, 2), (3, 4), (1, 6)] {
        resumed(dir.path(), ranks, step, flags);
        same_run(whole.path(), dir.path());
    }
    // As many examples a step as it began with, and no others.
    let auto = format!("{flags} --gradient-accumulation-steps 2 --resume auto");
    ran(&mut run(dir.path(), 1, &auto)).fails(2, &["gradient_accumulation_steps: 4 then, 8 now"]);
}

/// The bits of a run whose ranks have all of the optimizer's state, with less memory, and from and to such runs.
#[test]
fn a_sharded_optimizer_changes_no_bit() {
    if !has_ranks() {
        return;
    }
    let flags = "--per-device-train-batch-size 1 --no-predict --json";
    let whole = tempfile::tempdir().unwrap();
    let bytes = |report: Ran| report.json()["planned_bytes"].as_u64().unwrap();
    let full = bytes(ran(&mut run(whole.path(), 4, flags)));
    let dir = tempfile::tempdir().unwrap();
    let sharded = bytes(ran(&mut run(dir.path(), 4, &format!("{flags} --zero-stage 1"))));
    assert!(model(whole.path()) == model(dir.path()));
    assert_eq!(events(&whole.path().join("run")), events(&dir.path().join("run")));
    // Of two moments of 4 bytes, a quarter is left.
    let moments = 8 * weights(whole.path()).len() as u64;
    let saved = full - sharded;
    assert!(saved.abs_diff(moments * 3 / 4) < moments / 20, "{saved} of {moments}");
    for (ranks, step, stage) in [(2, 2, 1), (3, 4, 1), (3, 4, 0), (1, 6, 1)] {
        resumed(dir.path(), ranks, step, &format!("{flags} --zero-stage {stage}"));
        same_run(whole.path(), dir.path());
    }
}

/// Rounded in the same way every time, known to the checkpoint, and nothing to a single process.
#[test]
fn gradients_in_bf16_are_another_run_with_bits_of_its_own() {
    if !has_ranks() {
        return;
    }
    let flags = "--per-device-train-batch-size 1 --no-predict";
    let bf16 = &format!("{flags} --communication-data-type bf16");
    let run = |ranks: usize, flags: &str| {
        let dir = tempfile::tempdir().unwrap();
        let said = ran(&mut run(dir.path(), ranks, flags));
        assert_eq!(said.code, Some(0), "{}", said.err);
        (dir, said.err)
    };
    let [(fp32, _), (first, said), (again, _)] = [flags, bf16, bf16].map(|flags| run(2, flags));
    assert!(model(first.path()) == model(again.path()), "other bits");
    assert_eq!(events(&first.path().join("run")), events(&again.path().join("run")));
    assert!(model(first.path()) != model(fp32.path()), "nothing was rounded");
    // The loss of the first step is from before any sum.
    let loss = |dir: &Path| events(&dir.join("run"))[0]["loss"].as_f64().unwrap();
    assert_eq!(loss(first.path()), loss(fp32.path()));
    assert!(!said.contains("--communication-data-type"), "{said}");
    let resume = format!("{flags} --resume auto --max-steps 9");
    ran(&mut super::run(first.path(), 2, &resume))
        .fails(2, &["communication_data_type: \"bf16\" then, not set now"]);

    let steps = "--per-device-train-batch-size 1 --no-predict --max-steps 3";
    let (alone, _) = run(1, steps);
    let (one, said) = run(1, &format!("{steps} --communication-data-type bf16"));
    assert!(model(alone.path()) == model(one.path()));
    assert!(said.contains("--communication-data-type bf16 changes nothing: one rank"), "{said}");
}
