//! `weights` of a study: the trained model is scored with its weights in 8 bits, too.

use super::study::{TINY, results, study};
use super::{command, ran};
use serde_json::Value;
use std::fs;
use std::path::Path;

const BOTH: &str = "weights = ['stored', 'int8']\nkeep_models = true\n";
const CELL: &str = "out/cells/tiny-led_qmsum-slice_64_fp32_seed42";

/// The lines of a file of predictions.
fn predicted(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let of =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["prediction"].as_str().unwrap().to_string();
    text.lines().map(of).collect()
}

#[test]
fn a_trained_model_is_scored_with_weights_in_8_bits_too() {
    let dir = tempfile::tempdir().unwrap();
    let config = BOTH.to_string() + &TINY.replace("[64, 128]", "[64]");
    let done = ran(&mut study(dir.path(), &config, ""));
    assert!(done.succeeds().out.contains("int8 weights"), "{}", done.out);
    let all = results(dir.path());
    let [stored, int8] = &all["cells"].as_array().unwrap()[..] else { panic!("{all}") };
    assert_eq!((&stored["weights"], &int8["weights"]), (&"stored".into(), &"int8".into()));
    for key in ["run", "model", "steps", "train_loss_final", "train_seconds"] {
        assert_eq!(stored[key], int8[key], "{key}: one training");
    }
    let why = int8["eval_loss"]["why"].as_str().unwrap_or_default();
    assert!(stored["eval_loss"]["value"].is_number() && why.contains("stored weights"), "{int8}");
    let bytes = |cell: &Value, key: &str| cell[key]["value"].as_f64().unwrap();
    assert!(bytes(int8, "peak_bytes_measured") > bytes(stored, "peak_bytes_measured"), "a second model");
    assert_eq!(bytes(int8, "peak_bytes_measured"), bytes(int8, "peak_bytes_planned"));

    // What `evaluate` finds of the model that the cell has kept.
    let cell = dir.path().join(CELL);
    for (weights, name) in
        [("stored", "predictions-scrolls.jsonl"), ("int8", "predictions-scrolls-int8.jsonl")]
    {
        let output = dir.path().join(name);
        let mut told = command();
        told.args(["evaluate", "--device", "cpu", "--dataset", "qmsum-slice", "--max-samples", "4"]);
        told.args(["--max-source-length", "64", "--max-target-length", "16", "--max-new-tokens", "4"]);
        told.args(["--weights", weights, "--model"]).arg(cell.join("model"));
        ran(told.arg("--predictions-output").arg(&output)).succeeds();
        assert_eq!(predicted(&cell.join(name)), predicted(&output), "{weights}");
    }

    let again = ran(&mut study(dir.path(), &config, ""));
    assert_eq!(again.succeeds().err.matches("already there").count(), 1, "{}", again.err);
    let out = dir.path().join("out");
    let mut told = command();
    told.env("COLUMNS", "300").args(["study", "compare"]).args([&out, &out]);
    let compared = ran(&mut told);
    assert_eq!(compared.succeeds().out.matches("within the interval").count(), 2, "{}", compared.out);
    assert!(
        fs::read_to_string(out.join("results.csv")).unwrap().lines().next().unwrap().contains(",weights,")
    );
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("int8 weights beside stored weights"));
}

#[test]
fn devices_without_such_products_and_other_words_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = BOTH.to_string() + TINY;
    let why = ["h200 has no kernels for int8 weights", "--device cpu", "leave weights int8 out"];
    ran(&mut study(dir.path(), &config, "--dry-run --gpu h200")).fails(2, &why);
    let plan = ran(&mut study(dir.path(), &config, "--dry-run --json")).json();
    let alone = ran(&mut study(dir.path(), TINY, "--dry-run --json")).json();
    let bytes =
        |plan: &serde_json::Map<String, Value>| plan["cells"][0]["memory_bytes"]["value"].as_f64().unwrap();
    assert!(bytes(&plan) > bytes(&alone), "the second model is planned");
    assert_eq!(plan["cells"][0]["weights"], serde_json::json!(["stored", "int8"]));
    ran(&mut study(dir.path(), &config.replace("int8", "int4"), ""))
        .fails(65, &["study.toml:1", "int4", "int8"]);
    ran(&mut study(dir.path(), &format!("weights = []\n{TINY}"), "")).fails(2, &["`weights` is empty"]);
    let rounded = TINY.replace("[train]\n", "[train]\ncommunication_data_type = \"bf16\"\n");
    ran(&mut study(dir.path(), &rounded, ""))
        .fails(2, &["`train.communication_data_type` changes nothing", "leave it out"]);
    if cfg!(wattention_sim) {
        let mut told = command();
        told.args(["study", "--device", "sim", "--config"]).arg(dir.path().join("int8.toml"));
        fs::write(dir.path().join("int8.toml"), &config).unwrap();
        ran(told.arg("--output-dir").arg(dir.path().join("out")))
            .fails(2, &["sim has no kernels for int8 weights"]);
    }
    assert!(!dir.path().join("out").exists());
}
