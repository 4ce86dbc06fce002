//! `forward` against transformers' answers, and its options against formulas.

use super::golden::{self, Array, relative_l2};
use super::{Ran, command, configure, model, model_copy, ran};
use std::collections::BTreeMap;
use std::path::Path;
use wattention::weights::{Named, Values, write_file};

/// The numerics contract in fp32.
const STATES: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;

type Arrays = BTreeMap<String, Array>;

/// `forward` of the batch `inputs` through the model in `dir`, with extra flags.
fn forward(dir: &Path, inputs: &Path, flags: &str) -> (Ran, Arrays) {
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("answer.safetensors");
    let done = ran(command()
        .args(["forward", "--device", "cpu", "--model"])
        .arg(dir)
        .arg("--inputs")
        .arg(inputs)
        .arg("--output")
        .arg(&output)
        .args(flags.split_whitespace()));
    done.succeeds();
    assert_eq!(super::names_in(out.path()), ["answer.safetensors"]);
    (done, golden::read(&output))
}

/// `forward` of a golden case's own batch.
fn own(name: &str, flags: &str) -> Arrays {
    forward(&model(name), &model(name).join("inputs.safetensors"), flags).1
}

fn inputs(name: &str) -> Arrays {
    golden::read(&model(name).join("inputs.safetensors"))
}

fn write(path: &Path, tensors: &[(&str, &[usize], Vec<i64>)]) {
    let named: Vec<Named> = tensors
        .iter()
        .map(|(name, shape, values)| Named { name, shape, values: Values::I64(values) })
        .collect();
    write_file(path, &named).unwrap();
}

fn floats(array: &Array) -> Vec<f32> {
    array.values.iter().map(|&v| v as f32).collect()
}

/// Rows of tokens that the attention mask leaves; transformers' other rows mean nothing.
fn real_rows(name: &str, states: &Array) -> Vec<f64> {
    let c = states.shape[2];
    let mask = inputs(name).get("attention_mask").map(Array::integers);
    let rows = states.values.chunks(c).enumerate();
    rows.filter(|(row, _)| mask.as_ref().is_none_or(|mask| mask[*row] == 1))
        .flat_map(|(_, row)| row.to_vec())
        .collect()
}

#[track_caller]
fn check(name: &str, got: &Arrays, prefix: &str) {
    let expected = golden::read(&model(name).join("expected.safetensors"));
    for key in ["logits", "encoder_last_hidden_state"] {
        let want = &expected[&format!("{prefix}{key}")];
        assert_eq!(got[key].shape, want.shape, "{name}: {key}");
        let (ours, theirs) = match key {
            "logits" => (got[key].values.clone(), want.values.clone()),
            _ => (real_rows(name, &got[key]), real_rows(name, want)),
        };
        let ours: Vec<f32> = ours.iter().map(|&v| v as f32).collect();
        let error = relative_l2(&ours, &theirs);
        assert!(error <= STATES, "{name}: {prefix}{key} is off by {error}");
    }
    assert_eq!(got["loss"].shape, [1], "{name}");
    let want = &expected[&format!("{prefix}loss")];
    let error = relative_l2(&floats(&got["loss"]), &want.values);
    assert!(error <= STATES, "{name}: {prefix}loss is off by {error}");
}

#[test]
fn evaluation_equals_transformers() {
    for name in golden::cases() {
        let got = own(&name, "");
        check(&name, &got, "");
        let keys: Vec<&str> = got.keys().map(String::as_str).collect();
        assert_eq!(keys, ["encoder_last_hidden_state", "logits", "loss"]);
    }
}

#[test]
fn the_drawn_blocks_are_an_option_of_evaluation() {
    for name in golden::cases().iter().filter(|n| n.starts_with("bigbird")) {
        check(name, &own(name, "--random-blocks drawn"), "train_");
    }
}

/// The key bias adds the same to all scores of a query, so its true gradient is zero and only noise is left.
fn vanishes(name: &str) -> bool {
    ["key.bias", "key_global.bias", "k_proj.bias"].iter().any(|end| name.ends_with(end))
}

fn norm<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> f64 {
    let squares = arrays.into_iter().flat_map(|a| &a.values).map(|v| v * v);
    squares.sum::<f64>().sqrt()
}

#[track_caller]
fn check_gradients(name: &str, got: &Arrays) {
    let expected = golden::read(&model(name).join("expected.safetensors"));
    let gradients = |arrays: &Arrays| -> Vec<String> {
        let names = arrays.keys().filter(|key| key.starts_with("grad."));
        names.cloned().collect()
    };
    let keys = gradients(&expected);
    assert_eq!(gradients(got), keys, "{name}");
    let whole = norm(keys.iter().map(|key| &expected[key]));
    for key in keys {
        let (ours, theirs) = (&got[&key], &expected[&key]);
        assert_eq!(ours.shape, theirs.shape, "{name}: {key}");
        if vanishes(&key) || norm([theirs]) == 0.0 {
            let size = norm([ours]);
            assert!(size <= 1e-6 * whole, "{name}: {key} is {size}, not zero");
        } else {
            let error = relative_l2(&floats(ours), &theirs.values);
            assert!(error <= GRADIENTS, "{name}: {key} is off by {error}");
        }
    }
}

/// What `--train` writes is that of the drawn blocks.
fn trained(name: &str) -> &str {
    if name.starts_with("bigbird") { "train_" } else { "" }
}

#[test]
fn training_mode_and_its_gradients_equal_transformers() {
    for name in golden::cases() {
        let got = own(&name, "--train --grads");
        check(&name, &got, trained(&name));
        check_gradients(&name, &got);
    }
}

/// What a machine lacks it leaves out, and computes as without.
#[test]
fn every_way_to_compute_products_equals_transformers_whatever_the_threads() {
    for way in ["-avx2", "-avx512", "+bf16x6", "+bf16x6,+amx-twin"] {
        for name in golden::cases() {
            let with =
                |threads| own(&name, &format!("--train --grads --cpu-features {way} --threads {threads}"));
            let got = with(1);
            check(&name, &got, trained(&name));
            check_gradients(&name, &got);
            for (key, array) in with(3) {
                assert!(array.values == got[&key].values, "{name}: {key} with {way} depends on the threads");
            }
        }
    }
}

/// bf16 by multiply-adds of widened values, by pairs and on tiles: the same products, summed in another order.
#[test]
fn bf16_by_every_way_is_as_far_from_transformers() {
    for name in golden::cases() {
        let expected = golden::read(&model(&name).join("expected.safetensors"));
        let off = |way: &str| {
            let got = own(&name, &format!("--precision bf16 {way}"));
            relative_l2(&floats(&got["logits"]), &expected["logits"].values)
        };
        let widened = off("--cpu-features -avx512-bf16,-amx");
        for way in ["", "--cpu-features +avx512-bf16,-amx", "--cpu-features +amx-twin"] {
            let error = off(way);
            assert!(error <= 2.0 * widened, "{name}: {way} is off by {error}, widened by {widened}");
        }
    }
}

#[test]
fn without_dropout_gradients_in_evaluation_are_those_of_training() {
    let (evaluation, training) = (own("led_plain", "--grads"), own("led_plain", "--grads --train"));
    assert_eq!(evaluation.len(), training.len());
    for (key, array) in &evaluation {
        assert_eq!(array.values, training[key].values, "{key}");
    }
}

#[test]
fn decoder_ids_may_be_given_instead_of_labels() {
    let given = inputs("led_plain");
    let labels = &given["labels"];
    // What the labels imply: shifted right behind the start token 2, ignored ones as pad 1.
    let shifted: Vec<i64> = labels
        .integers()
        .chunks(labels.shape[1])
        .flat_map(|row| [&[2], &row[..row.len() - 1]].concat())
        .map(|id| if id == -100 { 1 } else { id })
        .collect();
    let mut tensors: Vec<(&str, &[usize], Vec<i64>)> = given
        .iter()
        .filter(|(name, _)| *name != "labels")
        .map(|(name, array)| (name.as_str(), array.shape.as_slice(), array.integers()))
        .collect();
    tensors.push(("decoder_input_ids", &labels.shape, shifted.clone()));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("batch.safetensors");
    write(&path, &tensors);
    let (_, got) = forward(&model("led_plain"), &path, "");
    let own = own("led_plain", "");
    assert_eq!(got["logits"].values, own["logits"].values);
    assert!(!got.contains_key("loss"));

    tensors.push(("labels", &labels.shape, labels.integers()));
    write(&path, &tensors);
    let (_, got) = forward(&model("led_plain"), &path, "");
    assert_eq!(got["loss"].values, own["loss"].values);

    // Other decoder ids than the labels imply are read as given.
    let last = tensors.len() - 2;
    tensors[last].2 = vec![5; shifted.len()];
    write(&path, &tensors);
    let (_, got) = forward(&model("led_plain"), &path, "");
    assert_ne!(got["logits"].values, own["logits"].values);
}

#[test]
fn an_absent_attention_mask_keeps_every_token() {
    let given = inputs("led_plain");
    let ids = &given["input_ids"];
    let labels = &given["labels"];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("batch.safetensors");
    let mut tensors = vec![
        ("input_ids", ids.shape.as_slice(), ids.integers()),
        ("labels", labels.shape.as_slice(), labels.integers()),
    ];
    write(&path, &tensors);
    let (_, bare) = forward(&model("led_plain"), &path, "");
    tensors.push(("attention_mask", &ids.shape, vec![1; ids.values.len()]));
    write(&path, &tensors);
    let (_, masked) = forward(&model("led_plain"), &path, "");
    assert_eq!(bare["logits"].values, masked["logits"].values);
    assert_ne!(bare["logits"].values, own("led_plain", "")["logits"].values);
}

#[test]
fn label_smoothing_mixes_in_the_uniform_distribution() {
    let labels = inputs("led_plain")["labels"].integers();
    let plain = own("led_plain", "");
    let smoothed = own("led_plain", "--label-smoothing 0.1");
    assert_eq!(plain["logits"].values, smoothed["logits"].values);

    let v = plain["logits"].shape[2];
    let (mut sum, mut count) = (0.0, 0.0);
    for (row, &label) in plain["logits"].values.chunks(v).zip(&labels) {
        if label == -100 {
            continue;
        }
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lse = top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
        let uniform = row.iter().map(|x| lse - x).sum::<f64>() / v as f64;
        sum += 0.9 * (lse - row[label as usize]) + 0.1 * uniform;
        count += 1.0;
    }
    let error = relative_l2(&floats(&smoothed["loss"]), &[sum / count]);
    assert!(error <= STATES, "off by {error}");
}

#[test]
fn dropout_is_a_function_of_the_seed_alone() {
    let dir = model_copy("led_plain");
    configure(dir.path(), "dropout", "0.3");
    configure(dir.path(), "attention_dropout", "0.2");
    let batch = dir.path().join("inputs.safetensors");
    let logits = |flags: &str| forward(dir.path(), &batch, flags).1["logits"].values.clone();
    let trained = logits("--train --seed 7");
    assert_eq!(trained, logits("--train --seed 7 --threads 1"));
    assert_ne!(trained, logits("--train --seed 8"));
    assert_eq!(logits(""), own("led_plain", "")["logits"].values);
}

#[test]
fn the_report_has_what_was_computed() {
    let batch = model("led_plain").join("inputs.safetensors");
    let (done, got) = forward(&model("led_plain"), &batch, "--json --grads");
    let report = done.json();
    assert_eq!(report["source"], serde_json::json!([2, 37]));
    assert_eq!(report["target"], serde_json::json!([2, 11]));
    assert_eq!(report["loss"].as_f64().unwrap() as f32, floats(&got["loss"])[0]);
    let gradients = got.keys().filter(|key| key.starts_with("grad.")).count();
    assert_eq!(report["gradients"], gradients);
    let labels = inputs("led_plain")["labels"].integers();
    let counted = labels.iter().filter(|&&l| l != -100).count();
    assert_eq!(report["labels"], counted);
    assert_eq!((&report["device"], &report["precision"]), (&"cpu".into(), &"fp32".into()));
}
