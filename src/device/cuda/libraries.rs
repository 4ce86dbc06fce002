//! NVIDIA's libraries, which are looked for when they are needed: the program starts without them.

use cudarc::cublaslt::sys as cublaslt;
use cudarc::driver::sys as driver;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The driver (libcuda), matrix products (libcublasLt), sensors (libnvidia-ml) and exchanges between GPUs (libnccl).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    Driver,
    CublasLt,
    Nvml,
    Nccl,
}

impl Library {
    pub const ALL: [Library; 4] = [Library::Driver, Library::CublasLt, Library::Nvml, Library::Nccl];

    /// What its files are called, up to the version.
    pub fn name(self) -> &'static str {
        match self {
            Library::Driver => "libcuda",
            Library::CublasLt => "libcublasLt",
            Library::Nvml => "libnvidia-ml",
            Library::Nccl => "libnccl",
        }
    }

    /// Loads it for good, and says whether that went well.
    pub fn load(self) -> bool {
        // SAFETY: NVIDIA's libraries may be loaded at any time and on any thread; cudarc keeps the one it finds,
        // and panics only where it finds none.
        unsafe {
            match self {
                Library::Driver => {
                    let found = driver::is_culib_present();
                    found.then(|| driver::culib()).is_some()
                }
                Library::CublasLt => {
                    // Once loaded from its folder, the system's loader finds it by its name.
                    let found = cublaslt::is_culib_present()
                        || (self.files().into_iter().any(load) && cublaslt::is_culib_present());
                    found.then(|| cublaslt::culib()).is_some()
                }
                Library::Nvml => load("libnvidia-ml.so.1".into()),
                Library::Nccl => load("libnccl.so.2".into()) || self.files().into_iter().any(load),
            }
        }
    }

    /// Where the loaded one is.
    pub fn path(self) -> Option<PathBuf> {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
        let is_it = |path: &&Path| path.file_name().is_some_and(|name| self.is_file(&name.to_string_lossy()));
        let mut found = paths.filter(is_it);
        found.next().map(Path::to_path_buf)
    }

    fn is_file(self, name: &str) -> bool {
        name.strip_prefix(self.name()).is_some_and(|rest| rest.starts_with(".so"))
    }

    /// Files of it in the folders where toolkits and Python packages put libraries.
    fn files(self) -> Vec<PathBuf> {
        let entries = folders().into_iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let paths = entries.flatten().map(|entry| entry.path());
        let is_it =
            |path: &PathBuf| path.file_name().is_some_and(|name| self.is_file(&name.to_string_lossy()));
        paths.filter(is_it).collect()
    }
}

/// Loads a library and never unloads it.
fn load(path: PathBuf) -> bool {
    // SAFETY: only NVIDIA's libraries are named here, which may be loaded at any time.
    match unsafe { libloading::Library::new(path) } {
        Ok(library) => {
            std::mem::forget(library);
            true
        }
        Err(_) => false,
    }
}

/// The toolkit's folders, then those of the Python or conda environment that the program lies in and of all on PATH.
fn folders() -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let usual = ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from);
    let mut folders: Vec<PathBuf> = homes.chain(usual).map(|home| home.join("lib64")).collect();
    let path = env::var_os("PATH").unwrap_or_default();
    let own = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_path_buf()));
    for lib in
        own.into_iter().chain(env::split_paths(&path)).filter_map(|bin| Some(bin.parent()?.join("lib")))
    {
        for python in subfolders(&lib, |name| name.starts_with("python3")) {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = subfolders(&python.join(packages).join("nvidia"), |_| true);
                folders.extend(nvidia.into_iter().map(|package| package.join("lib")));
            }
        }
        folders.push(lib);
    }
    folders
}

fn subfolders(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|e| wanted(&e.file_name().to_string_lossy())).map(|e| e.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        assert!(Library::CublasLt.is_file("libcublasLt.so.13"));
        assert!(Library::Driver.is_file("libcuda.so"));
        assert!(!Library::Driver.is_file("libcudart.so.12"));
        assert!(!Library::Nvml.is_file("libnvidia-mlx.so"));
    }

    #[test]
    fn what_is_not_loaded_has_no_path() {
        if !Library::Nvml.load() {
            assert_eq!(Library::Nvml.path(), None);
        }
    }
}
