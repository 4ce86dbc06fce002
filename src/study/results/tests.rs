use super::*;

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
        headline_metric: Metric::GeometricMean,
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
fn readings_say_in_json_how_they_came_to_be() {
    let json = |reading: Reading| serde_json::to_string(&reading).unwrap();
    assert_eq!(json(Reading::measured(1.5)), r#"{"kind":"measured","value":1.5}"#);
    assert_eq!(json(Reading::predicted(2.0)), r#"{"kind":"predicted","value":2.0}"#);
    assert_eq!(json(Reading::absent("no sensor")), r#"{"kind":"absent","why":"no sensor"}"#);
    assert_eq!(json(Reading::Measured(f64::INFINITY)), r#"{"kind":"absent","why":"the value is inf"}"#);
    let swapped: Reading = serde_json::from_str(r#"{"value":3,"kind":"predicted"}"#).unwrap();
    assert_eq!(swapped, Reading::Predicted(3.0));
    assert!(serde_json::from_str::<Reading>(r#"{"value":3}"#).is_err());
    assert!(serde_json::from_str::<Reading>("3").is_err());
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

/// RFC 4180, read strictly.
fn parse(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let (mut row, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.push(chars.next().unwrap()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'));
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    assert!(row.is_empty() && field.is_empty(), "the last line has its end");
    rows
}

#[test]
fn csv_keeps_fields_apart_and_names_what_is_predicted() {
    let rows = parse(&csv(&study().cells));
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
    assert_eq!(parse(&csv(&[])).len(), 1);
}

#[test]
fn csv_runs_no_formula() {
    for hostile in ["=1+1", "+cmd", "-2", "@SUM(A1)", "\t=1", " =1", "＝1"] {
        let rows = parse(&csv(&[cell(hostile, "d", 1)]));
        assert_eq!(rows[1][0], format!("'{hostile}"));
    }
    let rows = parse(&csv(&[cell("led-base", "a;=1", 1)]));
    assert_eq!(rows[1][..2], ["led-base", "a;=1"]);
    assert!(csv(&[cell("led", "a;=1", 1)]).contains("\"a;=1\""));
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
    let text = table(&cells);
    assert!(text.lines().all(|line| line.chars().count() <= table::WIDTH), "{text}");
    assert!(!text.contains('\u{1b}'));
    assert!(text.contains("~278 ") && text.contains("train h") && text.contains("~ predicted"), "{text}");
    assert!(text.contains("n/a in energy: no sensor"), "{text}");
    let column = text.lines().next().unwrap().find("tokens").unwrap();
    let first: String = text.lines().nth(2).unwrap().chars().skip(column).collect();
    assert!(first.starts_with("   128"), "{text}");
    assert_eq!(table(&[]), "no results yet\n");
}
