//! `study submit`: its job files under the engines that are installed here, and under a stand-in for SLURM's commands.

use super::launchers::{beside_slurm, has_slurm, is_here};
use super::study::{TINY, results, study};
use super::{Ran, command, ran};
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Writes the job file of [`TINY`] for an engine; its path and what was said.
fn submit(dir: &Path, flags: &str) -> (PathBuf, Map<String, Value>) {
    fs::write(dir.join("study.toml"), TINY).unwrap();
    let mut submit = command();
    submit.args(["study", "submit", "--device", "cpu", "--threads", "1", "--json", "--config"]);
    submit.arg(dir.join("study.toml")).arg("--output-dir").arg(dir.join("out"));
    let said = ran(submit.args(flags.split_whitespace())).json();
    (said["file"].as_str().unwrap().into(), said)
}

fn finished(dir: &Path) {
    let all = results(dir);
    assert_eq!(all["cells"].as_array().unwrap().len(), 2, "{all}");
    assert_eq!((&all["left"], &all["failed"]), (&Value::Null, &Value::Null));
}

#[test]
fn gnu_parallel_runs_what_is_left() {
    if !is_here("parallel", &["--version"], "GNU parallel") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    ran(&mut study(dir.path(), TINY, "--cell 1")).succeeds();
    let (file, said) = submit(dir.path(), "--engine parallel --throttle 2");
    assert_eq!(said["cells"], serde_json::json!([0]));
    ran(Command::new("bash").arg(&file)).succeeds();
    finished(dir.path());
    assert!(fs::read_to_string(dir.path().join("out/logs/cell-0.log")).unwrap().contains("report:"));
    let mut again = command();
    again.args(["study", "submit", "--engine", "parallel", "--device", "cpu", "--threads", "1", "--config"]);
    again.arg(dir.path().join("study.toml")).arg("--output-dir").arg(dir.path().join("out"));
    ran(&mut again).fails(2, &["nothing is left"]);
}

#[test]
fn slurm_runs_the_array() {
    if !has_slurm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, _) = submit(dir.path(), "--engine slurm --hours 0.5");
    let mut beside = beside_slurm(&dir.path().join("slurm"));
    beside.args(["timeout", "300", "sbatch", "--wait"]).arg(&file);
    ran(&mut beside).succeeds();
    finished(dir.path());
}

/// Before its limit SLURM sends USR1 to the script: the cell saves, and the task goes back into the queue.
#[test]
fn a_task_of_slurm_that_is_warned_saves_and_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let long = TINY.replace("max_steps = 4", "max_steps = 4000");
    let (file, _) = submit(dir.path(), "--engine slurm");
    fs::write(dir.path().join("study.toml"), long).unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let said = dir.path().join("scontrol.log");
    fs::write(bin.join("scontrol"), format!("#!/bin/sh\necho \"$@\" >'{}'\n", said.display())).unwrap();
    Command::new("chmod").arg("+x").arg(bin.join("scontrol")).status().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut script = Command::new("bash");
    script.arg(&file).env("PATH", path).env("SLURM_ARRAY_JOB_ID", "7").env("SLURM_ARRAY_TASK_ID", "0");
    let mut task = script.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let cell = dir.path().join("out/cells/tiny-led_qmsum-slice_64_fp32_seed42");
    let until = Instant::now() + Duration::from_secs(120);
    while fs::read_to_string(cell.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < 5 {
        assert!(Instant::now() < until && task.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    Command::new("kill").args(["-USR1", &task.id().to_string()]).status().unwrap();
    assert!(task.wait().unwrap().success());
    assert_eq!(fs::read_to_string(&said).unwrap(), "requeue 7_0\n");
    assert!(cell.join("latest").exists() && !cell.join("run.lock").exists());
}

/// The scripts in Python under the engines themselves, where `WATTENTION_PYTHON` has them.
#[test]
fn python_engines_run_the_cells() {
    let python = std::env::var("WATTENTION_PYTHON").unwrap_or("python3".into());
    let has = |module: &str| {
        let import = Command::new(&python).args(["-c", &format!("import {module}")]).output();
        let has = import.is_ok_and(|import| import.status.success());
        if !has {
            println!("skipped: {python} has no {module}");
        }
        has
    };
    if has("ray") {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = submit(dir.path(), "--engine ray --throttle 1");
        ran(Command::new(&python).arg(&file).env("RAY_USAGE_STATS_ENABLED", "0")).succeeds();
        finished(dir.path());
    }
    if has("hyperqueue") {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = submit(dir.path(), "--engine hyperqueue");
        // A cluster of this machine in place of the one that the script would find.
        let cluster = "import runpy, sys\n\
            from hyperqueue.cluster import LocalCluster, WorkerConfig\n\
            with LocalCluster() as cluster:\n\
            \x20   cluster.start_worker(WorkerConfig(cores=2))\n\
            \x20   job = runpy.run_path(sys.argv[1])['job']()\n\
            \x20   client = cluster.client()\n\
            \x20   client.wait_for_jobs([client.submit(job)])\n";
        let done: Ran = ran(Command::new(&python).args(["-c", cluster]).arg(&file));
        done.succeeds();
        finished(dir.path());
    }
}
