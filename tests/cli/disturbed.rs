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
