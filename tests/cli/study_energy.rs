//! What a study says of energy: with a meter that plays a recording, without one, and before anything has run.

use super::energy::{WATTS, assert_sums, metered, number, replayed};
use super::scalar::assert_near;
use super::study::{TINY, study};
use super::{Ran, ran};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const CELL: &str = "out/cells/tiny-led_qmsum-slice_64_fp32_seed42";

/// One cell with enough steps for the counter to tell its phases.
fn one_cell() -> String {
    TINY.replace("[64, 128]", "[64]").replace("max_steps = 4", "max_steps = 150")
        + "[control]\nsave_steps = 10\n"
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn cell(dir: &Path) -> Value {
    read(&dir.join("out/results.json"))["cells"][0].clone()
}

fn report(dir: &Path) -> String {
    fs::read_to_string(dir.join("out/report.html")).unwrap()
}

/// Checks that a cell's activities are those of its ledger, which sum to the whole.
#[track_caller]
fn assert_booked(dir: &Path) {
    let (cell, books) = (cell(dir), read(&dir.join(CELL).join("energy.json")));
    assert_sums(&books);
    let taken = |activity: &str, key: &str| number(&cell, &format!("/activities/{activity}/{key}/value"));
    for activity in ["data", "training", "evaluation", "checkpoint", "rest"] {
        let seconds = number(&books, &format!("/windows/{activity}/time_s"));
        assert_near(taken(activity, "seconds"), seconds, 1e-12);
    }
    assert_near(taken("whole", "energy_joules"), WATTS * taken("whole", "seconds"), 0.02);
    assert_near(taken("training", "energy_joules"), WATTS * taken("training", "seconds"), 0.05);
}

#[test]
fn a_cell_has_its_ledger_and_the_report_all_figures_of_energy() {
    let dir = tempfile::tempdir().unwrap();
    replayed(dir.path(), study(dir.path(), &one_cell(), "")).succeeds();
    assert_booked(dir.path());
    let cell = cell(dir.path());
    assert_near(number(&cell, "/mean_power_watts/value"), WATTS, 0.02);
    assert_eq!(number(&cell, "/paper_power_watts/value"), WATTS);
    let wall = number(&cell, "/train_wall_seconds/value");
    assert_near(number(&cell, "/paper_energy_joules/value"), WATTS * wall, 1e-9);
    assert_near(number(&cell, "/utilisation_percent/value"), 75.0, 1e-9);
    assert_eq!(number(&cell, "/device_memory_peak_bytes/value"), 512.0);
    // 150 steps of two examples.
    let joules = number(&cell, "/energy_joules/value");
    assert_near(300.0 * number(&cell, "/joules_per_sample/value"), joules, 1e-9);
    assert_near(number(&cell, "/samples_per_second_per_watt/value"), 300.0 / joules, 1e-9);
    let steps = number(&cell, "/phases_energy_joules/value");
    let phases = cell["phases"].as_array().unwrap();
    let told = phases.iter().filter_map(|phase| phase.pointer("/energy_joules/value")?.as_f64());
    let told: Vec<f64> = told.collect();
    assert!(told.iter().sum::<f64>() <= 1.1 * steps && !told.is_empty(), "{told:?} of {steps}");
    assert!(steps <= 1.02 * number(&cell, "/activities/training/energy_joules/value"), "{steps}");
    let page = report(dir.path());
    for figure in ["power-efficiency", "energy", "utilisation", "phase-energy", "phases"] {
        let drawn = page.split(&format!("id=\"figure-{figure}\"")).nth(1).unwrap();
        let drawn = drawn.split("</figure>").next().unwrap();
        assert!(drawn.contains("<svg") && !drawn.contains("Not drawn"), "{figure}: {drawn}");
    }
}

#[test]
fn what_was_taken_before_a_kill_is_in_the_books() {
    let dir = tempfile::tempdir().unwrap();
    let config = one_cell();
    let mut first = study(dir.path(), &config, "");
    let meter = super::energy::recording(dir.path(), 5000, "");
    first.env("WATTENTION_METER", format!("replay:{}", meter.display()));
    let mut child = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = dir.path().join(CELL).join("metrics.jsonl");
    while fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 35 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").arg("-KILL").arg(child.id().to_string()).status().unwrap().success());
    child.wait().unwrap();
    let before = read(&dir.path().join(CELL).join("energy.json"));
    let done: Ran = replayed(dir.path(), study(dir.path(), &config, ""));
    assert!(done.succeeds().err.contains("resuming from step"), "{}", done.err);
    assert_booked(dir.path());
    let after = read(&dir.path().join(CELL).join("energy.json"));
    assert_eq!((number(&before, "/attempts"), number(&after, "/attempts")), (1.0, 2.0));
    assert!(number(&after, "/windows/training/counted_j") > number(&before, "/windows/training/counted_j"));
}

#[test]
fn without_a_meter_times_stay_and_every_place_says_why() {
    let dir = tempfile::tempdir().unwrap();
    metered(study(dir.path(), &one_cell(), ""), "none").succeeds();
    let cell = cell(dir.path());
    assert!(number(&cell, "/activities/training/seconds/value") > 0.0);
    let why = "WATTENTION_METER is none";
    for path in
        ["/activities/whole/energy_joules", "/energy_joules", "/paper_power_watts", "/phases_energy_joules"]
    {
        assert_eq!(cell.pointer(path).unwrap()["why"], why, "{path}");
    }
    let page = report(dir.path());
    assert!(page.contains(&format!("No total training energy: {why}. Shown instead: training time.")));
    for figure in ["power-efficiency", "phase-energy"] {
        let drawn = page.split(&format!("id=\"figure-{figure}\"")).nth(1).unwrap();
        assert!(drawn.split("</figure>").next().unwrap().contains("Not drawn: "), "{figure}");
    }
    metered(study(dir.path(), &one_cell(), ""), "nvml").fails(2, &["auto, none, record:FILE or replay:FILE"]);
}

#[test]
fn a_dry_run_foresees_generated_answers() {
    let dir = tempfile::tempdir().unwrap();
    let foreseen = |tokens: usize| -> Value {
        let config = TINY.replace("max_new_tokens = 4", &format!("max_new_tokens = {tokens}"));
        let both = format!("protocols = ['scrolls', 'paper']\n{config}");
        let done = ran(&mut study(dir.path(), &both, "--dry-run --gpu h200 --json")).json();
        done["cells"][0]["inference"].clone()
    };
    let [four, eight, twelve] = [4, 8, 12].map(foreseen);
    let each = |of: &Value, at: usize| number(of, &format!("/{at}/least_seconds_per_example/value"));
    // The encoder once, and as much for every token.
    let (first, second) = (each(&eight, 0) - each(&four, 0), each(&twelve, 0) - each(&eight, 0));
    assert!(first > 0.0 && each(&four, 0) > first, "{four} {eight}");
    assert_near(second, first, 1e-6);
    assert_eq!((&four[0]["protocol"], &four[1]["protocol"]), (&"scrolls".into(), &"paper".into()));
    assert_eq!(each(&four, 1), each(&twelve, 1));
    // Four examples are scored, and an H200 draws 700 W at most.
    assert_eq!(four[0]["examples"], 4);
    assert_near(number(&four, "/0/least_seconds/value"), 4.0 * each(&four, 0), 1e-9);
    assert_near(number(&four, "/0/joules/value"), 700.0 * 4.0 * each(&four, 0), 1e-9);
}
