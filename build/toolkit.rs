//! Where nvcc is, and which it is.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest nvcc that knows every default architecture.
const OLDEST: (u32, u32) = (12, 0);

/// A compiler that runs.
pub struct Nvcc {
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
    /// All of it, as in 13.0.88.
    pub release: String,
}

/// What the search looks at; a change of one of these starts it again.
const VARIABLES: [&str; 7] =
    ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH", "WATTENTION_NVCC_DIR", "XDG_CACHE_HOME", "HOME"];

/// The first nvcc of `NVCC`, `CUDA_HOME`, `CUDA_PATH`, `PATH` and the folder that scripts/check.sh installs into;
/// none with a reason when there is none. An `NVCC` that is not there is an error; `NVCC=none` asks for none.
pub fn find() -> Result<Result<Nvcc, String>, String> {
    for name in VARIABLES {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let path = match variable("NVCC").map(PathBuf::from) {
        Some(path) if path == Path::new("none") => return Ok(Err("NVCC=none".into())),
        Some(path) if path.is_file() => Some(path),
        Some(path) => return Err(format!("NVCC={}: no such file", path.display())),
        None => places().into_iter().find(|path| path.is_file()),
    };
    let Some(path) = path else {
        return Ok(Err("nvcc is not here".into()));
    };
    // An upgrade in place is noticed, too.
    println!("cargo::rerun-if-changed={}", path.display());
    let nvcc = identify(path)?;
    match nvcc.version >= OLDEST {
        true => Ok(Ok(nvcc)),
        false => Ok(Err(format!("{} is nvcc {}, too old", nvcc.path.display(), nvcc.release))),
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn places() -> Vec<PathBuf> {
    let nvcc = format!("nvcc{}", env::consts::EXE_SUFFIX);
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    let mut places: Vec<PathBuf> = homes.map(|home| Path::new(&home).join("bin").join(&nvcc)).collect();
    let path = env::var_os("PATH").unwrap_or_default();
    places.extend(env::split_paths(&path).map(|folder| folder.join(&nvcc)));
    places.extend(installed().map(|folder| folder.join("nvidia/cu13/bin").join(&nvcc)));
    places
}

/// Where scripts/check.sh puts the compiler's wheels.
fn installed() -> Option<PathBuf> {
    let cache = || {
        let home = || variable("HOME").map(|home| Path::new(&home).join(".cache"));
        variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
    };
    let default = || cache().map(|cache| cache.join("wattention/nvcc-13.0"));
    variable("WATTENTION_NVCC_DIR").map(PathBuf::from).or_else(default)
}

fn identify(path: PathBuf) -> Result<Nvcc, String> {
    let run = Command::new(&path).arg("--version").output();
    let output = run.map_err(|e| format!("{} does not run: {e}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let release = release(&text).ok_or(format!("{} --version says {text:?}", path.display()))?;
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => Ok(Nvcc { path, version: (major, minor), release: release.into() }),
        _ => Err(format!("{}: version {release:?}", path.display())),
    }
}

/// `13.0.88` of `Cuda compilation tools, release 13.0, V13.0.88`.
fn release(text: &str) -> Option<&str> {
    let (_, after) = text.split_once(", V")?;
    after.split_whitespace().next()
}
