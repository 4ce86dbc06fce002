//! The build script where a compiler refuses a file: the part is left out, the build goes on, and the reason is kept.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with a shell script for each compiler, and the script's name.
fn stand_in(folder: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// This program's build script, as cargo built it.
fn script() -> PathBuf {
    let builds = Path::new(env!("OUT_DIR")).ancestors().nth(2).unwrap();
    let folders = std::fs::read_dir(builds).unwrap().map(|entry| entry.unwrap().path());
    let own = folders.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("wattention-"));
    let scripts = own.map(|folder| folder.join("build-script-build")).filter(|path| path.is_file());
    let built = |path: &PathBuf| path.metadata().unwrap().modified().unwrap();
    scripts.max_by_key(built).expect("cargo built the build script")
}

/// What the script tells cargo with these settings, and the table that it wrote.
fn built(settings: &[(&str, &Path)], table: &str) -> (String, String) {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(script());
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear().env("OUT_DIR", out.path());
    for name in ["PATH", "HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let target = env!("WATTENTION_TARGET");
    command.envs([("TARGET", target), ("HOST", target), ("OPT_LEVEL", "0"), ("PROFILE", "release")]);
    let arch = std::env::consts::ARCH;
    command.envs([("CARGO_CFG_TARGET_ARCH", arch), ("NUM_JOBS", "2"), ("NVCC", "none"), ("DEBUG", "false")]);
    command.envs(settings.iter().copied());
    let run = command.output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    (said, std::fs::read_to_string(out.path().join(table)).unwrap())
}

/// A C++ compiler that is what it is, and compiles nothing.
const REFUSES: &str = r#"
for argument do
    [ "$argument" = -c ] && { echo "planted.cu:7:1: error: no kernel is good enough" >&2; exit 1; }
done
exec c++ "$@""#;

fn has_compiler() -> bool {
    let here = Command::new("c++").arg("--version").output().is_ok_and(|run| run.status.success());
    if !here {
        println!("skipped: there is no c++");
    }
    here
}

#[test]
fn a_simulator_that_the_compiler_refuses_is_a_warning_with_its_first_error() {
    if !has_compiler() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let compiler = stand_in(folder.path(), "refuses", REFUSES);
    let (said, table) = built(&[("CXX", &compiler)], "sim_entries.rs");
    let warning = said.lines().find(|line| line.starts_with("cargo::warning=built without the simulator"));
    assert!(warning.is_some_and(|line| line.contains("error: no kernel is good enough")), "{said}");
    assert!(!said.contains("cargo::error") && !said.contains("cargo::rustc-cfg=wattention_sim"), "{said}");
    // What `doctor` and `--device sim` say.
    assert!(table.contains("MISSING: Option<&str> = Some(") && table.contains("good enough"), "{table}");
    // In the project's own check it ends the build, and a compiler that is only absent does not.
    let strict = ("WATTENTION_STRICT", Path::new("1"));
    let (said, _) = built(&[("CXX", &compiler), strict], "sim_entries.rs");
    assert!(said.contains("cargo::error=built without the simulator"), "{said}");
    assert!(said.contains("cargo::warning=built without kernels for GPUs: NVCC=none"), "{said}");
    let (said, _) = built(&[("CXX", Path::new("/nonexistent")), strict], "sim_entries.rs");
    assert!(said.contains("cargo::warning=built without the simulator"), "{said}");
    assert!(!said.contains("cargo::error"), "{said}");
}

#[test]
fn a_kernel_that_nvcc_refuses_is_a_warning_with_its_first_error() {
    let folder = tempfile::tempdir().unwrap();
    let nvcc = stand_in(
        folder.path(),
        "nvcc",
        r#"
[ "$1" = --version ] && { echo "Cuda compilation tools, release 13.0, V13.0.88"; exit; }
echo "kernels/x.cu(3): error: a bad day" >&2; exit 1"#,
    );
    let refuses = stand_in(folder.path(), "refuses", REFUSES);
    let (said, table) = built(&[("NVCC", &nvcc), ("CXX", &refuses)], "cuda_kernels.rs");
    let warning = said.lines().find(|line| line.starts_with("cargo::warning=built without kernels for GPUs"));
    assert!(warning.is_some_and(|line| line.contains("error: a bad day")), "{said}");
    assert!(!said.contains("cargo::error"), "{said}");
    assert!(table.contains("MISSING: Option<&str> = Some(") && table.contains("a bad day"), "{table}");
}

/// Every variant of every kernel, read by the compiler that the build did not take, under a C library that declares
/// CUDA's names.
#[test]
fn the_other_compiler_takes_every_kernel_beside_any_c_library() {
    let says =
        |name: &str| Command::new(name).arg("--version").output().ok().filter(|run| run.status.success());
    let taken = says("c++").map(|run| String::from_utf8_lossy(&run.stdout).contains("clang"));
    let other = if taken == Some(true) { "g++" } else { "clang++" };
    if taken.is_none() || says(other).is_none() {
        println!("skipped: there is no {other} beside c++");
        return;
    }
    let clash = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/clash.h");
    let folder = tempfile::tempdir().unwrap();
    // Reads in place of compiling, and leaves an empty object.
    let reads = format!(
        r#"
case " $* " in *" -c "*) ;; *) exec {other} "$@" ;; esac
for argument do [ "$previous" = -o ] && out=$argument; previous=$argument; done
{other} -fsyntax-only -include {} "$@" || exit
: >"$out""#,
        clash.display()
    );
    let compiler = stand_in(folder.path(), "reads", &reads);
    let (said, _) = built(&[("CXX", &compiler), ("WATTENTION_STRICT", Path::new("1"))], "sim_entries.rs");
    assert!(said.contains("cargo::rustc-cfg=wattention_sim") && !said.contains("cargo::error"), "{said}");
}
