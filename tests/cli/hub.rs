//! Models as they lie on the hub: PyTorch files, the cache of Hugging Face, and `convert`.

use super::torch_file::{Pickle, archive, floats, zip_of};
use super::{Ran, command, model, names_in, ran};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use wattention::weights::{Dtype, read_file};
use zip::CompressionMethod;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// The golden `led_no_global` with a PyTorch file instead of safetensors.
fn torch_model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(golden("torch/led/pytorch_model.bin"), dir.path().join("pytorch_model.bin")).unwrap();
    for name in ["config.json", "generation_config.json", "inputs.safetensors"] {
        fs::copy(model("led_no_global").join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn convert(from: &Path, to: &Path, flags: &[&str]) -> Ran {
    ran(command().arg("convert").arg("--model").arg(from).arg("--output-dir").arg(to).args(flags))
}

fn forward(model: &Path, output: &Path, flags: &[&str]) -> Ran {
    let inputs = super::model("led_no_global").join("inputs.safetensors");
    let mut line = command();
    line.args(["forward", "--device", "cpu", "--model"]).arg(model).arg("--inputs").arg(inputs);
    ran(line.arg("--output").arg(output).args(flags))
}

#[test]
fn a_torch_file_computes_what_its_safetensors_do() {
    let (dir, out) = (torch_model(), tempfile::tempdir().unwrap());
    let (one, other) = (out.path().join("one"), out.path().join("other"));
    let done = forward(dir.path(), &one, &[]);
    done.succeeds();
    assert!(done.err.contains("pytorch_model.bin is a pickle"), "{}", done.err);
    forward(&model("led_no_global"), &other, &[]).succeeds();
    assert!(fs::read(one).unwrap() == fs::read(&other).unwrap());
    let quiet = forward(dir.path(), &other, &["-q"]);
    assert_eq!(quiet.succeeds().err, "");
}

#[test]
fn converting_writes_what_transformers_saves() {
    let (dir, out) = (torch_model(), tempfile::tempdir().unwrap());
    let to = out.path().join("new/led");
    let report = convert(dir.path(), &to, &["--json"]).json();
    assert_eq!(names_in(&to), ["config.json", "generation_config.json", "model.safetensors"]);
    let same =
        |name: &str| fs::read(to.join(name)).unwrap() == fs::read(model("led_no_global").join(name)).unwrap();
    assert!(same("model.safetensors") && same("config.json") && same("generation_config.json"));
    assert_eq!(report["weights"], "pytorch_model.bin");
    assert_eq!(report["tensors"], 104);
    assert_eq!(report["tokenizer"], serde_json::Value::Null);
    assert_eq!(names_in(&out.path().join("new")), ["led"], "something unfinished was left");
}

#[test]
fn a_folder_that_is_not_empty_is_replaced_only_when_told() {
    let (dir, out) = (torch_model(), tempfile::tempdir().unwrap());
    let to = out.path();
    fs::write(to.join("notes.txt"), "kept").unwrap();
    fs::write(to.join("model.safetensors"), "old").unwrap();
    convert(dir.path(), to, &[]).fails(74, &["not empty", "--overwrite-output-dir"]);
    assert_eq!(fs::read(to.join("model.safetensors")).unwrap(), b"old");
    convert(dir.path(), to, &["--overwrite-output-dir", "--dtype", "bf16"]).succeeds();
    assert_eq!(fs::read(to.join("notes.txt")).unwrap(), b"kept");
    let weights = read_file(&to.join("model.safetensors")).unwrap();
    let whole = read_file(&model("led_no_global").join("model.safetensors")).unwrap();
    for name in whole.names() {
        assert_eq!(weights.dtype(&name).unwrap(), Dtype::BF16, "{name}");
        let rounded: Vec<f32> =
            whole.f32(&name).unwrap().into_iter().map(|x| half::bf16::from_f32(x).to_f32()).collect();
        assert_eq!(weights.f32(&name).unwrap(), rounded, "{name}");
    }
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(to.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], "bfloat16");
    convert(dir.path(), dir.path(), &["--overwrite-output-dir"]).fails(2, &["while it is read"]);
}

/// A tiny vocabulary around the tokenizer of a golden, whose ids go to 599.
#[test]
fn tokenizers_are_made_and_must_fit() {
    let (dir, out) = (torch_model(), tempfile::tempdir().unwrap());
    for name in ["vocab.json", "merges.txt", "special_tokens_map.json"] {
        fs::copy(golden("hub_tokenizers/led").join(name), dir.path().join(name)).unwrap();
    }
    let to = out.path().join("led");
    convert(dir.path(), &to, &[]).fails(65, &["vocab.json", "599", "vocab_size 99"]);
    let vocab = r#"{"a": 5, "<s>": 98, "</s>": 97, "<pad>": 1}"#;
    fs::write(dir.path().join("vocab.json"), vocab).unwrap();
    fs::write(dir.path().join("merges.txt"), "#version: 0.2\n").unwrap();
    fs::remove_file(dir.path().join("special_tokens_map.json")).unwrap();
    let report = convert(dir.path(), &to, &["--json"]).json();
    assert_eq!(report["tokenizer"], "vocab.json");
    let made: serde_json::Value =
        serde_json::from_slice(&fs::read(to.join("tokenizer.json")).unwrap()).unwrap();
    assert_eq!(made["post_processor"]["cls"], serde_json::json!(["<s>", 98]));
}

#[test]
fn hostile_weights_are_named_and_leave_nothing() {
    let call = |module: &str, name: &str| {
        let pickle = Pickle::new().global(module, name).text("touch pwned").raw([0x85, b'R', b'.']).0;
        archive(&[("data.pkl", &pickle)])
    };
    let whole = fs::read(golden("torch/led/pytorch_model.bin")).unwrap();
    let cases: [(Vec<u8>, &[&str]); 9] = [
        (call("os", "system"), &["os.system", "nothing was run"]),
        (call("builtins", "eval"), &["builtins.eval", "nothing was run"]),
        (zip_of(&[("../../data.pkl", b"")], CompressionMethod::Stored), &["out of the archive"]),
        (zip_of(&[("a/data.pkl", &[0; 9999])], CompressionMethod::Deflated), &["compressed"]),
        (floats(&[2], &[7], 0, &[1.0, 2.0]), &["\"x\"", "leave its storage"]),
        (floats(&[1], &[1], 0, &[1.0]), &["not those of this model", "\"x\" [1]"]),
        (whole[..whole.len() - 9].to_vec(), &["broken zip archive", "download it again"]),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), &["git lfs pull"]),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(), &["before 1.6"]),
    ];
    let (dir, out) = (torch_model(), tempfile::tempdir().unwrap());
    for (bytes, says) in cases {
        fs::write(dir.path().join("pytorch_model.bin"), bytes).unwrap();
        let says = [&["pytorch_model.bin"], says].concat();
        convert(dir.path(), &out.path().join("led"), &[]).fails(65, &says[1..]);
        forward(dir.path(), &out.path().join("x"), &[]).fails(65, &says);
        assert!(names_in(out.path()).is_empty(), "{says:?} left something");
    }
}

#[test]
fn values_that_a_format_cannot_hold() {
    let (dir, out) = (torch_model(), tempfile::tempdir().unwrap());
    let whole = fs::read(golden("torch/led/pytorch_model.bin")).unwrap();
    let weight = read_file(&model("led_no_global").join("model.safetensors")).unwrap();
    let first = weight.f32("led.shared.weight").unwrap();
    let start: Vec<u8> = first[..8].iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = whole.windows(start.len()).position(|window| window == start).unwrap();
    for (value, flags, says) in [
        (70_000.0f32, &["--dtype", "fp16"][..], "element 0 is 70000, beyond the range of F16"),
        (f32::NAN, &[], "element 0 is NaN"),
    ] {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(dir.path().join("pytorch_model.bin"), bytes).unwrap();
        convert(dir.path(), &out.path().join("led"), flags).fails(65, &["led.shared.weight", says]);
    }
    assert!(names_in(out.path()).is_empty());
}

/// A cache that huggingface_hub could have filled with the golden, and commands that look there.
#[test]
fn repositories_are_found_in_the_cache() {
    let (dir, home) = (torch_model(), tempfile::tempdir().unwrap());
    let repository = home.path().join("hub/models--acme--led");
    let snapshot = repository.join("snapshots/0a1b2c");
    for folder in ["blobs", "refs", "snapshots/0a1b2c"] {
        fs::create_dir_all(repository.join(folder)).unwrap();
    }
    fs::write(repository.join("refs/main"), "0a1b2c").unwrap();
    for name in ["config.json", "pytorch_model.bin"] {
        fs::copy(dir.path().join(name), repository.join("blobs").join(name)).unwrap();
        symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
    }
    let inputs = model("led_no_global").join("inputs.safetensors");
    let work = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let mut line = command();
        for key in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
            line.env_remove(key);
        }
        line.current_dir(work.path())
            .env("HF_HOME", home.path())
            .args(["forward", "--device", "cpu", "--model", name]);
        ran(line.args(["--output", "x"]).arg("--inputs").arg(&inputs))
    };
    for name in ["acme/led", "acme/led@main", "acme/led@0a1b2c"] {
        let done = run(name);
        done.succeeds();
        assert!(done.err.contains("snapshots/0a1b2c"), "{}", done.err);
    }
    let cache = home.path().join("hub/models--acme--other").display().to_string();
    run("acme/other").fails(66, &["acme/other", &cache, "`hf download acme/other`"]);
    run("acme/led@v2").fails(66, &["acme/led@0a1b2c", "--revision v2"]);
    // A folder of this name is taken first, be it empty.
    fs::create_dir_all(work.path().join("acme/led")).unwrap();
    run("acme/led").fails(66, &["acme/led/config.json"]);
}
