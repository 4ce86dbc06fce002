//! Compiles every kernel file for GPUs, and writes the table of them that the program embeds.

use crate::archs::{self, Arch};
use crate::kernels::{self, Source};
use crate::missing::{self, Missing};
use crate::ptxas;
use crate::toolkit::{self, Nvcc};
use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

/// The first release with a choice of compressions.
const COMPRESSES: (u32, u32) = (12, 8);

/// The ways to compile a file: the name in `src/device/cuda/kernels.rs` and the flag.
const VARIANTS: [(&str, Option<&str>); 4] = [
    ("F32", None),
    ("Bf16", Some("-DWATTENTION_BF16")),
    ("Tf32", Some("-DWATTENTION_TF32")),
    ("Tf32x3", Some("-DWATTENTION_TF32X3")),
];

/// One run of nvcc.
struct Job<'a> {
    source: &'a Source,
    variant: &'static str,
    flags: Vec<String>,
    /// What nvcc writes, and beside it with the ending `log` what it says.
    image: PathBuf,
}

/// Writes `OUT_DIR/cuda_kernels.rs`, with all kernels or, without an nvcc that compiles them, with none and the reason.
pub fn build(sources: &[Source], out: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=WATTENTION_CUDA_ARCHS");
    let list = env::var("WATTENTION_CUDA_ARCHS").unwrap_or_else(|_| archs::DEFAULT.into());
    let archs = archs::parse(&list).map_err(|e| format!("WATTENTION_CUDA_ARCHS={list}: {e}"))?;
    let compiled = toolkit::find()?.map_err(Missing::Absent).and_then(|nvcc| {
        let folder = out.join("cuda");
        let jobs = jobs(&nvcc, &archs, sources, &folder);
        let images = compile(&nvcc, &jobs, &folder);
        images.and_then(|()| table(&nvcc.release, &archs, &jobs)).map_err(Missing::Refused)
    });
    let table = compiled.unwrap_or_else(|why| {
        let remedy = "Install the CUDA toolkit, 12.0 or newer, or run scripts/check.sh, which fetches a compiler; \
                      then `touch build.rs` and build again";
        empty_table(&missing::without("kernels for GPUs", &why, remedy))
    });
    let path = out.join("cuda_kernels.rs");
    fs::write(&path, table).map_err(|e| format!("{}: {e}", path.display()))
}

fn jobs<'a>(nvcc: &Nvcc, archs: &[Arch], sources: &'a [Source], folder: &Path) -> Vec<Job<'a>> {
    let mut shared: Vec<String> = ["-fatbin", "-O3", "-std=c++17", "-Xptxas=-v"].map(String::from).into();
    if nvcc.version >= COMPRESSES {
        // The smallest form takes a tenth of the compiler's time; only what users install is copied about.
        let mode =
            if env::var("PROFILE").is_ok_and(|profile| profile == "release") { "size" } else { "speed" };
        shared.push(format!("--compress-mode={mode}"));
    }
    // For example -lineinfo, which profilers read, and which doubles the size.
    println!("cargo::rerun-if-env-changed=WATTENTION_NVCC_FLAGS");
    let more = env::var("WATTENTION_NVCC_FLAGS").unwrap_or_default();
    shared.extend(more.split_whitespace().map(String::from));
    let headers = kernels::headers();
    let mut jobs = Vec::new();
    for source in sources {
        for (variant, own) in
            VARIANTS.iter().filter(|(variant, _)| !variant.starts_with("Tf32") || source.tf32)
        {
            let mut flags = shared.clone();
            flags.extend(match source.hopper && *variant == "Bf16" {
                true => archs::flags(archs),
                false => archs::shared_flags(archs),
            });
            flags.extend(own.map(String::from));
            let files: Vec<&PathBuf> = headers.iter().chain([&source.path]).collect();
            let key: Vec<&String> = flags.iter().chain([&nvcc.release]).collect();
            let hash = kernels::content_hash(&files, &key);
            let image = folder.join(format!("{}-{}-{hash}.fatbin", source.stem, variant.to_lowercase()));
            jobs.push(Job { source, variant, flags, image });
        }
    }
    jobs
}

/// Runs the jobs whose results are not in `folder`, as many at a time as cargo allows, and drops older results.
fn compile(nvcc: &Nvcc, jobs: &[Job], folder: &Path) -> Result<(), String> {
    let at_folder = |e| format!("{}: {e}", folder.display());
    fs::create_dir_all(folder).map_err(at_folder)?;
    let queue = Mutex::new(jobs.iter().filter(|job| !job.image.exists()));
    let failures = Mutex::new(Vec::new());
    let workers = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(job) = { queue.lock().expect("no worker panics").next() } {
                    if let Err(failure) = job.run(nvcc) {
                        failures.lock().expect("no worker panics").push(failure);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no worker panics");
    failures.sort();
    if !failures.is_empty() {
        return Err(failures.join("\n"));
    }
    let wanted: BTreeSet<PathBuf> = jobs.iter().flat_map(|job| [job.image.clone(), job.log()]).collect();
    for entry in fs::read_dir(folder).map_err(at_folder)? {
        let path = entry.map_err(at_folder)?.path();
        if !wanted.contains(&path) {
            fs::remove_file(&path).map_err(at_folder)?;
        }
    }
    Ok(())
}

impl Job<'_> {
    fn log(&self) -> PathBuf {
        self.image.with_extension("log")
    }

    fn run(&self, nvcc: &Nvcc) -> Result<(), String> {
        let what = format!("{} ({})", self.source.path.display(), self.variant.to_lowercase());
        let unfinished = self.image.with_extension("unfinished");
        let mut command = Command::new(&nvcc.path);
        let command = command.args(&self.flags).arg("-o").arg(&unfinished).arg(&self.source.path);
        let output = command.output().map_err(|e| format!("{}: {e}", nvcc.path.display()))?;
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let said = said.concat();
        if !output.status.success() {
            return Err(format!("{} refuses {what}:\n{said}", nvcc.path.display()));
        }
        let written = fs::write(self.log(), said).and_then(|()| fs::rename(&unfinished, &self.image));
        written.map_err(|e| format!("{}: {e}", self.image.display()))
    }
}

fn empty_table(why: &str) -> String {
    format!(
        "pub static NVCC: Option<&str> = None;\n\
         pub static MISSING: Option<&str> = Some({why:?});\n\
         pub static ARCHITECTURES: &[Architecture] = &[];\n\
         pub static PTX: Option<u32> = None;\n\
         pub static MODULES: &[Module] = &[];\n\
         pub static RESOURCES: &[Resources] = &[];\n"
    )
}

/// The Rust source of the table; its types are in `src/device/cuda/kernels.rs`.
fn table(release: &str, archs: &[Arch], jobs: &[Job]) -> Result<String, String> {
    let (mut modules, mut resources) = (String::new(), String::new());
    for Job { source, variant, image, .. } in jobs {
        let (stem, entries) = (&source.stem, &source.entries);
        let log = image.with_extension("log");
        let log = fs::read_to_string(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        missing::warn(&format!("{stem} ({})", variant.to_lowercase()), &log);
        write_line(
            &mut modules,
            format_args!(
                "Module {{ stem: {stem:?}, variant: Variant::{variant}, entries: &{entries:?}, \
                 image: &Image(*include_bytes!({image:?})) }},"
            ),
        );
        for usage in ptxas::parse(&log) {
            let ptxas::Usage { entry, arch, registers, shared, stack, spill_stores, spill_loads } = usage;
            write_line(
                &mut resources,
                format_args!(
                    "Resources {{ entry: {entry:?}, stem: {stem:?}, variant: Variant::{variant}, arch: {arch:?}, \
                     registers: {registers}, shared: {shared}, stack: {stack}, spill_stores: {spill_stores}, \
                     spill_loads: {spill_loads} }},"
                ),
            );
        }
    }
    let architecture =
        |arch: &Arch| format!("Architecture {{ number: {}, suffix: {:?} }}", arch.number, arch.suffix);
    let architectures: Vec<String> = archs.iter().map(architecture).collect();
    let ptx = archs::portable(archs).map(|arch| arch.number);
    Ok(format!(
        "pub static NVCC: Option<&str> = Some({release:?});\n\
         pub static MISSING: Option<&str> = None;\n\
         pub static ARCHITECTURES: &[Architecture] = &[{}];\n\
         pub static PTX: Option<u32> = {ptx:?};\n\
         pub static MODULES: &[Module] = &[\n{modules}];\n\
         pub static RESOURCES: &[Resources] = &[\n{resources}];\n",
        architectures.join(", ")
    ))
}

fn write_line(text: &mut String, line: std::fmt::Arguments) {
    writeln!(text, "    {line}").expect("a String takes every line");
}
