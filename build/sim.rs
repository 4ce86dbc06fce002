//! The simulator's side of the build: every kernel file as C++, one object per storage type, and a table of entries.
//!
//! Needs a C++ compiler; without one, or where it refuses a file, the program is built without the simulator and says
//! so. With WATTENTION_SIM_SANITIZE=address,undefined the kernels are instrumented.

use crate::kernels::{self, Source};
use crate::missing::{self, Missing};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// (name in symbols, preprocessor definition).
const VARIANTS: [(&str, &str); 4] =
    [("f32", ""), ("bf16", "WATTENTION_BF16"), ("tf32", "WATTENTION_TF32"), ("tf32x3", "WATTENTION_TF32X3")];

/// One compilation: the C++ text, and the name of its object without what it was made from.
struct Unit {
    text: String,
    stem: String,
}

/// Builds and links the simulated kernels; says with `cfg(wattention_sim)` whether they are there.
pub fn build(out: &Path) {
    println!("cargo::rustc-check-cfg=cfg(wattention_sim)");
    println!("cargo::rerun-if-env-changed=WATTENTION_SIM_SANITIZE");
    let mut sources = kernels::sources();
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        sources.extend(kernels::planted());
    }
    let table = match library(&sources, out) {
        Ok(()) => {
            println!("cargo::rustc-cfg=wattention_sim");
            println!("cargo::rustc-link-search=native={}", out.display());
            println!("cargo::rustc-link-lib=static=wattention_sim");
            table(&sources)
        }
        Err(why) => {
            let why = missing::without(
                "the simulator of the kernels (--device sim)",
                &why,
                "Install g++ 12 or clang 14, or newer ones, name the compiler in CXX and build again",
            );
            format!(
                "static ALL: &[(&str, &str, Address)] = &[];\nconst MISSING: Option<&str> = Some({why:?});\n"
            )
        }
    };
    fs::write(out.join("sim_entries.rs"), table).expect("cannot write to OUT_DIR");
}

/// Compiles the kernels into a library in `out`, or says why not.
fn library(sources: &[Source], out: &Path) -> Result<(), Missing> {
    let absent = || Missing::Absent("there is no C++ compiler like g++ or clang".into());
    let compiler = compiler().ok_or_else(absent)?;
    let units: Vec<Unit> = units(sources);
    let objects = compile(&compiler, sources, &units, &shared(out));
    objects.and_then(|objects| archive(&objects, out)).map_err(Missing::Refused)
}

/// The folder of the objects: beside the profiles, so that clippy, tests and releases compile each once.
fn shared(out: &Path) -> PathBuf {
    // Cargo gives target/PROFILE/build/PACKAGE/out.
    let target =
        out.ancestors().nth(4).filter(|_| out.ancestors().nth(2).is_some_and(|p| p.ends_with("build")));
    let folder = target.unwrap_or(out).join("sim");
    match fs::create_dir_all(&folder) {
        Ok(()) => folder,
        Err(_) => out.to_path_buf(),
    }
}

/// The compiler and its flags, or nothing where there is none that works.
fn compiler() -> Option<Compiler> {
    let tool =
        cc::Build::new().cpp(true).cargo_warnings(false).cargo_output(false).try_get_compiler().ok()?;
    if !tool.is_like_gnu() && !tool.is_like_clang() {
        return None;
    }
    // Contraction as nvcc does it: a multiplication and an addition in one rounding.
    let flags = ["-std=c++17", "-g1", "-fPIC", "-ffp-contract=fast", "-fno-exceptions", "-fno-rtti"];
    let mut flags: Vec<String> = flags.iter().map(|f| f.to_string()).collect();
    flags.extend(["-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function"].map(String::from));
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        // src/device/sim checks that the processor has them before it runs anything.
        flags.extend(["-mavx2", "-mfma"].map(String::from));
    }
    match std::env::var("WATTENTION_SIM_SANITIZE").ok().filter(|s| !s.is_empty()) {
        Some(sanitizers) => {
            // Optimising instrumented code takes three times as long as running it once.
            flags.push("-O0".into());
            flags.push(format!("-fsanitize={sanitizers}"));
            flags.push("-fno-sanitize-recover=all".into());
            link_sanitizers(tool.path());
        }
        // Traps where a vector is not aligned, as a GPU does; needs no library.
        None => {
            flags.extend(["-O1", "-fsanitize=alignment"].map(String::from));
            let traps = match tool.is_like_clang() {
                true => "-fsanitize-trap=alignment",
                false => "-fsanitize-undefined-trap-on-error",
            };
            flags.push(traps.into());
        }
    }
    let path = tool.path().to_path_buf();
    let run = Command::new(&path).arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&run.stdout).into_owned();
    run.status.success().then_some(Compiler { path, flags, version })
}

/// Rust links without the compiler's own libraries, of which the sanitizers are two.
fn link_sanitizers(compiler: &Path) {
    for library in ["asan", "ubsan"] {
        let name = format!("-print-file-name=lib{library}.so");
        let found = Command::new(compiler).arg(name).output().ok();
        let path = found.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
        if let Some(folder) = Path::new(path.trim()).parent() {
            println!("cargo::rustc-link-search=native={}", folder.display());
        }
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}

struct Compiler {
    path: PathBuf,
    flags: Vec<String>,
    /// What it says of itself: another one makes other objects.
    version: String,
}

fn variants(source: &Source) -> impl Iterator<Item = (&'static str, &'static str)> {
    let tf32 = source.tf32;
    VARIANTS.into_iter().filter(move |(name, _)| !name.starts_with("tf32") || tf32)
}

fn units(sources: &[Source]) -> Vec<Unit> {
    let root = std::env::current_dir().expect("a build script has a folder");
    let folder = root.join(kernels::FOLDER);
    let mut units = vec![Unit {
        text: format!("#include \"{}\"\n", folder.join("sim/runtime.cpp").display()),
        stem: "runtime".into(),
    }];
    for source in sources {
        for (variant, define) in variants(source) {
            let mut text = match define {
                "" => String::new(),
                define => format!("#define {define}\n"),
            };
            for header in ["sim/cuda.h", "sim/entry.h"] {
                text += &format!("#include \"{}\"\n", folder.join(header).display());
            }
            // Unnamed, too: the same names mean other types in another variant's object.
            let kernel = root.join(&source.path);
            text += &format!("namespace sim {{ namespace {{\n#include \"{}\"\n}} }}\n", kernel.display());
            for entry in &source.entries {
                text += &format!(
                    "extern \"C\" {{ extern const SimEntry sim_{variant}_{entry} = sim::Entry<sim::{entry}>::entry; }}\n"
                );
            }
            units.push(Unit { text, stem: format!("{}_{variant}", source.stem) });
        }
    }
    units
}

/// Compiles what has no object yet, on all cores; an object's name says what it was made from.
fn compile(
    compiler: &Compiler,
    sources: &[Source],
    units: &[Unit],
    out: &Path,
) -> Result<Vec<PathBuf>, String> {
    let mut inputs = kernels::headers();
    inputs.extend(kernels::simulator());
    let mut made_by = compiler.flags.clone();
    made_by.push(compiler.version.clone());
    let common = kernels::content_hash(&inputs, &made_by);
    let objects: Vec<PathBuf> = units
        .iter()
        .map(|unit| {
            let own: Vec<&Path> = sources
                .iter()
                .filter(|source| unit.text.contains(&format!("{}\"", source.path.display())))
                .map(|source| source.path.as_path())
                .collect();
            let hash = kernels::content_hash(&own, &[&common, &unit.text]);
            out.join(format!("sim_{}_{hash}.o", unit.stem))
        })
        .collect();
    let missing: Vec<usize> = (0..units.len()).filter(|&i| !objects[i].exists()).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&i) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(message) = compile_one(compiler, &units[i], &objects[i]) {
                        failures.lock().expect("no thread panics").push(message);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no thread panics");
    failures.sort();
    if let Some(failure) = failures.into_iter().next() {
        return Err(failure);
    }
    for (unit, object) in units.iter().zip(&objects) {
        missing::warn(&unit.stem, &fs::read_to_string(object.with_extension("log")).unwrap_or_default());
    }
    Ok(objects)
}

fn compile_one(compiler: &Compiler, unit: &Unit, object: &Path) -> Result<(), String> {
    // Two builds may be at the same object.
    let own = |ending: &str| object.with_extension(format!("{}.{ending}", std::process::id()));
    let text = own("cpp");
    fs::write(&text, &unit.text).map_err(|e| format!("{}: {e}", text.display()))?;
    // Renamed when whole, so that an interrupted build leaves no half object.
    let partial = own("partial");
    let run = Command::new(&compiler.path)
        .args(&compiler.flags)
        .arg("-c")
        .arg(&text)
        .arg("-o")
        .arg(&partial)
        .output();
    let run = run.map_err(|e| format!("{}: {e}", compiler.path.display()))?;
    let said = String::from_utf8_lossy(&run.stderr);
    if !run.status.success() {
        return Err(format!("{} refuses {}:\n{said}", compiler.path.display(), unit.stem));
    }
    let _ = fs::remove_file(&text);
    let written = fs::write(object.with_extension("log"), said.as_bytes());
    written.and_then(|()| fs::rename(&partial, object)).map_err(|e| format!("{}: {e}", object.display()))
}

fn archive(objects: &[PathBuf], out: &Path) -> Result<(), String> {
    let library = out.join("libwattention_sim.a");
    // `ar` adds to what is there.
    let _ = fs::remove_file(&library);
    let mut archiver = cc::Build::new().cargo_output(false).get_archiver();
    let run = archiver.arg("crs").arg(&library).args(objects).output();
    match run {
        Ok(run) if run.status.success() => Ok(()),
        Ok(run) => Err(format!("{archiver:?}: {}", String::from_utf8_lossy(&run.stderr))),
        Err(e) => Err(format!("{archiver:?}: {e}")),
    }
}

/// Rust for src/device/sim/entries.rs: every entry of every variant.
fn table(sources: &[Source]) -> String {
    let mut symbols = Vec::new();
    for source in sources {
        for (variant, _) in variants(source) {
            symbols.extend(source.entries.iter().map(|entry| (variant, entry)));
        }
    }
    let mut text = String::from("unsafe extern \"C\" {\n");
    for (variant, entry) in &symbols {
        text += &format!("    static sim_{variant}_{entry}: RawEntry;\n");
    }
    text += "}\n\nstatic ALL: &[(&str, &str, Address)] = &[\n";
    for (variant, entry) in &symbols {
        text += &format!("    (\"{variant}\", \"{entry}\", Address(&raw const sim_{variant}_{entry})),\n");
    }
    text + "];\nconst MISSING: Option<&str> = None;\n"
}
