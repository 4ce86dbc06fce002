//! Measurements beside real processes that take the processors, and cells that are run again because of them.

use super::csv::csv_rows;
use super::study::{TINY, study};
use super::{command, ran};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Processes that compute nothing for ever, and end with this.
struct Hogs(Vec<Child>);

impl Hogs {
    /// Three for every processor: work beside them gets a quarter of what it wants. None where nothing counts it.
    fn start() -> Option<Self> {
        if !Path::new("/proc/self/schedstat").exists() {
            println!("skipped: the system does not count what threads wait for");
            return None;
        }
        let count = 3 * std::thread::available_parallelism().unwrap().get();
        let hog = |_| {
            let mut hog = Command::new("sh");
            hog.args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap()
        };
        Some(Hogs((0..count).map(hog).collect()))
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

#[test]
fn a_benchmark_beside_other_work_says_so_everywhere() {
    let Some(_hogs) = Hogs::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("rows.csv");
    let bench = |flags: &str| {
        let mut told = command();
        told.env("COLUMNS", "300").args(["bench", "gemm", "--device", "cpu", "--threads", "1"]);
        told.args(["--sizes", "256x256x256", "--seconds", "0.4", "--warmup-seconds", "0", "--no-flush"]);
        ran(told.arg("--csv").arg(&csv).args(flags.split_whitespace()))
    };
    let row = bench("--json").json()["rows"][0].clone();
    let conditions = &row["conditions"];
    let share = conditions["processor_share"].as_f64().unwrap();
    assert!(share > 0.0 && share < 0.9, "{conditions}");
    let why = conditions["disturbed"].as_str().unwrap();
    assert!(conditions["other_processes"].as_f64().unwrap() > 0.5, "{conditions}");
    let rows = csv_rows(&fs::read_to_string(&csv).unwrap());
    let column = rows[0].iter().position(|title| title == "disturbed").unwrap();
    assert_eq!(rows[1][column], why);
    let text = bench("");
    assert!(text.succeeds().out.lines().any(|line| line.ends_with("disturbed")), "{}", text.out);
    assert!(text.err.contains("disturbed machine"), "{}", text.err);
}

/// A recording of a GPU that is hot half of the time, that was set to less power than it comes with, and on which two
/// other processes compute.
fn shared_gpu(dir: &Path) -> String {
    let line = |i: u32| {
        let (time, joules) = (f64::from(i) * 0.02, f64::from(i));
        let hot = if i.is_multiple_of(2) { r#", "throttled": true, "throttled_by": "heat""# } else { "" };
        format!(
            "{{\"time_s\": {time}, \"energy_j\": {joules}, \"power_w\": 50, \"clock_mhz\": 1000, \
             \"max_clock_mhz\": 2000, \"power_limit_w\": 300, \"default_power_limit_w\": 400, \
             \"other_processes\": 2, \"others_utilisation\": 0.4{hot}}}\n"
        )
    };
    let file = dir.join("gpu.jsonl");
    fs::write(&file, (0..500).map(line).collect::<String>()).unwrap();
    format!("replay:{}", file.display())
}

/// What is said of that GPU.
#[track_caller]
fn assert_shared(conditions: &Value) {
    let gpu = &conditions["gpu"];
    for (key, value) in [
        ("clock_mhz", json!(1000.0)),
        ("max_clock_mhz", json!(2000.0)),
        ("power_limit_w", json!(300.0)),
        ("default_power_limit_w", json!(400.0)),
        ("other_processes", json!(2)),
    ] {
        assert_eq!(gpu[key], value, "{key}: {conditions}");
    }
    assert!((gpu["others_utilisation"].as_f64().unwrap() - 0.4).abs() < 1e-9, "{conditions}");
    assert!(conditions["disturbed"].as_str().unwrap().contains("2 other processes"), "{conditions}");
}

#[test]
fn what_sensors_say_of_a_shared_gpu_stands_in_every_output() {
    let dir = tempfile::tempdir().unwrap();
    let meter = shared_gpu(dir.path());
    let told = |line: &str| {
        let mut told = command();
        told.env("WATTENTION_METER", &meter).env("WATTENTION_BENCH_TRIES", "1").env("COLUMNS", "300");
        ran(told.args(line.split_whitespace()).args(["--device", "cpu"]))
    };
    let bench = "bench gemm --sizes 64x64x64 --seconds 0.2 --warmup-seconds 0 --no-flush";
    assert_shared(&told(&format!("{bench} --json")).json()["rows"][0]["conditions"]);
    assert!(told(bench).succeeds().err.contains("2 other processes"));
    let attention =
        "bench attention --kind window --lengths 64 --seconds 0.2 --warmup-seconds 0 --no-flush --json";
    assert_shared(&told(attention).json()["rows"][0]["conditions"]);
    let kernels = "bench kernels --op linear --warmup-ms 0 --time-ms 200 --json";
    assert_shared(&told(kernels).json()["kernels"][0]["conditions"]);
    let profile = "profile step --model tiny-led --max-source-length 64 --max-target-length 8 --seconds 0.5 --energy none";
    assert_shared(&told(&format!("{profile} --json")).json()["conditions"]);
    assert!(told(profile).succeeds().out.contains("2 other processes"));

    let mut cell = study(dir.path(), &TINY.replace("[64, 128]", "[64]"), "");
    ran(cell.env("WATTENTION_METER", &meter).env("COLUMNS", "300")).succeeds();
    let read = |name: &str| fs::read_to_string(dir.path().join("out").join(name)).unwrap();
    let found: Value = serde_json::from_str(&read("results.json")).unwrap();
    assert_shared(&found["cells"][0]["conditions"]);
    assert!(found["cells"][0]["disturbed"].as_str().unwrap().contains("2 other processes"));
    let rows = csv_rows(&read("results.csv"));
    let field = |name: &str| &rows[1][rows[0].iter().position(|title| title == name).unwrap()];
    assert_eq!((field("gpu_other_processes"), field("gpu_power_limit_w")), (&"2".into(), &"300".into()));
    assert_eq!((field("gpu_clock_mhz"), field("gpu_max_clock_mhz")), (&"1000".into(), &"2000".into()));
    for name in ["results.csv", "results.md", "report.html"] {
        assert!(read(name).contains("2 other processes"), "{name}");
    }
    let out = dir.path().join("out").display().to_string();
    assert!(told(&format!("study recommend {out} --budget-hours 9")).out.contains("2 other processes"));
    assert!(told(&format!("study compare {out} {out}")).out.contains("disturbed in both"));
}

/// Cells of `dir/out`, by the folders of their runs.
fn cell(dir: &Path, length: usize) -> std::path::PathBuf {
    dir.join(format!("out/cells/tiny-led_qmsum-slice_{length}_fp32_seed42/cell.json"))
}

/// Sets why the cell at `path` was disturbed; an empty reason is none.
fn plant(path: &Path, why: &str) {
    let mut finished: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for cell in finished["cells"].as_array_mut().unwrap() {
        cell["disturbed"] = json!(why);
    }
    fs::write(path, finished.to_string()).unwrap();
}

#[test]
fn only_disturbed_cells_are_run_again() {
    let dir = tempfile::tempdir().unwrap();
    ran(&mut study(dir.path(), TINY, "")).succeeds();
    plant(&cell(dir.path(), 64), "");
    plant(&cell(dir.path(), 128), "somebody compiled <b>");
    // The same command keeps both, and says in every form what is known of the second.
    let kept = ran(study(dir.path(), TINY, "").env("COLUMNS", "300"));
    assert_eq!(kept.succeeds().err.matches("already there").count(), 2, "{}", kept.err);
    assert!(
        kept.out.contains("disturbed: tiny-led on qmsum-slice, 128 tokens: somebody compiled"),
        "{}",
        kept.out
    );
    let read = |name: &str| fs::read_to_string(dir.path().join("out").join(name)).unwrap();
    let rows = csv_rows(&read("results.csv"));
    let column = rows[0].iter().position(|title| title == "disturbed").unwrap();
    assert_eq!([&rows[1][column], &rows[2][column]], ["", "somebody compiled <b>"]);
    assert!(read("results.md").contains("disturbed") && read("results.tex").contains("disturbed"));
    let page = read("report.html");
    assert!(page.contains("somebody compiled &lt;b&gt;") && page.contains("--redo-disturbed"));
    let redone = ran(&mut study(dir.path(), TINY, "--redo-disturbed"));
    assert_eq!(redone.succeeds().err.matches("already there").count(), 1, "{}", redone.err);
    assert!(!read("results.json").contains("somebody compiled"));
    ran(&mut study(dir.path(), TINY, "--redo-disturbed --overwrite-output-dir"))
        .fails(2, &["--redo-disturbed"]);
}
