//! Several ranks: what they share is what one process does, wherever they began, stopped or were killed.
//!
//! A build with MPI tries MPI under `mpirun`, any other one TCP under `--devices`.

mod devices;
mod faults;
mod kills;
mod launchers;
mod predicting;
mod refusals;
mod sharing;
mod steps;

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
        return true;
    }
    let is_there = Command::new("mpirun").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        println!("skipped: there is no mpirun");
    }
    is_there
}

/// The same command without what was said of its streams.
fn copied(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        copy.env(name, value.unwrap_or_default());
    }
    copy
}

/// `command` by so many ranks.
fn by(ranks: usize, command: &Command) -> Command {
    let mut launched = copied(command);
    if ranks > 1 && cfg!(feature = "mpi") {
        launched = Command::new("mpirun");
        launched.args([
            "--allow-run-as-root",
            "--oversubscribe",
            "--bind-to",
            "none",
            "-n",
            &ranks.to_string(),
        ]);
        launched.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            launched.env(name, value.unwrap_or_default());
        }
    } else if ranks > 1 {
        launched.args(["--devices", &ranks.to_string()]);
    }
    launched
}

/// `command` as the rank of a launcher that meets at `port`.
fn as_rank(command: &Command, rank: usize, of: usize, port: u16) -> Command {
    let mut launched = copied(command);
    launched.env("MASTER_ADDR", "localhost").env("MASTER_PORT", port.to_string());
    for (name, value) in [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", of), ("LOCAL_WORLD_SIZE", of)]
    {
        launched.env(name, value.to_string());
    }
    launched
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What all ranks left that were started with these commands.
fn together(commands: &[Command]) -> Vec<Ran> {
    let port = free_port();
    let start = |(rank, command)| {
        let mut command = as_rank(command, rank, commands.len(), port);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let started: Vec<Child> = commands.iter().enumerate().map(start).collect();
    started.into_iter().map(left).collect()
}

/// `evaluate` of `model` on two batches and a half, on one thread.
fn evaluation(model: &Path, flags: &str) -> Command {
    let mut command = command();
    command.args(["evaluate", "--device", "cpu", "--threads", "1", "--model"]).arg(model);
    let defaults = ["--dataset qmsum-slice", "--max-samples 5", "--batch-size 2", "--max-source-length 64"];
    let defaults = defaults.into_iter().chain(["--max-target-length 16", "--max-new-tokens 8"]);
    for default in defaults.filter(|default| !flags.contains(default.split(' ').next().unwrap())) {
        command.args(default.split(' '));
    }
    command.args(flags.split_whitespace());
    command
}

/// What a process left.
fn left(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// What every run here has. A key's bias changes no attention: its gradient is what rounding leaves, which AdamW with
/// its default epsilon would make as large as that of any other parameter.
const BASE: &str = "--threads 1 --max-train-samples 12 --learning-rate 1e-4 --adam-epsilon 1e-6";

/// A run of 8 steps by so many ranks on one thread each.
fn run(dir: &Path, ranks: usize, flags: &str) -> Command {
    let start = start(dir, &format!("{BASE} {flags}"));
    match ranks {
        1 => start,
        _ => by(ranks, &start),
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

/// The processes that one has started, in their order.
fn children_of(parent: u32) -> Vec<String> {
    let parent = parent.to_string();
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

/// The ranks of a launcher, or of a first one that has started the others, in their order.
fn ranks_of(launched: &Child) -> Vec<String> {
    let mut found = children_of(launched.id());
    if !cfg!(feature = "mpi") {
        found.insert(0, launched.id().to_string());
    }
    found
}

/// Whether a process is there that has not ended.
fn lives(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with(['Z', 'X']))
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
    left(child)
}
