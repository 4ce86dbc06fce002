//! What the program says and does where a driver is here, well or not: with stand-ins for NVIDIA's libraries.

mod ranks;

use crate::support::dropout::with_dropout;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use wattention::device::cuda::Library;
use wattention::device::cuda::kernels::NVCC;

/// Folders with the stand-ins: driver and cuBLASLt, both with a driver that cannot tell what it records or that makes no maps
/// of tensors, the driver alone, both where one of them lacks a function that the program calls, both and NCCL, and these
/// where NCCL lacks one.
struct StandIns {
    both: PathBuf,
    older: PathBuf,
    mapless: PathBuf,
    driver: PathBuf,
    ancient: PathBuf,
    hollow: PathBuf,
    ranks: PathBuf,
    hollow_ranks: PathBuf,
}

/// Builds them once; nothing where there is no compiler for them or for the kernels.
fn stand_ins() -> Option<&'static StandIns> {
    static BUILT: OnceLock<Option<StandIns>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda");
        let of = |name: &str, driver: &str, cublaslt: Option<&str>| {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            compile("driver.c", "libcuda.so", &folder, driver)?;
            cublaslt.map_or(Some(()), |flag| compile("cublaslt.c", "libcublasLt.so", &folder, flag))?;
            Some(folder)
        };
        let with_nccl = |name: &str, flag: &str| {
            let folder = of(name, "-O1", Some("-O1"))?;
            compile("nccl.c", "libnccl.so.2", &folder, flag).map(|()| folder)
        };
        Some(StandIns {
            ranks: with_nccl("ranks", "-O1")?,
            hollow_ranks: with_nccl("hollow_ranks", "-DncclCommInitRankConfig=ncclUnknown")?,
            both: of("both", "-O1", Some("-O1"))?,
            older: of("older", "-DWITHOUT_CAPTURE_INFO", Some("-O1"))?,
            mapless: of("mapless", "-DcuTensorMapEncodeTiled=cuUnknown", Some("-O1"))?,
            driver: of("driver", "-O1", None)?,
            ancient: of("ancient", "-DcuDevicePrimaryCtxRetain=cuUnknown", Some("-O1"))?,
            hollow: of("hollow", "-O1", Some("-DcublasLtCreate=cublasLtUnknown"))?,
        })
    });
    let why = match (built, NVCC) {
        (Some(built), Some(_)) if cfg!(target_os = "linux") => return Some(built),
        (None, _) => "no C compiler",
        _ => "no nvcc",
    };
    println!("skipped: {why}");
    None
}

fn compile(source: &str, name: &str, folder: &Path, flag: &str) -> Option<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda").join(source);
    // Another run of the tests may have the library loaded: it is replaced, not written over.
    let unfinished = folder.join(format!("{name}.{}", std::process::id()));
    let mut command = Command::new("cc");
    command
        .args(["-Wall", "-Wextra", "-Werror", "-pthread", "-shared", "-fPIC", flag])
        .arg("-o")
        .arg(&unfinished);
    command.arg(source).arg(format!("-Wl,-soname,{name}")).arg("-L").arg(folder);
    if name != "libcuda.so" {
        command.arg("-lcuda");
    }
    let output = command.output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(unfinished, folder.join(name)).unwrap();
    Some(())
}

/// A command line on a machine whose libraries are those in `folder`, with these settings of the driver.
fn on(folder: &Path, settings: &str, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wattention"));
    // Without PATH no other place is searched.
    command.stdin(Stdio::null()).env_clear().env("LD_LIBRARY_PATH", folder).env("FAKE_CUDA", settings);
    // Launches are counted, whatever else this machine does meanwhile.
    command.env("WATTENTION_BENCH_TRIES", "1").args(line.split_whitespace());
    command
}

fn training(device: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!(
        "bench step --config {root}/weights/tiny-led/config.json --mode train --max-source-length 40 \
         --max-target-length 7 --warmup 0 --repeat 5 --json --device {device}"
    )
}

/// The one line of a refusal.
#[track_caller]
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(err.starts_with("error: ") && err.lines().count() == 1, "{err}");
    for part in parts {
        assert!(err.contains(part), "{err} does not say {part:?}");
    }
    assert!(!err.contains("panicked") && !err.contains("internal error"), "{err}");
}

#[test]
fn whatever_is_wrong_with_a_gpu_is_said_in_one_line() {
    let Some(StandIns { both, .. }) = stand_ins() else { return };
    for (settings, device, code, parts) in [
        ("gpus=0", "cuda", 69, ["device 'cuda'", "sees no GPU"]),
        ("gpus=2", "cuda:2", 69, ["device 'cuda:2'", "from cuda:0 to cuda:1"]),
        ("init=803", "cuda", 69, ["differ in version", "install it again"]),
        ("init=46", "cuda", 69, ["another program has the GPU", "nvidia-smi"]),
        ("capability=75", "cuda", 69, ["compute capability 7.5", "sm_80"]),
        ("load=222,version=12040", "cuda", 69, ["for CUDA 12.4", "update the driver"]),
        ("load=209", "cuda", 69, ["does not take kernels compiled by nvcc", "update the driver"]),
        (
            "shared=4096",
            "cuda",
            69,
            ["bytes of shared memory, and a block on this GPU has 4096", "--device cpu"],
        ),
        ("free=1000000", "cuda", 75, ["976.6 KiB of 4.00 GiB free", "smaller batch"]),
        ("free=33600000", "cuda", 75, ["of 4.00 GiB free", "smaller batch"]),
        ("fault=700,fill=0", "cuda", 69, ["memory that is not its own", "CUDA_LAUNCH_BLOCKING=1"]),
    ] {
        let output = on(both, settings, &training(device)).output().unwrap();
        refused(&output, code, &parts);
    }
}

/// Asked for by the variable or by the flag; where there is code for sm_90 alone, `errors` says what is refused.
#[test]
fn attention_for_hopper_is_refused_on_other_gpus() {
    let Some(StandIns { both, .. }) = stand_ins() else { return };
    for (capability, says) in [(80, "Fake GPU 0 has 8.0"), (86, "has 8.6"), (100, "has 10.0")] {
        let settings = format!("capability={capability}");
        let mut command = on(both, &settings, &training("cuda"));
        let output = command.env("WATTENTION_ATTENTION", "hopper").output().unwrap();
        refused(&output, 69, &["needs compute capability 9.0", says, "set WATTENTION_ATTENTION=mma"]);
    }
    let output = on(both, "", &training("cuda")).env("WATTENTION_ATTENTION", "wgmma").output().unwrap();
    refused(&output, 2, &["WATTENTION_ATTENTION='wgmma'", "mma and hopper"]);
}

/// Known before anything runs where the function is missing or the version says so, else from the first map.
#[test]
fn attention_for_hopper_needs_a_driver_that_makes_maps() {
    let Some(StandIns { both, mapless, .. }) = stand_ins() else { return };
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/tiny-led/config.json");
    // One head of 64, which is large enough for these kernels.
    let text =
        std::fs::read_to_string(tiny).unwrap().replace("_attention_heads\": 2", "_attention_heads\": 1");
    let config = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(&config, text).unwrap();
    let line = training("cuda").replace(tiny, config.path().to_str().unwrap()) + " --precision bf16";
    let run = |folder: &Path, settings: &str, engine: &str| {
        on(folder, settings, &line).env("WATTENTION_ATTENTION", engine).output().unwrap()
    };
    let remedy = ["since CUDA 12.0 (R525)", "update it", "or set WATTENTION_ATTENTION=mma"];
    for (folder, settings, version) in [
        (mapless, "version=11080,fill=0", "for CUDA 11.8, does not"),
        (mapless, "fill=0", "for CUDA 13.0, does not"),
        (both, "version=11080,fill=0", "for CUDA 11.8, does not"),
        (both, "maps=801,fill=0", "for CUDA 13.0, does not"),
    ] {
        refused(&run(folder, settings, "hopper"), 69, &[&[version], &remedy[..]].concat());
    }
    let others = [run(mapless, "fill=0", "mma"), run(both, "fill=0,log=1", "hopper")];
    for output in &others {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let err = String::from_utf8_lossy(&others[1].stderr);
    let maps = err.lines().find_map(|line| line.strip_prefix("fake maps: ")).unwrap();
    assert_ne!(maps, "0", "attention for Hopper makes none");
}

#[test]
fn a_kernel_that_fails_is_named() {
    let Some(StandIns { both, .. }) = stand_ins() else { return };
    let mut command = on(both, "fault=719,fill=0", &training("cuda"));
    let output = command.env("WATTENTION_GRAPHS", "off").env("CUDA_LAUNCH_BLOCKING", "1").output().unwrap();
    refused(&output, 69, &["_fwd (grid [", "stopped itself", "CUDA_ERROR_LAUNCH_FAILED", "report"]);
}

#[test]
fn hidden_gpus_are_blamed_on_the_variable() {
    let Some(StandIns { both, .. }) = stand_ins() else { return };
    let output = on(both, "", &training("cuda")).env("CUDA_VISIBLE_DEVICES", "3").output().unwrap();
    refused(&output, 69, &["CUDA_VISIBLE_DEVICES='3'", "nvidia-smi -L"]);
}

#[test]
fn a_missing_library_is_named() {
    let Some(StandIns { driver, .. }) = stand_ins() else { return };
    if Library::CublasLt.load() {
        return println!("skipped: cuBLASLt is here");
    }
    let output = on(driver, "", &training("cuda")).output().unwrap();
    refused(&output, 69, &["cuBLASLt is not here", "LD_LIBRARY_PATH"]);
    // Unasked for, the CPU serves, and why is said.
    let output = on(driver, "", &training("auto")).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    assert!(err.starts_with("device: cpu\ncuda is not used: cuBLASLt is not here"), "{err}");
}

#[test]
fn a_library_without_what_the_program_calls_is_too_old() {
    let Some(StandIns { ancient, hollow, .. }) = stand_ins() else { return };
    for (folder, lacking) in [(ancient, "cuDevicePrimaryCtxRetain"), (hollow, "cublasLtCreate")] {
        if folder == hollow && Library::CublasLt.load() {
            continue;
        }
        let output = on(folder, "", &training("cuda")).output().unwrap();
        refused(&output, 69, &["lacks what this program calls", lacking, "update"]);
    }
}

#[test]
fn a_run_that_does_not_fit_names_the_largest_batch() {
    let Some(StandIns { both, .. }) = stand_ins() else { return };
    let root = env!("CARGO_MANIFEST_DIR");
    let run = tempfile::tempdir().unwrap();
    let line = format!(
        "finetune --quiet --model {root}/weights/tiny-led --dataset needle-qa --no-cache --max-steps 1 --max-eval-samples 1 \
         --no-predict --per-device-eval-batch-size 1 --device cuda --output-dir {}",
        run.path().join("run").display()
    );
    // Left to the driver and its libraries, and the workspace of products.
    const RESERVED: u64 = (256 + 32) << 20;
    let refusal = |free: u64, batch: &str| {
        let free = RESERVED + free;
        let line = format!("{line} --per-device-train-batch-size {batch}");
        on(both, &format!("free={free},fill=0"), &line).output().unwrap()
    };
    let output = refusal(100 << 20, "64");
    refused(
        &output,
        75,
        &["a batch of 64 needs", "100.0 MiB are free on the device", "the largest that fits is"],
    );
    let err = String::from_utf8_lossy(&output.stderr);
    let fits = err.split("--per-device-train-batch-size ").nth(1).unwrap().split(' ').next().unwrap();
    assert!((1..64).contains(&fits.parse::<usize>().unwrap()), "{err}");
    refused(&refusal(1 << 20, "1"), 75, &["even a batch of 1 needs", "1.0 MiB are free on the device"]);
    assert!(!run.path().join("run").exists(), "a refused run leaves nothing");
}

#[test]
fn no_driver_is_the_usual_case() {
    let nowhere = tempfile::tempdir().unwrap();
    let output = on(nowhere.path(), "", &training("cuda")).output().unwrap();
    match wattention::device::cuda::start() {
        Err(_) => refused(&output, 69, &["device 'cuda': no NVIDIA driver is here", "--device cpu"]),
        Ok(_) => println!("skipped: a driver is here"),
    }
}

#[test]
fn steps_become_graphs_and_memory_goes_back() {
    let Some(StandIns { both, older, .. }) = stand_ins() else { return };
    // A model with dropout: its counter and the optimizer's rates change from one replay to the next.
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/tiny-led/config.json");
    let config = with_dropout("led_plain");
    let totals = |folder: &Path, graphs: &str| {
        let line = training("auto").replace(tiny, config.path().to_str().unwrap());
        let mut command = on(folder, "log=1,fill=0", &line);
        let output = command.env("WATTENTION_GRAPHS", graphs).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{err}");
        assert!(err.starts_with("device: cuda:0 (Fake GPU 0)\n"), "{err}");
        let totals = err.lines().find_map(|line| line.strip_prefix("fake cuda: ")).unwrap();
        totals.split(", ").map(|part| part.split(' ').next().unwrap().parse().unwrap()).collect::<Vec<u64>>()
    };
    let ([live, kernels, products, graphs, replays, changes], plain) =
        (totals(both, "on").try_into().unwrap(), totals(both, "off"));
    assert_eq!(live, 0, "bytes were not given back");
    assert!(kernels > 0 && products > 0 && graphs > 0);
    assert_eq!(changes, 0, "what changes is in memory, and no node is set");
    assert_eq!(plain, [0, kernels, products, 0, 0, 0], "graphs do other work");
    assert_eq!(totals(older, "on"), plain, "a driver that cannot record");
    // Two kinds of steps, a graph each, recorded at the second of its five runs.
    assert_eq!((graphs, replays), (2, 8));
}

/// Real rules of recording can only be met on a card: what is refused there has to show.
#[test]
fn a_step_that_cannot_be_recorded_runs_and_says_why() {
    let Some(StandIns { both, .. }) = stand_ins() else { return };
    let output = on(both, "capture=901,fill=0", &training("cuda")).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    let warned =
        err.matches("warning: a step cannot be recorded as a graph and runs launch by launch: ").count();
    assert_eq!(warned, 1, "each reason once: {err}");
}

#[test]
fn a_decoding_step_is_one_graph_at_every_position() {
    let Some(StandIns { both, .. }) = stand_ins() else { return };
    let root = env!("CARGO_MANIFEST_DIR");
    let line = format!(
        "bench generate --config {root}/weights/tiny-led/config.json --max-source-length 40 --max-new-tokens 6 \
         --warmup 0 --repeat 1 --json --device cuda"
    );
    let output = on(both, "log=1,fill=0", &line).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{err}");
    let totals = err.lines().find_map(|line| line.strip_prefix("fake cuda: ")).unwrap();
    // Of the six steps of the long answer the first is launched, the second recorded; both encoders run once.
    assert!(totals.ends_with("1 graphs, 5 replays, 0 changes"), "{totals}");
}

#[test]
fn doctor_says_what_is_here() {
    let Some(StandIns { both, driver, .. }) = stand_ins() else { return };
    let report = |folder: &Path, settings: &str, line: &str| {
        let output = on(folder, settings, line).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = report(both, "gpus=2", "doctor");
    for part in
        ["serves CUDA 13.0", "cuda:1 Fake GPU 1, compute capability 9.0, 4.00 GiB", "usable, runs sm_90a"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("layer_norm_fwd"), "{text}");
    assert!(report(both, "", "doctor -v").contains("layer_norm_fwd"));
    assert!(
        report(both, "capability=75", "doctor").contains("not usable: Fake GPU 0 has compute capability 7.5")
    );
    let missing = report(driver, "", "doctor").contains("not usable: cuBLASLt is not here");
    assert!(missing || Library::CublasLt.load());

    let json: serde_json::Value = serde_json::from_str(&report(both, "", "doctor --json")).unwrap();
    assert_eq!(json["cuda"]["gpus"][0]["capability"], "9.0");
    assert_eq!(json["cuda"]["gpus"][0]["problem"], serde_json::Value::Null);
    assert_eq!(json["libraries"][1]["path"].as_str(), both.join("libcublasLt.so").to_str());
    assert_eq!(json["kernels"]["nvcc"].as_str(), NVCC);
}
