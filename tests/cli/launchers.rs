//! What starts processes, where it is here: what is not is counted as skipped.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The program that is called `name` says `what` of itself.
pub fn is_here(name: &str, arguments: &[&str], what: &str) -> bool {
    let said = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    let is_here = said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(what));
    if !is_here {
        println!("skipped: there is no {name}");
    }
    is_here
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0)
}

pub fn has_slurm() -> bool {
    let has = is_root() && is_here("slurmctld", &["-V"], "slurm") && is_here("slurmd", &["-V"], "slurm");
    if !has {
        println!("skipped: a SLURM of this machine takes root and slurm-wlm");
    }
    has
}

/// What goes on beside a SLURM of one machine, whose state is in `folder`: a command that lacks the one to run.
pub fn beside_slurm(folder: &Path) -> Command {
    let mut beside = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/slurm.sh"));
    beside.arg(folder).stdin(Stdio::null());
    beside
}
