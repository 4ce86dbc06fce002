//! Ranks that torchrun and SLURM start, and those of two hosts.

use super::super::launchers::{beside_slurm, has_slurm, is_here, is_root};
use super::*;
use std::path::PathBuf;

fn torchrun() -> Option<PathBuf> {
    let python = std::env::var_os("WATTENTION_PYTHON").map(PathBuf::from);
    let found =
        python.and_then(|python| Some(python.parent()?.join("torchrun"))).filter(|path| path.exists());
    if found.is_none() {
        println!("skipped: there is no torchrun beside WATTENTION_PYTHON");
    }
    found
}

/// Two ranks of `command` under torchrun, whose agent has a store at MASTER_ADDR:MASTER_PORT.
fn under_torchrun(torchrun: &Path, flags: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(torchrun);
    outer.args(["--nproc-per-node", "2", "--master-port", &free_port().to_string()]).args(flags);
    outer.arg("--no-python").arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    outer
}

#[test]
fn torchrun_starts_ranks() {
    let Some(torchrun) = torchrun() else { return };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flags = "--per-device-train-batch-size 1 --no-predict";
    ran(run(one.path(), 1, flags).args(["--devices", "2"])).succeeds();
    ran(&mut under_torchrun(&torchrun, &[], &run(two.path(), 1, flags))).succeeds();
    assert!(model(one.path()) == model(two.path()));
}

/// A rank is killed; the agent ends the others and starts all anew, at the same port.
#[test]
fn torchrun_starts_ranks_again() {
    let Some(torchrun) = torchrun() else { return };
    let flags = "--max-steps 200 --save-steps 5 --eval-steps 0 --no-predict --per-device-train-batch-size 1";
    let (whole, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ran(run(whole.path(), 1, flags).args(["--devices", "2"])).succeeds();
    let inner = run(dir.path(), 1, &format!("{flags} --resume auto"));
    let mut outer = under_torchrun(&torchrun, &["--max-restarts", "2"], &inner);
    let agent = outer.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    while !dir.path().join("run/latest").exists() {
        assert!(Instant::now() < until, "no checkpoint is written");
        std::thread::sleep(Duration::from_millis(5));
    }
    let program = inner.get_program().to_str().unwrap();
    let rank = children_of(agent.id()).into_iter().rfind(|rank| runs(rank, program)).unwrap();
    kill("KILL", &rank);
    let ended = ended(agent, 120);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("resuming from"), "{}", ended.err);
    assert!(model(whole.path()) == model(dir.path()));
}

fn runs(process: &str, program: &str) -> bool {
    fs::read(format!("/proc/{process}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).starts_with(&format!("{program}\0")))
}

#[test]
fn srun_starts_ranks() {
    if !has_slurm() {
        return;
    }
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flags = "--per-device-train-batch-size 1";
    ran(run(one.path(), 1, flags).args(["--devices", "2"])).succeeds();
    let inner = run(two.path(), 1, flags);
    let mut outer = beside_slurm(&two.path().join("slurm"));
    outer.args(["timeout", "120", "srun", "--ntasks", "2", "--kill-on-bad-exit"]);
    if cfg!(feature = "mpi") {
        outer.arg("--mpi=pmix");
    }
    outer.arg(inner.get_program()).args(inner.get_args());
    // What a job's script sets, for SLURM itself says no place to meet.
    outer.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", free_port().to_string());
    ran(&mut outer).succeeds();
    assert!(model(one.path()) == model(two.path()));
    assert_eq!(predictions(one.path()), predictions(two.path()));
}

/// Two hosts of one machine: network namespaces with a cable between them, and names of their own.
struct Hosts {
    names: [String; 2],
}

const ADDRESSES: [[&str; 2]; 2] = [["10.77.0.1", "fd77::1"], ["10.77.0.2", "fd77::2"]];

fn ip(words: &str) -> bool {
    let ran = Command::new("ip").args(words.split(' ')).stdin(Stdio::null()).stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

impl Hosts {
    fn new(what: &str) -> Option<Self> {
        let here =
            is_root() && is_here("ip", &["-V"], "iproute2") && is_here("unshare", &["-V"], "util-linux");
        let names = ["a", "b"].map(|host| format!("wattention-{what}-{host}-{}", std::process::id()));
        let hosts = Self { names };
        let [a, b] = &hosts.names;
        let made = here
            && ip(&format!("netns add {a}"))
            && ip(&format!("netns add {b}"))
            && ip(&format!("link add cable netns {a} type veth peer name cable netns {b}"))
            && hosts.names.iter().zip(ADDRESSES).all(|(name, [four, six])| {
                ip(&format!("-n {name} addr add {four}/24 dev cable"))
                    && ip(&format!("-n {name} addr add {six}/64 dev cable nodad"))
                    && ip(&format!("-n {name} link set lo up"))
                    && ip(&format!("-n {name} link set cable up"))
            });
        if !made {
            println!("skipped: network namespaces take root and iproute2");
        }
        made.then_some(hosts)
    }

    /// Rank `at` of two of `command`, on a host of its own; they meet at an address of the first.
    fn rank(&self, at: usize, command: &Command, address: &str, port: u16) -> Child {
        let host = format!("host-{}", ["a", "b"][at]);
        let mut rank = Command::new("ip");
        rank.args(["netns", "exec", &self.names[at], "unshare", "--uts", "sh", "-c"]);
        rank.arg(format!("hostname {host} && exec \"$0\" \"$@\"")).arg(command.get_program());
        rank.args(command.get_args()).env("MASTER_ADDR", address).env("MASTER_PORT", port.to_string());
        for (name, value) in [("RANK", at), ("LOCAL_RANK", 0), ("WORLD_SIZE", 2), ("LOCAL_WORLD_SIZE", 1)] {
            rank.env(name, value.to_string());
        }
        let streams = rank.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        streams.spawn().unwrap()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.names.iter().for_each(|name| _ = ip(&format!("netns del {name}")));
    }
}

#[test]
fn hosts_share_out_a_run() {
    let Some(hosts) = Hosts::new("share") else { return };
    let one = tempfile::tempdir().unwrap();
    let flags = "--per-device-train-batch-size 1";
    ran(run(one.path(), 1, flags).args(["--devices", "2"])).succeeds();
    for address in ADDRESSES[0] {
        let dir = tempfile::tempdir().unwrap();
        let command = run(dir.path(), 1, flags);
        let ranks = [0, 1].map(|at| hosts.rank(at, &command, address, 29500));
        for ended in ranks.map(left) {
            assert_eq!(ended.code, Some(0), "{address}: {}", ended.err);
        }
        assert!(model(one.path()) == model(dir.path()), "{address}");
        assert_eq!(predictions(one.path()), predictions(dir.path()), "{address}");
    }
}

/// Nothing tells of a cable that is cut: who waits for an answer gives up after `--ddp-timeout`.
#[test]
fn a_link_that_is_lost_ends_all() {
    let Some(hosts) = Hosts::new("lost") else { return };
    let dir = tempfile::tempdir().unwrap();
    let flags =
        "--max-steps 100000 --eval-steps 0 --no-predict --per-device-train-batch-size 1 --ddp-timeout 3";
    let command = run(dir.path(), 1, flags);
    let mut ranks = [0, 1].map(|at| hosts.rank(at, &command, ADDRESSES[0][0], 29500));
    let until = Instant::now() + Duration::from_secs(120);
    while fs::read_to_string(dir.path().join("run/metrics.jsonl")).map_or(0, |text| text.lines().count()) < 5
    {
        let ended = ranks.iter_mut().any(|rank| rank.try_wait().unwrap().is_some());
        assert!(!ended && Instant::now() < until, "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(ip(&format!("-n {} link set cable down", hosts.names[1])));
    for (at, rank) in ranks.into_iter().enumerate() {
        let ended = ended(rank, 30);
        assert_eq!(ended.code, Some(69), "{}", ended.err);
        let (own, other) = (["host-a", "host-b"][at], 1 - at);
        for part in [format!("rank {at} of 2 on {own}"), format!("rank {other}"), "at step ".into()] {
            assert!(ended.err.contains(&part), "{part}: {}", ended.err);
        }
    }
}
