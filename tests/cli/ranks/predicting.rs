//! `evaluate` and `generate` by several ranks write what one process writes.

use super::super::finetune::talkative;
use super::*;
use std::io::Write;

/// Every file that `evaluate` writes, and the scores that it reports.
fn evaluated(model: &Path, ranks: usize, flags: &str) -> (Vec<Vec<u8>>, Vec<Value>) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = evaluation(model, &format!("--json {flags}"));
    command.arg("--predictions-output").arg(dir.path().join("p.jsonl"));
    if !flags.contains("paper") {
        command.arg("--submission").arg(dir.path().join("s.csv"));
    }
    let report = ran(&mut by(ranks, &command)).json();
    assert_eq!(report.get("ranks").map(|of| of["world_size"].clone()), (ranks > 1).then(|| ranks.into()));
    let scores = ["rouge1", "rouge2", "rougeL", "geometric_mean", "f1", "eval_loss", "examples"];
    let scores = scores.map(|name| report.get(name).unwrap_or_else(|| panic!("{name}: {report:?}")).clone());
    let files = names_in(dir.path());
    assert!(files.iter().all(|name| !name.ends_with(".part")), "{files:?}");
    (files.iter().map(|name| fs::read(dir.path().join(name)).unwrap()).collect(), scores.into())
}

#[test]
fn an_evaluation_by_ranks_is_that_of_one_process() {
    if !has_ranks() {
        return;
    }
    let model = talkative();
    // Three batches: shares of two and one, of one each, and of none.
    for flags in ["", "--protocol paper", "--do-sample=true --num-beams 1"] {
        let one = evaluated(model.path(), 1, flags);
        assert!(one.0.iter().all(|file| !file.is_empty()));
        for ranks in [2, 3, 4] {
            assert!(one == evaluated(model.path(), ranks, flags), "{ranks} ranks, {flags}");
        }
    }
}

#[test]
fn an_evaluation_goes_on_by_any_number_of_ranks() {
    if !has_ranks() {
        return;
    }
    let (model, dir) = (talkative(), tempfile::tempdir().unwrap());
    // Long enough that a busy machine looks before it is over.
    let long = "--max-samples 24 --batch-size 1 --max-new-tokens 60 --num-beams 16 --ddp-timeout 20";
    let into = |name: &str| {
        let mut command = evaluation(model.path(), long);
        command.arg("--predictions-output").arg(dir.path().join(name));
        command
    };
    ran(&mut into("whole")).succeeds();
    let lines = || fs::read_to_string(dir.path().join("stopped.part")).map_or(0, |text| text.lines().count());
    for rank in [1, 0] {
        let before = lines();
        let mut launched = by(2, &into("stopped"));
        let mut child = launched.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        while lines() < before + 3 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let ranks = ranks_of(&child);
        assert_eq!(ranks.len(), 2, "it was over before a rank could be killed");
        kill("KILL", &ranks[rank]);
        let ended = ended(child, 30);
        assert_ne!(ended.code, Some(0));
        if !cfg!(feature = "mpi") {
            let (us, gone) =
                (format!("error: rank {} of 2 on ", 1 - rank), format!("rank {rank} has gone at example "));
            assert!(ended.err.contains(&us) && ended.err.contains(&gone), "{}", ended.err);
        }
        assert!(!dir.path().join("stopped").exists() && lines() >= before + 3, "it was not stopped half-way");
    }
    let done = ran(&mut by(3, &into("stopped")));
    assert!(done.succeeds().err.contains("predictions are there"), "{}", done.err);
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("stopped") == read("whole"));
    assert_eq!(names_in(dir.path()), ["stopped", "whole"]);
}

#[test]
fn documents_are_shared_out_and_keep_their_order() {
    if !has_ranks() {
        return;
    }
    let (model, dir) = (talkative(), tempfile::tempdir().unwrap());
    let input = dir.path().join("in.jsonl");
    let records = (0..7).map(|i| format!("{{\"id\": {i}, \"text\": \"Word {} and so on.\"}}\n", i * 7));
    fs::write(&input, records.collect::<String>()).unwrap();
    let generate = |more: &[&str]| {
        let mut command = command();
        command.args(["generate", "--device", "cpu", "--threads", "1", "--model"]).arg(model.path());
        command
            .args("--max-new-tokens 6 --batch-size 2 --do-sample=true --num-return-sequences 2".split(' '));
        command.args(more);
        command
    };
    let from = ["--input", input.to_str().unwrap()];
    let whole = ran(&mut generate(&from));
    assert_eq!(whole.succeeds().out.lines().count(), 14);
    for ranks in [2, 3] {
        assert_eq!(ran(&mut by(ranks, &generate(&from))).succeeds().out, whole.out, "{ranks} ranks");
        let output = dir.path().join("out.jsonl");
        ran(by(ranks, &generate(&from)).arg("--output").arg(&output)).succeeds();
        assert_eq!(fs::read_to_string(&output).unwrap(), whole.out);
        assert_eq!(names_in(dir.path()), ["in.jsonl", "out.jsonl"]);
        let report = ran(by(ranks, &generate(&from)).arg("--json")).json();
        assert_eq!((&report["documents"], &report["ranks"]["world_size"]), (&7.into(), &ranks.into()));
        let lines: Vec<Value> = whole.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(report["predictions"], Value::from(lines));
        fs::remove_file(&output).unwrap();
    }
    // The first rank alone has a standard input.
    let mut child = by(2, &generate(&["--input", "-"]));
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(&input).unwrap()).unwrap();
    assert_eq!(left(child).succeeds().out, whole.out);
}
