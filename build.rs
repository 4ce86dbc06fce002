//! Compiles the kernels that the program embeds, and says from what it was built: WATTENTION_COMMIT,
//! WATTENTION_TARGET and WATTENTION_PROFILE.

#[path = "build/archs.rs"]
mod archs;
#[path = "build/kernels.rs"]
mod kernels;
#[path = "build/missing.rs"]
mod missing;
#[path = "build/nvcc.rs"]
mod nvcc;
#[path = "build/ptxas.rs"]
mod ptxas;
#[path = "build/sim.rs"]
mod sim;
#[path = "build/toolkit.rs"]
mod toolkit;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    for path in ["build.rs", "build", kernels::FOLDER] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rustc-env=WATTENTION_COMMIT={}", commit());
    for name in ["TARGET", "PROFILE"] {
        let value = env::var(name).unwrap_or_else(|_| "unknown".into());
        println!("cargo::rustc-env=WATTENTION_{name}={value}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    sim::build(&out);
    if let Err(message) = nvcc::build(&kernels::sources(), &out) {
        for line in message.lines().filter(|line| !line.is_empty()) {
            println!("cargo::error={line}");
        }
    }
}

/// The checked-out commit, or `unknown` without git or outside a checkout of this project.
fn commit() -> String {
    // A release archive may lie inside a checkout of another project, whose commit says nothing.
    if !Path::new(".git").exists() {
        return "unknown".into();
    }
    // HEAD itself changes with the branch only; its log, where kept, with every commit.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into())
}

/// One line that git prints, or nothing when it fails or is not here.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_string();
    (output.status.success() && !line.is_empty()).then_some(line)
}
