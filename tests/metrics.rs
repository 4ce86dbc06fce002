//! ROUGE and F1 against rouge_score 0.1.2 and the SQuAD scorer (`scripts/golden_text.py` says what the rows hold).

use std::path::Path;

use serde::Deserialize;
use wattention::metrics::{self, Accumulator, Protocol, Scores, f1};

#[derive(Deserialize)]
struct Row {
    prediction: String,
    references: Vec<String>,
    rouge1: f64,
    rouge2: f64,
    #[serde(rename = "rougeL")]
    rouge_l: f64,
    f1: f64,
    rouge1_precision: f64,
    rouge1_recall: f64,
    rouge2_precision: f64,
    rouge2_recall: f64,
    #[serde(rename = "rougeL_precision")]
    rouge_l_precision: f64,
    #[serde(rename = "rougeL_recall")]
    rouge_l_recall: f64,
    f1_precision: f64,
    f1_recall: f64,
    normalized: Vec<String>,
}

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/rouge_f1.json");
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(rows.len() > 300);
    rows
}

/// Both sides compute the same double arithmetic up to the order of a product.
fn assert_same(found: f64, expected: f64, what: &str) {
    let bound = 1e-12;
    assert!((found - expected).abs() <= bound, "{what}: {found} is not {expected}");
}

#[test]
fn every_row_scores_as_published() {
    for (index, row) in rows().iter().enumerate() {
        let found = metrics::score(Protocol::Scrolls, &row.prediction, &row.references).unwrap();
        for (name, found, expected) in [
            ("rouge1", found.rouge1, row.rouge1),
            ("rouge2", found.rouge2, row.rouge2),
            ("rougeL", found.rouge_l, row.rouge_l),
            ("f1", found.f1, row.f1),
            ("rouge1 precision", found.rouge1_precision, row.rouge1_precision),
            ("rouge1 recall", found.rouge1_recall, row.rouge1_recall),
            ("rouge2 precision", found.rouge2_precision, row.rouge2_precision),
            ("rouge2 recall", found.rouge2_recall, row.rouge2_recall),
            ("rougeL precision", found.rouge_l_precision, row.rouge_l_precision),
            ("rougeL recall", found.rouge_l_recall, row.rouge_l_recall),
            ("f1 precision", found.f1_precision, row.f1_precision),
            ("f1 recall", found.f1_recall, row.f1_recall),
        ] {
            assert_same(found / 100.0, expected, &format!("row {index}, {name}"));
        }
    }
}

#[test]
fn every_text_normalises_as_published() {
    for (index, row) in rows().iter().enumerate() {
        let texts = std::iter::once(&row.prediction).chain(&row.references);
        let found: Vec<String> = texts.map(|text| f1::normalise(text)).collect();
        assert_eq!(found, row.normalized, "row {index}");
    }
}

#[test]
fn the_mean_of_all_rows_and_its_geometric_mean() {
    let rows = rows();
    let mut total = Accumulator::default();
    for row in &rows {
        total.add(&metrics::score(Protocol::Scrolls, &row.prediction, &row.references).unwrap());
    }
    let mean = |of: fn(&Row) -> f64| 100.0 * rows.iter().map(of).sum::<f64>() / rows.len() as f64;
    let (rouge1, rouge2, rouge_l) = (mean(|r| r.rouge1), mean(|r| r.rouge2), mean(|r| r.rouge_l));
    let found: Scores = total.mean().unwrap();
    assert_same(found.rouge1, rouge1, "rouge1");
    assert_same(found.f1, mean(|r| r.f1), "f1");
    assert_same(found.rouge_l_recall, mean(|r| r.rouge_l_recall), "rougeL recall");
    assert_same(found.geometric_mean, (rouge1 * rouge2 * rouge_l).cbrt(), "geometric_mean");
    // Python's round(mean, 4) of the same rows.
    let Scores { rouge1, rouge2, rouge_l, geometric_mean, f1, .. } = found.rounded();
    assert_eq!([rouge1, rouge2, rouge_l, geometric_mean, f1], [53.5383, 36.1267, 48.1367, 45.3235, 51.6999]);
}

/// Ang et al. score word lists printed by Python, where a zero-width space appears as an escape.
/// Expected: rouge_score of `str(words)` by hand, 2 common tokens of 3 and 2.
#[test]
fn the_paper_protocol_reads_printed_word_lists() {
    let found = metrics::score(Protocol::Paper, "The zero\u{200b}width joint", &["zero joint"]).unwrap();
    assert_same(found.rouge1, 80.0, "rouge1");
    let found = metrics::score(Protocol::Paper, "zero\u{200b}width", &["zero width"]).unwrap();
    assert_same(found.rouge1, 50.0, "rouge1");
}
