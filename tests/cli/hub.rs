//! Models as they lie on the hub: PyTorch files, the cache of Hugging Face, and `convert`.

use super::torch_file::{Pickle, archive, floats, zip_of};
use super::{Ran, command, model, names_in, ran};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use wattention::weights::{Dtype, Named, Values, read_file, write_file};
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

/// Files copied of the golden, files with their content, the exit code and what the refusal says.
type Nearly<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a [&'a str]);

/// Refusals of `forward` for folders that hold `files` beside what is copied of the golden.
#[test]
fn folders_that_are_nearly_a_model_say_what_they_are() {
    let adapter = r#"{"peft_type": "LORA", "base_model_name_or_path": "allenai/led-base-16384"}"#;
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    let index = r#"{"weight_map": {"led.shared.weight": "model-00001-of-00002.safetensors"}}"#;
    let cases: &[Nearly] = &[
        (
            &[],
            &[("adapter_config.json", adapter), ("adapter_model.safetensors", "x")],
            66,
            &["LORA adapter of allenai/led-base-16384", "merge"],
        ),
        (&["config.json"], &[("adapter_model.bin", "x")], 66, &["adapter", "merge_and_unload"]),
        (
            &["config.json"],
            &[("model.fp16.safetensors", "x")],
            66,
            &["variant fp16", "model.fp16.safetensors", "rename it to model.safetensors"],
        ),
        (&["config.json"], &[("pytorch_model.bf16.bin", "x")], 66, &["variant bf16", "pytorch_model.bin"]),
        (&["config.json"], &[("tf_model.h5", "x")], 66, &["TensorFlow", "tf_model.h5"]),
        (&["config.json"], &[("flax_model.msgpack", "x")], 66, &["Flax"]),
        (&["config.json"], &[("model.gguf", "x")], 66, &["llama.cpp"]),
        (
            &["config.json"],
            &[("model-00001-of-00002.safetensors", "x")],
            66,
            &["no index", "model-00001-of-00002.safetensors"],
        ),
        (
            &["config.json"],
            &[("model.safetensors.index.json", index)],
            66,
            &["model-00001-of-00002.safetensors", "names this shard", "download it"],
        ),
        (&["config.json"], &[("model.safetensors", lfs)], 65, &["git lfs pull"]),
        (
            &["config.json"],
            &[("zero_to_fp32.py", ""), ("latest", "global_step4")],
            66,
            &["DeepSpeed", "zero_to_fp32.py"],
        ),
        (&["config.json"], &[("__0_0.distcp", "")], 66, &["FSDP", "merge-weights"]),
        (&["config.json"], &[("optimizer.pt", "x")], 66, &["model.safetensors", "pytorch_model.bin"]),
        (
            &[],
            &[("checkpoint-500/config.json", "{}"), ("checkpoint-900/config.json", "{}")],
            66,
            &["checkpoint-500, checkpoint-900"],
        ),
        (&[], &[("notes.txt", "")], 66, &["config.json: no such file"]),
    ];
    let out = tempfile::tempdir().unwrap();
    for (copied, files, code, says) in cases {
        let dir = tempfile::tempdir().unwrap();
        for name in *copied {
            fs::copy(model("led_no_global").join(name), dir.path().join(name)).unwrap();
        }
        for (name, content) in *files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        forward(dir.path(), &out.path().join("x"), &[]).fails(*code, says);
    }
    let file = model("led_no_global").join("model.safetensors");
    let folder = model("led_no_global").display().to_string();
    forward(&file, &out.path().join("x"), &[]).fails(66, &["model.safetensors", "its folder", &folder]);
    forward(Path::new("/no/such"), &out.path().join("x"), &[])
        .fails(66, &["/no/such", "no such folder", "tiny-led"]);
    forward(Path::new("https://huggingface.co/allenai/led-base-16384"), &out.path().join("x"), &[])
        .fails(66, &["allenai/led-base-16384", "hf download"]);
}

/// What `LEDModel.save_pretrained` writes, and a head of another task beside it.
#[test]
fn base_models_load_and_tensors_of_no_use_are_named() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let whole = read_file(&model("led_no_global").join("model.safetensors")).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = whole
        .names()
        .into_iter()
        .map(|name| {
            let bare = name.strip_prefix("led.").unwrap_or(&name).to_string();
            (bare, whole.shape(&name).unwrap().to_vec(), whole.f32(&name).unwrap())
        })
        .chain([("classification_head.dense.weight".to_string(), vec![2], vec![1.0, 2.0])])
        .collect();
    assert!(tensors.iter().all(|(name, ..)| !name.starts_with("led.")));
    let named: Vec<Named> = tensors
        .iter()
        .map(|(name, shape, values)| Named { name, shape, values: Values::F32(values) })
        .collect();
    fs::copy(model("led_no_global").join("config.json"), dir.path().join("config.json")).unwrap();
    write_file(&dir.path().join("model.safetensors"), &named).unwrap();
    let (one, other) = (out.path().join("one"), out.path().join("other"));
    let done = forward(dir.path(), &one, &[]);
    done.succeeds();
    assert!(done.err.contains("classification_head.dense.weight"), "{}", done.err);
    forward(&model("led_no_global"), &other, &[]).succeeds();
    assert!(fs::read(&one).unwrap() == fs::read(&other).unwrap());
    // The converted folder has the names of the whole model, and nothing else.
    let to = out.path().join("led");
    convert(dir.path(), &to, &[]).succeeds();
    let mut names = read_file(&to.join("model.safetensors")).unwrap().names();
    let mut expected = whole.names();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
    // Without a layer's tensor it is no model, whatever else is there.
    let left: Vec<Named> = named.iter().filter(|t| !t.name.ends_with("0.fc1.weight")).copied().collect();
    write_file(&dir.path().join("model.safetensors"), &left).unwrap();
    forward(dir.path(), &one, &[]).fails(65, &["missing", "0.fc1.weight", "classification_head"]);
    let wrapped: Vec<String> = whole.names().iter().map(|name| format!("module.{name}")).collect();
    let named: Vec<Named> = named.iter().zip(&wrapped).map(|(t, name)| Named { name, ..*t }).collect();
    write_file(&dir.path().join("model.safetensors"), &named).unwrap();
    forward(dir.path(), &one, &[]).fails(65, &["\"module.\"", "the model inside it"]);
}

/// A snapshot of `tiny-led` in the cache below `home/hub`, as `acme/led`.
fn cached_tiny_led(home: &Path, cache: &str) {
    let repository = home.join(cache).join("models--acme--led");
    let snapshot = repository.join("snapshots/0a1b2c");
    for folder in ["blobs", "refs/refs/pr", "snapshots/0a1b2c"] {
        fs::create_dir_all(repository.join(folder)).unwrap();
    }
    fs::write(repository.join("refs/main"), "0a1b2c").unwrap();
    fs::write(repository.join("refs/refs/pr/2"), "0a1b2c").unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led");
    for entry in fs::read_dir(tiny).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::copy(&path, repository.join("blobs").join(name)).unwrap();
        symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
    }
}

#[test]
fn the_caches_variables_are_expanded() {
    let home = tempfile::tempdir().unwrap();
    cached_tiny_led(home.path(), "hf/hub");
    for (key, value) in [
        ("HF_HOME", "~/hf"),
        ("HF_HOME", "$HOME/hf"),
        ("HF_HUB_CACHE", "${HOME}/hf/hub"),
        ("HUGGINGFACE_HUB_CACHE", "~/hf/hub"),
    ] {
        let mut line = command();
        for unset in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"] {
            line.env_remove(unset);
        }
        line.env("HOME", home.path()).env(key, value);
        ran(line.args(["plan", "--model", "acme/led", "--max-source-length", "64"])).succeeds();
    }
    // A snapshot with a part of its files says how to fetch the rest.
    fs::remove_file(home.path().join("hf/hub/models--acme--led/snapshots/0a1b2c/config.json")).unwrap();
    let mut line = command();
    line.env("HF_HUB_CACHE", home.path().join("hf/hub")).args(["plan", "--model", "acme/led"]);
    ran(&mut line).fails(66, &["hf download acme/led --revision 0a1b2c", "model.safetensors"]);
}

/// Every command that takes a model, with every kind of name.
#[test]
fn every_command_knows_every_kind_of_name() {
    let home = tempfile::tempdir().unwrap();
    cached_tiny_led(home.path(), "hub");
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led").display().to_string();
    let work = home.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("doc.txt"), "The committee met.").unwrap();
    let ids: Vec<i64> = (0..16).map(|i| if i == 0 { 0 } else { 5 + i }).collect();
    let inputs = [
        Named { name: "input_ids", shape: &[1, 16], values: Values::I64(&ids) },
        Named { name: "attention_mask", shape: &[1, 16], values: Values::I64(&[1; 16]) },
        Named { name: "decoder_input_ids", shape: &[1, 4], values: Values::I64(&ids[..4]) },
    ];
    write_file(&work.join("in.safetensors"), &inputs).unwrap();
    let shapes = "--max-source-length 64 --max-new-tokens 2";
    let commands = [
        "forward --model NAME --inputs in.safetensors --output OUT.safetensors".to_string(),
        format!("generate --model NAME --input doc.txt --output OUT.jsonl {shapes}"),
        format!("generate --model tiny-bigbird-pegasus --tokenizer NAME --input doc.txt --output OUT.jsonl {shapes}"),
        "generate --model NAME --inputs in.safetensors --output OUT.safetensors --max-new-tokens 2".to_string(),
        format!("evaluate --model NAME --dataset qmsum-slice --max-samples 1 {shapes}"),
        "finetune --model NAME --dataset qmsum-slice --output-dir OUT --max-source-length 64 --max-target-length 8 \
         --max-train-samples 2 --max-eval-samples 1 --max-steps 1 --no-predict"
            .to_string(),
        "plan --model NAME --max-source-length 64".to_string(),
        "bench step --model NAME --max-source-length 32 --max-target-length 8 --repeat 3".to_string(),
        "bench generate --model NAME --max-source-length 32 --max-new-tokens 2 --repeat 3".to_string(),
        "profile step --model NAME --max-source-length 64 --plan-only --gpu h200".to_string(),
        "profile generate --model NAME --max-source-length 32 --max-new-tokens 2 --plan-only --gpu h200".to_string(),
        format!("profile evaluate --model NAME --dataset qmsum-slice --max-samples 1 {shapes} --plan-only --gpu h200"),
        "convert --model NAME --output-dir OUT".to_string(),
        "data stats --dataset needle-qa --tokenizer NAME".to_string(),
        "data synth needle --length 128 --tokenizer NAME --train 1 --validation 1 --test 1 --to OUT".to_string(),
        "study --config study.toml --output-dir OUT --dry-run".to_string(),
    ];
    for (which, name) in ["acme/led", "acme/led@refs/pr/2", &tiny, "tiny-led"].into_iter().enumerate() {
        let study = format!("models = ['{name}']\ndatasets = ['needle-qa']\nmax_source_lengths = [64]\n");
        fs::write(work.join("study.toml"), study).unwrap();
        for (at, line) in commands.iter().enumerate() {
            let line = line.replace("NAME", name).replace("OUT", &format!("out-{which}-{at}"));
            let mut run = command();
            for key in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
                run.env_remove(key);
            }
            run.current_dir(&work).env("HF_HOME", home.path()).args(line.split_whitespace());
            let done = ran(&mut run);
            assert_eq!(done.code, Some(0), "{line}\n{}", done.err);
        }
    }
    for line in ["plan --model tiny-leds", "plan --model acme/none"] {
        let done =
            ran(command().current_dir(&work).env("HF_HOME", home.path()).args(line.split_whitespace()));
        done.fails(66, &["hf download"]);
        assert!(!done.err.contains("hf download tiny-led`"), "{}", done.err);
    }
}
