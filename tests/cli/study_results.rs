//! `study compare`, `study recommend` and `study report`, on results that are there.

use super::study::{TINY, study};
use super::{command, ran, wattention};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A study of one cell in `dir/out`, and a copy of its results whose second half is made up.
fn results(dir: &Path) -> Value {
    ran(&mut study(dir, &TINY.replace("[64, 128]", "[64]"), "")).succeeds();
    serde_json::from_str(&fs::read_to_string(dir.join("out/results.json")).unwrap()).unwrap()
}

fn on(folders: &[&Path], words: &str) -> super::Ran {
    let mut words = words.split_whitespace();
    let mut command = command();
    // Wide enough for every column.
    command.env("COLUMNS", "300");
    command.arg("study").args(words.next()).args(folders).args(words);
    ran(&mut command)
}

#[test]
fn results_are_compared_recommended_and_reported_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let first = results(dir.path());
    let same = on(&[&out, &out], "compare --json").json();
    assert_eq!(same["matched"][0]["difference"], json!({ "kind": "measured", "value": 0.0 }));
    // Four examples that are alike: at most 60.2 % of all others differ (Clopper and Pearson), by 100 points at most.
    let interval = &same["matched"][0]["interval"];
    let ends = ["low", "high"].map(|end| interval[end].as_f64().unwrap());
    assert!((ends[0] + 60.2).abs() < 0.1 && (ends[1] - 60.2).abs() < 0.1, "{interval}");
    assert_eq!(same["matched"][0]["paired"], true);
    let text = on(&[&out, &out], "compare");
    assert!(text.succeeds().out.contains("within the interval"), "{}", text.out);

    // A second machine, twice as fast and with a cell of its own.
    let mut second = first.clone();
    let seconds = first["cells"][0]["train_seconds"]["value"].as_f64().unwrap();
    second["cells"][0]["train_seconds"] = json!({ "kind": "measured", "value": seconds / 2.0 });
    second["cells"][0]["energy_joules"] = json!({ "kind": "measured", "value": 7200.0 });
    let mut own = second["cells"][0].clone();
    own["model"] = json!("\u{1b}[31m=own");
    own["geometric_mean"] = json!({ "kind": "measured", "value": 99.0 });
    own["score_low"] = json!({ "kind": "measured", "value": 98.0 });
    own["score_high"] = json!({ "kind": "measured", "value": 100.0 });
    own["train_seconds"] = json!({ "kind": "measured", "value": 36000.0 });
    second["cells"].as_array_mut().unwrap().push(own);
    let other = dir.path().join("other.json");
    fs::write(&other, second.to_string()).unwrap();
    let text = on(&[&out, &other], "compare");
    assert!(text.succeeds().out.contains("×0.50"), "{}", text.out);
    assert!(text.out.contains("only in B: \u{fffd}[31m=own on qmsum-slice"), "{}", text.out);

    let found = on(&[&other], "recommend --budget-kwh 0.01 --json").json();
    assert_eq!(found["recommendations"][0]["choice"]["model"], "\u{1b}[31m=own");
    assert_eq!(found["recommendations"][0]["next"]["told_apart"], true);
    let text = on(&[&other], "recommend --budget-hours 1");
    assert!(text.succeeds().out.contains("tiny-led at 64 tokens"), "{}", text.out);
    assert!(
        text.out.contains("not \u{fffd}[31m=own at 64 tokens: its training time is 10.0 h"),
        "{}",
        text.out
    );

    let again = dir.path().join("again");
    let mut command = command();
    command.args(["study", "report"]).arg(&other).arg("--output-dir").arg(&again);
    ran(&mut command).succeeds();
    assert_eq!(
        super::names_in(&again),
        ["report.html", "results.csv", "results.json", "results.md", "results.tex"]
    );
    assert!(fs::read_to_string(again.join("results.csv")).unwrap().contains("=own"));
}

#[test]
fn emissions_follow_from_the_energy_and_an_intensity_that_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = results(dir.path());
    // 1 kWh in an hour.
    all["cells"][0]["activities"]["whole"] = json!({
        "seconds": { "kind": "measured", "value": 3600.0 },
        "energy_joules": { "kind": "measured", "value": 3.6e6 },
    });
    // Half of it was training.
    all["cells"][0]["energy_joules"] = json!({ "kind": "measured", "value": 1.8e6 });
    let (file, out) = (dir.path().join("known.json"), dir.path().join("known"));
    fs::write(&file, all.to_string()).unwrap();
    let report = |flags: &str| {
        let mut command = command();
        command.args(["study", "report"]).arg(&file).arg("--output-dir").arg(&out);
        ran(command.args(flags.split_whitespace())).succeeds();
    };
    report("");
    assert!(!out.join("emissions.csv").exists(), "an intensity is never guessed");
    report("--carbon-intensity 380");
    let rows = super::csv::csv_rows(&fs::read_to_string(out.join("emissions.csv")).unwrap());
    assert_eq!(rows.len(), 2);
    let field = |name: &str| rows[1][rows[0].iter().position(|title| title == name).unwrap()].as_str();
    assert_eq!((field("duration"), field("energy_consumed"), field("emissions")), ("3600", "1", "0.38"));
    assert_eq!((field("cpu_power"), field("cpu_energy"), field("gpu_energy")), ("1000", "1", "0"));
    assert!(field("timestamp").starts_with("20") && field("timestamp").len() == 19);
    // A column of the results, and what a choice is weighed by.
    let rows = super::csv::csv_rows(&fs::read_to_string(out.join("results.csv")).unwrap());
    let at = rows[0].iter().position(|title| title == "emissions_grams").unwrap();
    assert_eq!(rows[1][at], "190");
    let choice =
        on(&[&out], "recommend --budget-hours 1000 --json").json()["recommendations"][0]["choice"].clone();
    assert_eq!(choice["emissions_grams"], json!({ "kind": "measured", "value": 190.0 }));
    assert!(on(&[&out], "recommend --budget-hours 1000").out.contains("emissions"));
    assert!(
        !on(&[&file], "recommend --budget-hours 1000").out.contains("emissions"),
        "no intensity is known"
    );
    let ratios = on(&[&out, &out], "compare --json").json()["matched"][0]["ratios"].clone();
    let has = |of: &Value| of["what"].as_str().unwrap().contains("emissions") && of["ratio"]["value"] == 1.0;
    assert!(ratios.as_array().unwrap().iter().any(has), "{ratios}");
}

#[test]
fn wrong_requests_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    wattention("study recommend x").fails(2, &["--budget-kwh"]);
    wattention("study recommend x --budget-hours -1").fails(2, &["--budget-hours", "at least 0"]);
    wattention("study recommend x --min-accuracy NaN").fails(2, &["--min-accuracy"]);
    wattention("study compare x").fails(2, &["<B>"]);
    for wrong in ["0", "-1", "green", "inf"] {
        wattention(&format!("study report x --carbon-intensity {wrong}"))
            .fails(2, &["--carbon-intensity", "above 0"]);
    }
    wattention("study compar a b").fails(2, &["'compar'"]);
    wattention("study compare nowhere nowhere").fails(66, &["nowhere"]);
    wattention("study --preset fast").fails(2, &["quick, paper, scrolls"]);
    wattention("study --preset quick --config x.toml").fails(2, &["--config"]);
    wattention("study --dry-run report x").fails(2, &["report"]);
    let file = dir.path().join("results.json");
    fs::write(&file, "{\"title\":1}").unwrap();
    let path = file.to_str().unwrap();
    wattention(&format!("study report {path}")).fails(65, &["results.json"]);
    fs::write(&file, r#"{"title":"x","environment":{},"cells":[]}"#).unwrap();
    wattention(&format!("study recommend {path} --budget-hours 1")).fails(65, &["no cell has been run"]);
    wattention(&format!("study compare {path} {path}")).succeeds();
}
