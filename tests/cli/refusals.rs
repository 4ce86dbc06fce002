//! Models, batches and outputs that cannot be used: one line that names the thing, and the right exit code.

use super::{Ran, command, configure, model, model_copy, names_in, ran};
use std::path::Path;
use wattention::weights::{Named, Values, write_file};

fn forward(dir: &Path, inputs: &Path, output: &Path, flags: &[&str]) -> Ran {
    ran(command()
        .args(["forward", "--device", "cpu", "--model"])
        .arg(dir)
        .arg("--inputs")
        .arg(inputs)
        .arg("--output")
        .arg(output)
        .args(flags))
}

/// Runs a model directory on its own batch; a refusal must leave no output.
#[track_caller]
fn refused(dir: &Path, code: i32, parts: &[&str]) {
    let out = tempfile::tempdir().unwrap();
    let inputs = dir.join("inputs.safetensors");
    forward(dir, &inputs, &out.path().join("x.safetensors"), &[]).fails(code, parts);
    assert!(names_in(out.path()).is_empty(), "something was written");
}

#[test]
fn a_model_that_is_not_there() {
    let dir = model_copy("led_plain");
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    refused(dir.path(), 66, &["model.safetensors"]);
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    refused(dir.path(), 66, &["config.json", "no such file"]);
}

#[test]
fn weights_that_were_cut_off_or_belong_elsewhere() {
    let dir = model_copy("led_plain");
    let path = dir.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 5, 8, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        refused(dir.path(), 65, &["model.safetensors"]);
    }
    std::fs::copy(model("led_relu_bias").join("model.safetensors"), &path).unwrap();
    refused(dir.path(), 65, &["not those of this model", "unused"]);
}

#[test]
fn weights_that_are_not_finite() {
    let dir = model_copy("led_plain");
    let path = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    refused(dir.path(), 65, &["model.safetensors", "NaN"]);
}

#[test]
fn configurations_that_make_no_sense() {
    for (key, value, says) in [
        ("vocab_size", "9223372036854775808", "vocab_size"),
        ("vocab_size", "18446744073709551616", "config.json"),
        ("vocab_size", "-1", "-1"),
        ("vocab_size", "98", "[98, 32], found [99, 32]"),
        ("vocab_size", "\"many\"", "many"),
        ("d_model", "0", "d_model"),
        ("d_model", "33", "divisible"),
        ("d_model", "4611686018427387904", "d_model"),
        ("encoder_layers", "1000000000", "encoder_layers"),
        ("decoder_layers", "1000000000", "decoder_layers"),
        ("decoder_layers", "0", "decoder_layers"),
        ("encoder_attention_heads", "0", "encoder_attention_heads"),
        ("attention_window", "7", "attention_window"),
        ("attention_window", "[8, 7]", "attention_window"),
        ("attention_window", "[8]", "attention_window"),
        ("attention_window", "0", "attention_window"),
        ("max_encoder_position_embeddings", "1e30", "1e+30"),
        ("dropout", "1.5", "dropout"),
        ("pad_token_id", "99", "pad_token_id"),
        ("decoder_start_token_id", "-3", "decoder_start_token_id"),
        ("activation_function", "\"sine\"", "sine"),
        ("tie_word_embeddings", "false", "tie_word_embeddings"),
        ("model_type", "\"t5\"", "t5"),
        ("model_type", "null", "model_type"),
    ] {
        let dir = model_copy("led_plain");
        configure(dir.path(), key, value);
        refused(dir.path(), 65, &[says]);
    }
    for (key, value, says) in [
        ("block_size", "0", "block_size"),
        ("block_size", "1000000000000", "block_size"),
        ("num_random_blocks", "0", "num_random_blocks"),
        ("max_position_embeddings", "1152921504606846976", "max_position_embeddings"),
        ("attention_type", "\"dense\"", "dense"),
        ("encoder_layers", "1000000000", "encoder_layers"),
    ] {
        let dir = model_copy("bigbird_block_sparse");
        configure(dir.path(), key, value);
        refused(dir.path(), 65, &[says]);
    }
}

#[test]
fn a_configuration_that_is_no_configuration() {
    let dir = model_copy("led_plain");
    for text in ["", "{", "[]", "\u{0}", "{\"model_type\": \"led\"", "null"] {
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        refused(dir.path(), 65, &["config.json"]);
    }
    let deep = "[".repeat(100_000);
    std::fs::write(dir.path().join("config.json"), deep).unwrap();
    refused(dir.path(), 65, &["config.json"]);
}

type Tensor<'a> = (&'a str, &'a [usize], Vec<i64>);

fn write(path: &Path, tensors: &[Tensor]) {
    let named: Vec<Named> = tensors
        .iter()
        .map(|(name, shape, values)| Named { name, shape, values: Values::I64(values) })
        .collect();
    write_file(path, &named).unwrap();
}

/// A batch for `led_plain` (99 ids, 64 and 24 positions) with one tensor replaced or added.
fn batch(changed: Tensor) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> =
        vec![("input_ids", &[2, 3], vec![0, 5, 2, 0, 6, 2]), ("labels", &[2, 2], vec![7, 2, 8, -100])];
    tensors.retain(|(name, ..)| *name != changed.0);
    tensors.push(changed);
    tensors
}

#[test]
fn batches_that_do_not_fit_the_model() {
    let cases: &[(Tensor, &[&str])] = &[
        (("input_ids", &[2, 3], vec![0, 5, 99, 0, 6, 2]), &["input_ids", "99", "vocabulary"]),
        (("input_ids", &[2, 3], vec![0, -1, 2, 0, 6, 2]), &["input_ids", "-1"]),
        (("input_ids", &[2, 3], vec![i64::MAX, 0, 2, 0, 6, 2]), &["input_ids", "vocabulary"]),
        (("labels", &[2, 2], vec![7, 99, 8, 2]), &["labels", "99"]),
        (("labels", &[2, 2], vec![7, -99, 8, 2]), &["labels", "-99"]),
        (("labels", &[2, 2], vec![-100; 4]), &["all labels are ignored"]),
        (("input_ids", &[2, 65], vec![4; 130]), &["input_ids", "65", "64"]),
        (("labels", &[2, 25], vec![4; 50]), &["25", "24"]),
        (("input_ids", &[6], vec![4; 6]), &["\"input_ids\"", "[6]", "[B, S]"]),
        (("input_ids", &[1, 2, 3], vec![4; 6]), &["\"input_ids\"", "[1, 2, 3]"]),
        (("input_ids", &[2, 0], vec![]), &["input_ids", "non-empty"]),
        (("input_ids", &[0, 2], vec![]), &["\"labels\"", "[0, 2]"]),
        (("input_ids", &[3, 2], vec![4; 6]), &["\"labels\"", "[3, 2]"]),
        (("labels", &[2, 0], vec![]), &["labels", "non-empty"]),
        (("attention_mask", &[3, 2], vec![1; 6]), &["\"attention_mask\"", "[3, 2]", "[2, 3]"]),
        (("attention_mask", &[2, 3], vec![1, 1, 2, 1, 1, 1]), &["attention_mask", "2"]),
        (("global_attention_mask", &[2, 2], vec![1; 4]), &["\"global_attention_mask\""]),
        (("decoder_input_ids", &[2, 3], vec![4; 6]), &["\"decoder_input_ids\"", "labels"]),
        (("decoder_input_ids", &[2, 2], vec![99; 4]), &["decoder_input_ids", "99"]),
    ];
    for (changed, parts) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("batch.safetensors");
        write(&path, &batch(changed.clone()));
        let output = dir.path().join("x.safetensors");
        let parts = [&["batch.safetensors"], *parts].concat();
        forward(&model("led_plain"), &path, &output, &[]).fails(65, &parts);
        assert_eq!(names_in(dir.path()), ["batch.safetensors"]);
    }
}

#[test]
fn batch_files_without_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, output) = (dir.path().join("b"), dir.path().join("x"));
    let led = model("led_plain");
    let tried = |flags: &[&str]| forward(&led, &path, &output, flags);

    tried(&[]).fails(66, &["No such file"]);
    std::fs::write(&path, "not tensors").unwrap();
    tried(&[]).fails(65, &["not a safetensors file"]);
    write(&path, &[("labels", &[1, 1], vec![4])]);
    tried(&[]).fails(65, &["\"input_ids\""]);
    let source = ("input_ids", &[1, 1][..], vec![4]);
    write(&path, std::slice::from_ref(&source));
    tried(&[]).fails(65, &["\"labels\"", "\"decoder_input_ids\""]);
    write(&path, &[source, ("decoder_input_ids", &[1, 1], vec![4])]);
    tried(&["--grads"]).fails(2, &["--grads", "\"labels\""]);
    tried(&["--label-smoothing", "0.1"]).fails(2, &["--label-smoothing", "\"labels\""]);

    let floats = [("input_ids", Values::F32(&[4.0])), ("labels", Values::I64(&[4]))];
    let named = floats.map(|(name, values)| Named { name, shape: &[1, 1], values });
    write_file(&path, &named).unwrap();
    tried(&[]).fails(65, &["\"input_ids\"", "F32", "I64"]);
    assert_eq!(names_in(dir.path()), ["b"]);
}

#[test]
fn a_tensor_that_is_not_read_is_pointed_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b");
    write(&path, &batch(("atention_mask", &[2, 3], vec![1; 6])));
    let done = forward(&model("led_plain"), &path, &dir.path().join("x"), &["-q"]);
    done.succeeds();
    assert!(done.err.contains("warning: "), "{}", done.err);
    assert!(done.err.contains("\"atention_mask\""), "{}", done.err);

    write(&path, &batch(("global_attention_mask", &[2, 3], vec![1; 6])));
    let output = dir.path().join("x");
    let done = forward(&model("bigbird_full_fallback"), &path, &output, &[]);
    done.succeeds();
    assert!(done.err.contains("warning: "), "{}", done.err);
    assert!(done.err.contains("global_attention_mask"), "{}", done.err);
}

#[test]
fn outputs_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let led = model("led_plain");
    let inputs = led.join("inputs.safetensors");
    for output in [
        dir.path().join("nowhere/x.safetensors"),
        file.join("x.safetensors"),
        dir.path().to_path_buf(),
        Path::new("/dev/null").to_path_buf(),
    ] {
        let shown = output.display().to_string();
        // The weights are absent, too: the output must have been looked at first.
        let absent = dir.path().join("no-model");
        forward(&absent, &inputs, &output, &[]).fails(74, &["cannot write", &shown]);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    assert_eq!(names_in(dir.path()), ["file"]);
}

#[test]
fn the_batch_is_not_overwritten() {
    let dir = model_copy("led_plain");
    let path = dir.path().join("inputs.safetensors");
    let before = std::fs::read(&path).unwrap();
    forward(dir.path(), &path, &path, &[]).fails(2, &["overwritten"]);
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_failure_keeps_the_earlier_output() {
    let dir = model_copy("led_plain");
    let output = dir.path().join("x");
    std::fs::write(&output, "earlier").unwrap();
    configure(dir.path(), "vocab_size", "98");
    let inputs = dir.path().join("inputs.safetensors");
    forward(dir.path(), &inputs, &output, &[]).fails(65, &["another shape"]);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "earlier");
}

#[test]
fn a_batch_cut_off_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b");
    let whole = std::fs::read(model("led_no_global").join("inputs.safetensors")).unwrap();
    // Every length takes too long; a prime step meets all phases of header and data.
    for length in (0..whole.len()).step_by(67) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let output = dir.path().join("x");
        forward(&model("led_no_global"), &path, &output, &[]).fails(65, &["b: "]);
    }
}
