use super::*;
use crate::support::csv::csv_rows;

/// A cell with every reading measured, to be changed by the test at hand.
pub fn cell(model: &str, dataset: &str, length: u64) -> Cell {
    let reading = |value: f64| Reading::measured(value);
    Cell {
        model: model.into(),
        dataset: dataset.into(),
        max_source_length: length,
        precision: "fp32".into(),
        seed: 42,
        protocol: "paper".into(),
        device: "cpu".into(),
        batch_size: 4,
        steps: 60,
        train_examples: 240,
        eval_examples: 64,
        parameters: 1_234_567,
        headline_metric: Headline::GeometricMean,
        rouge1: reading(30.0),
        rouge2: reading(10.0),
        rouge_l: reading(20.0),
        geometric_mean: reading(18.17),
        f1: reading(25.0),
        train_loss_final: reading(2.5),
        eval_loss: reading(2.75),
        train_seconds: reading(100.0),
        train_samples_per_second: reading(2.4),
        train_tokens_per_second: reading(2.4 * length as f64),
        eval_seconds: reading(8.0),
        eval_samples_per_second: reading(8.0),
        peak_bytes_planned: Reading::predicted(1.0e9),
        peak_bytes_measured: reading(1.1e9),
        energy_joules: Reading::absent("no sensor"),
        mean_power_watts: Reading::absent("no sensor"),
        energy_note: "n/a: no sensor".into(),
        ..Cell::default()
    }
}

fn study() -> Results {
    let mut odd = cell("<script>alert(1)</script>", "a,\"b\"\n", 256);
    odd.eval_loss = Reading::measured(f64::NAN);
    odd.seed = u64::MAX;
    odd.train_seconds = Reading::measured(0.1 + 0.2);
    Results {
        title: "Quick study".into(),
        environment: vec![("zeta".into(), "1".into()), ("alpha".into(), "naïve \"quotes\"".into())],
        cells: vec![cell("led", "qmsum", 128), odd],
        failed: vec![Failure {
            cell: "led_qmsum_256".into(),
            error: "no \"memory\"\n".into(),
            exit_code: 75,
        }],
        left: vec!["led_qmsum_512".into()],
    }
}

#[test]
fn results_survive_a_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    for results in [study(), Results::default()] {
        results.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "temporary files are left behind");
}

#[test]
fn damaged_and_absent_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    assert_eq!(Results::read(&path).unwrap_err().exit_code(), 66);
    std::fs::write(&path, r#"{"title":"x","environment":{"a":1},"cells":[]}"#).unwrap();
    let error = Results::read(&path).unwrap_err();
    assert_eq!(error.exit_code(), 65);
    assert!(error.to_string().contains("environment.a"), "{error}");
    let error = study().write(&folder.path().join("none/results.json")).unwrap_err();
    assert_eq!(error.exit_code(), 74);
}

#[test]
fn csv_keeps_fields_apart_and_names_what_is_predicted() {
    let rows = csv_rows(&csv(&study().cells));
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()));
    let field = |row: usize, name: &str| {
        let column = rows[0].iter().position(|title| title == name).unwrap();
        rows[row][column].as_str()
    };
    assert_eq!(field(2, "model"), "<script>alert(1)</script>");
    assert_eq!(field(2, "dataset"), "a,\"b\"\n");
    assert_eq!(field(2, "train_seconds"), "0.30000000000000004");
    assert_eq!(field(2, "eval_loss"), "n/a: the value is NaN");
    assert_eq!(field(1, "energy_joules"), "n/a: no sensor");
    assert_eq!(field(1, "predicted"), "peak_bytes_planned");
    assert_eq!(csv_rows(&csv(&[])).len(), 1);
}

/// Puts another number into every reading of `value`, counted from 1.
fn plant(value: &mut serde_json::Value, planted: &mut u32) {
    match value {
        serde_json::Value::Object(fields) if fields.contains_key("kind") => {
            *planted += 1;
            *value = serde_json::json!({ "kind": "measured", "value": *planted });
        }
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| plant(field, planted)),
        _ => {}
    }
}

#[test]
fn every_number_of_a_cell_is_one_column() {
    let mut json = serde_json::to_value(Cell::default()).unwrap();
    let mut planted = 0;
    plant(&mut json, &mut planted);
    let cell: Cell = serde_json::from_value(json).unwrap();
    let stored: Vec<&Metric> = METRICS.iter().filter(|metric| metric.is_stored).collect();
    let mut found: Vec<f64> = stored.iter().map(|metric| (metric.of)(&cell).value().unwrap()).collect();
    found.sort_by(f64::total_cmp);
    assert_eq!(found, (1..=planted).map(f64::from).collect::<Vec<_>>());
    let mut keys: Vec<&str> = METRICS.iter().map(|metric| metric.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), METRICS.len(), "a key stands twice");
}

#[test]
fn the_terminal_table_is_aligned_and_narrow() {
    let mut cells = study().cells;
    cells.push(cell(
        "bigbird-pegasus-large-pubmed-continued-\u{1b}[31m",
        "summ_screen_fd_with_a_long_name",
        16384,
    ));
    cells[2].train_seconds = Reading::predicted(1e6);
    const WIDTH: usize = 100;
    let shown = text(&cells, WIDTH);
    assert!(shown.lines().all(|line| line.chars().count() <= WIDTH), "{shown}");
    assert!(!shown.contains('\u{1b}'));
    assert!(shown.contains("~278 ") && shown.contains("\n~ predicted"), "{shown}");
    assert!(shown.contains("n/a in training energy (J): no sensor"), "{shown}");
    let wide = text(&cells, 300);
    assert!(wide.contains("training time (h)") && wide.contains("95 % interval"), "{wide}");
    let column = wide.lines().next().unwrap().find("tokens").unwrap();
    let first: String = wide.lines().nth(1).unwrap().chars().skip(column).collect();
    assert!(first.starts_with("   128"), "{wide}");
    assert_eq!(text(&[], WIDTH), "no results yet");
}

#[test]
fn nothing_is_a_document_too() {
    assert!(markdown(&Results::default()).contains("no results yet"));
    assert!(latex(&Results::default()).starts_with('%'));
}
