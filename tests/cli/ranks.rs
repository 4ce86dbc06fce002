//! `finetune` by several ranks: what they share is what one process does, wherever the run began, stopped or was killed.

use super::resume::{events, model, start};
use super::{Ran, command, names_in, ran};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whether ranks can be started here; why not is counted as skipped.
fn has_ranks() -> bool {
    if !cfg!(feature = "mpi") {
        println!("skipped: built without MPI (cargo test --features mpi)");
        return false;
    }
    let is_there = Command::new("mpirun").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        println!("skipped: there is no mpirun");
    }
    is_there
}

/// `mpirun` of the command lines, each by so many ranks.
fn mpirun(of: &[(usize, &Command)]) -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
    for (i, (ranks, command)) in of.iter().enumerate() {
        if i > 0 {
            mpirun.arg(":");
        }
        mpirun.args(["-n", &ranks.to_string()]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            mpirun.env(name, value.unwrap_or_default());
        }
    }
    mpirun.stdin(Stdio::null());
    mpirun
}

/// What every run here has. A key's bias changes no attention: its gradient is what rounding leaves, which AdamW with
/// its default epsilon would make as large as that of any other parameter.
const BASE: &str = "--threads 1 --max-train-samples 12 --learning-rate 1e-4 --adam-epsilon 1e-6";

/// A run of 8 steps by so many ranks on one thread each.
fn run(dir: &Path, ranks: usize, flags: &str) -> Command {
    let start = start(dir, &format!("{BASE} {flags}"));
    match ranks {
        1 => start,
        _ => mpirun(&[(ranks, &start)]),
    }
}

/// The numbers in a run's model.
fn weights(dir: &Path) -> Vec<f32> {
    let bytes = model(dir);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = tensors.names();
    names.sort_unstable();
    let values =
        names.iter().flat_map(|name| tensors.tensor(name).unwrap().data().to_vec()).collect::<Vec<u8>>();
    values.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// The relative L2 distance; NaN is no small one.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(*a as f64 - *b as f64)).sum();
    (difference / a.iter().map(|x| square(*x as f64)).sum::<f64>()).sqrt()
}

/// Two runs that differ by how sums were rounded, and in nothing else.
#[track_caller]
fn same_run(a: &Path, b: &Path) {
    let far = distance(&weights(a), &weights(b));
    assert!(far <= 1e-6, "the weights are {far} apart");
    let (a, b) = (events(&a.join("run")), events(&b.join("run")));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        let keys = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(a), keys(b));
        for key in keys(a) {
            match (a[&key].as_f64(), b[&key].as_f64()) {
                (Some(x), Some(y)) => assert!((x - y).abs() <= 1e-6 * x.abs().max(1.0), "{key}: {x} and {y}"),
                _ => assert_eq!(a[&key], b[&key], "{key}"),
            }
        }
    }
}

fn predictions(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("run/predictions.jsonl")).unwrap()
}

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
        ran(&mut super::ranks::run(three.path(), 3, &flags)).succeeds();
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
        let start = super::resume::start(
            dir.path(),
            &format!("{BASE} --per-device-train-batch-size {batch} --no-predict"),
        );
        let config = dir.path().join("config.json");
        fs::write(&config, super::finetune::CONFIG.replace("\"dropout\": 0.1", "\"dropout\": 0.0")).unwrap();
        ran(&mut mpirun(&[(ranks, &start)])).succeeds();
        dir
    };
    let one = run(1, 8);
    for (ranks, batch) in [(2, 4), (4, 2)] {
        same_run(one.path(), run(ranks, batch).path());
    }
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
        let from = dir.path().join(format!("run/checkpoint-{step}"));
        let flags = format!("{flags} --resume {}", from.display());
        ran(&mut run(dir.path(), ranks, &flags)).succeeds();
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
        let from = dir.path().join(format!("run/checkpoint-{step}"));
        let flags = format!("{flags} --zero-stage {stage} --resume {}", from.display());
        ran(&mut run(dir.path(), ranks, &flags)).succeeds();
        same_run(whole.path(), dir.path());
    }
}

/// The processes that `mpirun` has started, in the order of their ranks.
fn ranks_of(mpirun: &Child) -> Vec<String> {
    let parent = mpirun.id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Ok(stat) = fs::read_to_string(format!("/proc/{name}/stat")) else { continue };
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        if fields.split_whitespace().nth(1) == Some(&parent) {
            found.push(name.parse::<u32>().unwrap());
        }
    }
    found.sort_unstable();
    found.iter().map(u32::to_string).collect()
}

/// Whether a process is there that has not ended.
fn lives(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with(['Z', 'X']))
}

const LONG: &str = "--max-steps 100000 --eval-steps 0 --no-predict --per-device-train-batch-size 1";

/// A long run by two ranks that has made some steps.
fn training(dir: &Path, flags: &str) -> Child {
    let mut mpirun = run(dir, 2, &format!("{LONG} {flags}"));
    let mut child = mpirun.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let steps = || fs::read_to_string(dir.join("run/metrics.jsonl")).map_or(0, |text| text.lines().count());
    let until = Instant::now() + Duration::from_secs(120);
    while steps() < 25 {
        assert!(child.try_wait().unwrap().is_none() && Instant::now() < until, "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn kill(signal: &str, process: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), process]).status().unwrap().success());
}

/// How the ranks ended, within `seconds`.
fn ended(mut child: Child, seconds: u64) -> Ran {
    let until = Instant::now() + Duration::from_secs(seconds);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            ranks_of(&child).iter().for_each(|rank| kill("KILL", rank));
            child.kill().unwrap();
            panic!("the ranks do not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::new(),
        err: String::from_utf8_lossy(&output.stderr).into(),
    }
}

#[test]
fn a_signal_to_any_rank_saves_once() {
    if !has_ranks() {
        return;
    }
    for rank in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let child = training(dir.path(), "--save-steps 0");
        kill("TERM", &ranks_of(&child)[rank]);
        let ended = ended(child, 60);
        assert_eq!(ended.code, Some(143), "{}", ended.err);
        let steps = events(&dir.path().join("run")).len();
        let left = names_in(&dir.path().join("run"));
        let want = [&format!("checkpoint-{steps}"), "config.json", "energy.json", "latest", "metrics.jsonl"];
        assert_eq!(left, want, "rank {rank}");
    }
}

#[test]
fn a_rank_that_dies_or_hangs_ends_all_and_the_run_goes_on() {
    if !has_ranks() {
        return;
    }
    for (signal, rank, seconds) in [("KILL", 1, 30), ("KILL", 0, 30), ("STOP", 1, 60)] {
        let dir = tempfile::tempdir().unwrap();
        let child = training(dir.path(), "--save-steps 20 --ddp-timeout 3");
        let ranks = ranks_of(&child);
        kill(signal, &ranks[rank]);
        if signal == "STOP" {
            // What is stopped cannot be ended by mpirun either, until it goes on.
            let of = ranks[rank].clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(12));
                let _ = Command::new("kill").args(["-CONT", &of]).stderr(Stdio::null()).status();
            });
        }
        let ended = ended(child, seconds);
        // It may be back before the system has ended what it killed.
        let until = Instant::now() + Duration::from_secs(30);
        while ranks.iter().any(|rank| lives(rank)) {
            assert!(Instant::now() < until, "{signal}: a rank does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!matches!(ended.code, Some(0)), "{signal}: {:?}", ended.code);
        if signal == "STOP" {
            for part in ["error: rank 0 of 2 on ", "at step ", "has not answered"] {
                assert!(ended.err.contains(part), "{}", ended.err);
            }
        }
        let log = dir.path().join("resumed.log");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let mut resumed = run(dir.path(), 2, &format!("{LONG} --save-steps 20 --resume auto"));
        resumed.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        let mut child = resumed.spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while !said().contains("resuming from") {
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < until, "{}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
        kill("TERM", &ranks_of(&child)[0]);
        assert_eq!(super::ranks::ended(child, 60).code, Some(143), "{}", said());
    }
}

/// One error, on all ranks, that names the one and what is wrong with it.
#[test]
fn ranks_that_differ_are_refused() {
    if !has_ranks() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (one, other) =
        (start(dir.path(), "--threads 1"), start(dir.path(), "--threads 1 --weight-decay 0.5"));
    let refused = ran(&mut mpirun(&[(1, &one), (1, &other)]));
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("rank 1 differs from rank 0 in its settings"), "{}", refused.err);
    // An error of all ranks is told by the first, with its own code.
    let missing = start(dir.path(), "--threads 1 --dataset nowhere");
    let refused = ran(&mut mpirun(&[(2, &missing)]));
    assert_eq!(refused.code, Some(66), "{}", refused.err);
    assert!(refused.err.contains("error: rank 0 of 2 on "), "{}", refused.err);
}

#[test]
fn devices_start_their_own_ranks() {
    if !has_ranks() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let report = ran(&mut start(dir.path(), "--threads 1 --devices 2 --json")).json();
    assert_eq!(report["ranks"]["world_size"], 2);
    assert!(report["ranks"]["exchange_runtime"].as_f64().unwrap() > 0.0);
    // Steps of 2 ranks x 2 examples.
    assert_eq!(report["train"]["train_samples"], 24);
}

#[test]
fn what_launchers_say_wrongly_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |variables: &[(&str, &str)], code: i32, parts: &[&str]| {
        ran(start(dir.path(), "").envs(variables.iter().copied())).fails(code, parts);
    };
    refused(&[("RANK", "2"), ("WORLD_SIZE", "2")], 2, &["RANK is 2", "WORLD_SIZE"]);
    refused(&[("RANK", "0")], 2, &["WORLD_SIZE"]);
    refused(&[("OMPI_COMM_WORLD_RANK", "one"), ("OMPI_COMM_WORLD_SIZE", "2")], 2, &["OMPI_COMM_WORLD_RANK"]);
    if !cfg!(feature = "mpi") {
        refused(&[("RANK", "0"), ("WORLD_SIZE", "2")], 69, &["torchrun", "--features mpi"]);
        ran(&mut start(dir.path(), "--devices 2")).fails(69, &["--features mpi"]);
    }
    let doctor = |variables: &[(&str, &str)]| {
        let mut command = command();
        ran(command.args(["doctor", "--json"]).envs(variables.iter().copied())).json()["ranks"].clone()
    };
    let alone = doctor(&[]);
    assert_eq!(
        (&alone["launch"]["world_size"], &alone["mpi"]),
        (&Value::from(1), &Value::from(cfg!(feature = "mpi")))
    );
    let second =
        doctor(&[("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")]);
    assert_eq!((&second["launch"]["launcher"], &second["launch"]["rank"]), (&"torchrun".into(), &1.into()));
    assert!(doctor(&[("RANK", "5")])["problem"].as_str().unwrap().contains("WORLD_SIZE"));
}
