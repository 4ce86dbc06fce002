//! Signals to a training process, and two processes in one folder.

use super::finetune::tiny_led;
use super::resume::{events, model, start};
use super::{command, names_in, ran};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Steps enough that a signal arrives among them.
const LONG: &str = "--max-steps 600 --save-steps 0 --eval-steps 0 --no-predict";

/// Starts a run and waits until it has made some steps.
fn training(dir: &Path, flags: &str) -> Child {
    let mut child = start(dir, flags).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    while steps(dir) < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::yield_now();
    }
    child
}

/// Steps that the run has told of.
fn steps(dir: &Path) -> usize {
    fs::read_to_string(dir.join("run/metrics.jsonl")).map_or(0, |text| text.lines().count())
}

fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// Waits for the end: exit code and stderr.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_signal_stops_at_a_checkpoint_from_which_the_run_ends_the_same() {
    let whole = tempfile::tempdir().unwrap();
    ran(&mut start(whole.path(), LONG)).succeeds();
    // Schedulers repeat themselves, and that changes nothing.
    for (names, code) in [(&["TERM", "TERM"][..], 143), (&["USR1", "TERM"], 143), (&["INT"], 130)] {
        let dir = tempfile::tempdir().unwrap();
        let child = training(dir.path(), LONG);
        names.iter().for_each(|name| signal(&child, name));
        let (got, err) = end(child);
        assert_eq!(got, Some(code), "{names:?}: {err}");
        assert!(err.contains("--resume auto") && err.contains("error: interrupted by signal"), "{err}");
        let run = dir.path().join("run");
        let step = steps(dir.path());
        assert!((3..600).contains(&step));
        let left = names_in(&run);
        assert_eq!(
            left,
            [&format!("checkpoint-{step}"), "config.json", "energy.json", "latest", "metrics.jsonl"]
        );
        let again = ran(&mut start(dir.path(), &format!("{LONG} --resume auto")));
        again.succeeds();
        assert!(again.err.contains(&format!("checkpoint-{step}")), "{}", again.err);
        assert!(model(dir.path()) == model(whole.path()), "{names:?} at step {step}");
        assert_eq!(events(&dir.path().join("run")), events(&whole.path().join("run")));
    }
}

#[test]
fn a_second_interrupt_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut slow = command();
    // One step takes seconds: the second signal comes long before the first is answered.
    slow.args("finetune --dataset qmsum-slice --device cpu --no-predict --max-steps 3".split_whitespace());
    slow.args("--max-source-length 4096 --gradient-accumulation-steps 64".split_whitespace());
    slow.args("--per-device-train-batch-size 1 --max-eval-samples 1 --model".split_whitespace());
    slow.arg(tiny_led()).arg("--output-dir").arg(dir.path().join("run"));
    let mut child = slow.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    // Signals are caught before this file is there.
    while !dir.path().join("run/metrics.jsonl").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::yield_now();
    }
    let code = loop {
        signal(&child, "INT");
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
    };
    assert_eq!(code, Some(130));
    // Nothing was saved: it did not wait for the step.
    assert_eq!(names_in(&dir.path().join("run")), ["config.json", "metrics.jsonl", "run.lock"]);
}

#[test]
fn two_processes_do_not_write_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    let child = training(dir.path(), LONG);
    let holder = format!("process {}", child.id());
    for flags in ["--overwrite-output-dir", "--resume auto"] {
        ran(&mut start(dir.path(), &format!("{LONG} {flags}")))
            .fails(74, &[&holder, "choose another folder"]);
    }
    signal(&child, "KILL");
    end(child);
    // What the killed process held is free, though its lock is still there.
    let lock = dir.path().join("run/run.lock");
    let file = fs::read_dir(&lock).unwrap().next().unwrap().unwrap().path();
    let claim: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(format!("process {}", claim["process"]), holder);
    let settings: Value =
        serde_json::from_str(&fs::read_to_string(dir.path().join("run/config.json")).unwrap()).unwrap();
    assert_eq!(settings["settings"]["max_steps"], 600);
    ran(&mut start(dir.path(), &format!("{LONG} --resume auto"))).succeeds();
    assert!(!lock.exists());
}
