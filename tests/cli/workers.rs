//! Several processes that share out one study: beside each other, killed at random, told by number, and placed by
//! engines that are installed here.

use super::study::{TINY, found, predictions, results, study};
use super::{names_in, ran};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// 18 cells of seconds.
fn grid() -> String {
    let config = TINY.replace("[64, 128]", "[64, 96, 128]").replace("max_steps = 4", "max_steps = 6");
    format!("seeds = [1, 2, 3, 4, 5, 6]\n{config}[control]\nsave_steps = 2\n")
}

/// A worker on one thread, which adds to the log of its number.
fn worker(dir: &Path, config: &str, number: usize, flags: &str) -> Child {
    let log =
        fs::File::options().create(true).append(true).open(dir.join(format!("worker-{number}.log"))).unwrap();
    let mut command = study(dir, config, "--threads 1 --json");
    command.args(flags.split_whitespace());
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn cells(dir: &Path) -> Vec<String> {
    names_in(&dir.join("out/cells"))
}

#[test]
fn workers_that_are_killed_at_random_find_what_one_finds() {
    let whole = tempfile::tempdir().unwrap();
    ran(&mut study(whole.path(), &grid(), "")).succeeds();
    let dir = tempfile::tempdir().unwrap();
    let mut workers: Vec<Child> = (0..4).map(|i| worker(dir.path(), &grid(), i, "")).collect();
    // The same kills in every run of the test, as far as processes are alike.
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let until = Instant::now() + Duration::from_secs(600);
    let mut kills = 0;
    while workers.iter_mut().any(|worker| worker.try_wait().unwrap().is_none()) {
        assert!(Instant::now() < until, "the workers do not end");
        std::thread::sleep(Duration::from_millis(50 + random(500)));
        let (which, finished) = (
            random(4) as usize,
            fs::read_dir(dir.path().join("out/cells")).map_or(0, |all| {
                all.filter(|cell| cell.as_ref().unwrap().path().join("cell.json").exists()).count()
            }),
        );
        // The last cells end in peace.
        if finished < 16 && workers[which].try_wait().unwrap().is_none() {
            workers[which].kill().unwrap();
            workers[which].wait().unwrap();
            workers[which] = worker(dir.path(), &grid(), which, "");
            kills += 1;
        }
    }
    for (i, worker) in workers.iter_mut().enumerate() {
        let log = fs::read_to_string(dir.path().join(format!("worker-{i}.log"))).unwrap();
        assert!(worker.wait().unwrap().success(), "{log}");
    }
    assert!(kills >= 5, "{kills} kills");
    assert_eq!(found(dir.path()), found(whole.path()));
    let names = cells(dir.path());
    assert_eq!((names.len(), &names), (18, &cells(whole.path())));
    for cell in &names {
        assert_eq!(predictions(dir.path(), cell), predictions(whole.path(), cell), "{cell}");
        let files = names_in(&dir.path().join("out/cells").join(cell));
        assert_eq!(files, names_in(&whole.path().join("out/cells").join(cell)), "{cell}");
    }
    let left: Vec<String> = names_in(&dir.path().join("out"));
    assert_eq!(left, names_in(&whole.path().join("out")));
    // A cell's score is said once, when it has run to its end.
    let mut ends: HashMap<String, usize> = HashMap::new();
    for i in 0..4 {
        let log = fs::read_to_string(dir.path().join(format!("worker-{i}.log"))).unwrap();
        for line in log.lines().filter(|line| line.ends_with("(scrolls)")) {
            let name = line.split_once("] ").unwrap().1.split_once(':').unwrap().0;
            *ends.entry(name.into()).or_default() += 1;
        }
    }
    assert!(ends.len() > 9, "{ends:?}");
    assert!(ends.values().all(|times| *times == 1), "{ends:?}");
    // The report says what the results say.
    let merged = ran(Command::new(env!("CARGO_BIN_EXE_wattention"))
        .args(["study", "report"])
        .arg(dir.path().join("out")));
    merged.succeeds();
    assert_eq!(found(dir.path()), found(whole.path()));
    // So do cells whose run directories are gone.
    fs::remove_dir_all(dir.path().join("out/cells")).unwrap();
    let mut again = Command::new(env!("CARGO_BIN_EXE_wattention"));
    ran(again.args(["study", "report"]).arg(dir.path().join("out"))).succeeds();
    assert_eq!(found(dir.path()), found(whole.path()));
}

/// A worker may die before it has removed all, and another one that finds the cell finished may have its lock by then.
#[test]
fn what_a_finished_cell_does_not_need_is_removed_whoever_left_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = grid().replace("seeds = [1, 2, 3, 4, 5, 6]", "seeds = [1]").replace("[64, 96, 128]", "[64]");
    ran(&mut study(dir.path(), &config, "")).succeeds();
    let names = cells(dir.path());
    let cell = dir.path().join("out/cells").join(&names[0]);
    let files = names_in(&cell);
    let leave = |name: &str| {
        let path = cell.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "left").unwrap();
    };
    let checkpoint = ["checkpoint-2/manifest.json", "checkpoint-4.tmp-1-old/model.safetensors", "latest"];
    for left in [&checkpoint[..], &["failed.json"], &["model/config.json"]] {
        left.iter().for_each(|name| leave(name));
        let again = ran(&mut study(dir.path(), &config, ""));
        again.succeeds();
        assert_eq!(names_in(&cell), files, "{left:?}");
    }
    // What is not ours stays.
    leave("checkpoint-2/notes.txt");
    ran(&mut study(dir.path(), &config, "")).succeeds();
    assert!(cell.join("checkpoint-2/notes.txt").exists());
}

#[test]
fn one_cell_runs_by_its_name_or_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let listed = |flags: &str| {
        let mut command = super::command();
        command.args(["study", "cells", "--json", "--config"]).arg(dir.path().join("study.toml"));
        command.arg("--output-dir").arg(dir.path().join("out")).args(flags.split_whitespace());
        ran(&mut command).json()["cells"].as_array().unwrap().clone()
    };
    let second = ran(&mut study(dir.path(), TINY, "--cell 1 --json")).json();
    assert_eq!(second["cells"].as_array().unwrap().len(), 1);
    assert_eq!(second["cells"][0]["max_source_length"], 128);
    assert_eq!(results(dir.path())["left"].as_array().unwrap().len(), 1);
    let all = listed("");
    let of = |key: &str| all.iter().map(|cell| cell[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("index"), [0, 1]);
    assert_eq!(of("state"), ["left", "finished"]);
    assert_eq!(of("batch_size"), [2, 2]);
    assert_eq!(of("steps_at_most"), [4, 4]);
    let name = of("cell")[0].as_str().unwrap().to_string();
    ran(&mut study(dir.path(), TINY, &format!("--cell {name}"))).succeeds();
    assert!(listed("").iter().all(|cell| cell["state"] == "finished"));
    assert_eq!(results(dir.path())["left"], Value::Null);
    for wrong in ["2", "-1", "nothing"] {
        ran(&mut study(dir.path(), TINY, &format!("--cell={wrong}"))).fails(2, &["study cells"]);
    }
}

#[test]
fn a_cell_of_another_worker_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let cell = dir.path().join("out/cells/tiny-led_qmsum-slice_64_fp32_seed42");
    fs::create_dir_all(&cell).unwrap();
    let lock = wattention::files::lock::Lock::take(&cell).unwrap();
    let this = format!("process {}", std::process::id());
    ran(&mut study(dir.path(), TINY, "--cell 0")).fails(74, &[&this]);
    // The other cell is run, and this one waited for until the worker is told to stop.
    let mut child = worker(dir.path(), TINY, 0, "");
    let finished = dir.path().join("out/cells/tiny-led_qmsum-slice_128_fp32_seed42/cell.json");
    let until = Instant::now() + Duration::from_secs(300);
    let log = dir.path().join("worker-0.log");
    while !finished.exists() || !fs::read_to_string(&log).unwrap().contains("waiting for 1 cell") {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Neither another study nor one that runs all again may begin there meanwhile.
    ran(&mut study(dir.path(), TINY, "--overwrite-output-dir")).fails(74, &[&this]);
    ran(&mut study(dir.path(), &TINY.replace("= 4", "= 5"), "")).fails(74, &[&this, "another study"]);
    fs::write(dir.path().join("study.toml"), TINY).unwrap();
    drop(lock);
    assert!(child.wait().unwrap().success(), "{}", fs::read_to_string(&log).unwrap());
    assert_eq!(results(dir.path())["cells"].as_array().unwrap().len(), 2);
}

#[test]
fn a_cell_that_failed_for_one_worker_is_not_tried_by_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let config = TINY.replace("[64, 128]", "[100000, 64, 128]");
    let mut workers: Vec<Child> = (0..3).map(|i| worker(dir.path(), &config, i, "")).collect();
    let codes: Vec<_> = workers.iter_mut().map(|worker| worker.wait().unwrap().code()).collect();
    let logs: String =
        (0..3).map(|i| fs::read_to_string(dir.path().join(format!("worker-{i}.log"))).unwrap()).collect();
    // Workers that begin later see a failure of before, and try again.
    assert!(codes.contains(&Some(2)), "{codes:?} {logs}");
    let all = results(dir.path());
    assert_eq!(all["failed"].as_array().unwrap().len(), 1);
    assert_eq!(all["cells"].as_array().unwrap().len(), 2);
}

/// A machine that lost power left its claim: whoever watches it for a lease without a sign of life takes the cell.
#[test]
fn the_cell_of_a_dead_machine_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let cell = dir.path().join("out/cells/tiny-led_qmsum-slice_64_fp32_seed42");
    let place = cell.join("run.lock");
    fs::create_dir_all(&cell).unwrap();
    let lock = wattention::files::lock::Lock::take(&cell).unwrap();
    let file = fs::read_dir(&place).unwrap().next().unwrap().unwrap().path();
    let mut claim: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    drop(lock);
    claim["host"] = "elsewhere".into();
    claim["lease_milliseconds"] = 700.into();
    fs::create_dir(&place).unwrap();
    fs::write(place.join("owner-elsewhere"), claim.to_string()).unwrap();
    let start = Instant::now();
    let done = ran(&mut study(dir.path(), TINY, "--cell 0"));
    done.succeeds();
    assert!(start.elapsed() >= Duration::from_millis(700));
    assert!(done.err.contains("on elsewhere"), "{}", done.err);
    assert!(cell.join("cell.json").exists() && !place.exists());
}
