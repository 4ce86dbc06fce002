//! Every kind of folder that commands write, of every family, loaded by transformers: the same tensors to the bit, the
//! same logits, sequences under the folder's own settings, and ids.

use super::interop::{self, Saved};
use super::{command, configure, model, ran};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use wattention::device::Device;
use wattention::models;
use wattention::text::Tokenizer;
use wattention::weights::{Named, Values, read_file, write_file};

/// (model_type, keys of config.json that others do not have, the folder of its tokenizer, the tokenizer's files).
type Form = (&'static str, &'static str, &'static str, &'static [&'static str]);

const WHOLE: &[&str] = &["tokenizer.json", "tokenizer_config.json"];

const FORMS: [Form; 5] = [
    (
        "led",
        r#""attention_window": [16], "max_encoder_position_embeddings": 128, "max_decoder_position_embeddings": 64"#,
        "weights/tiny-led",
        WHOLE,
    ),
    (
        "bigbird_pegasus",
        r#""block_size": 8, "num_random_blocks": 1, "max_position_embeddings": 128, "pad_token_id": 0,
            "bos_token_id": 2, "eos_token_id": 1"#,
        "weights/tiny-bigbird-pegasus",
        WHOLE,
    ),
    ("bart", r#""max_position_embeddings": 128"#, "weights/tiny-led", WHOLE),
    (
        "pegasus",
        r#""max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
            "decoder_start_token_id": 0"#,
        "tests/goldens/hub_tokenizers/pegasus",
        &["spiece.model", "tokenizer_config.json"],
    ),
    ("mbart", r#""max_position_embeddings": 128"#, "weights/tiny-bigbird-pegasus", WHOLE),
];

const GENERATION: &str = r#"{"num_beams": 3, "max_new_tokens": 9, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3,
    "decoder_start_token_id": 2, "eos_token_id": [1, 2], "pad_token_id": 1, "bos_token_id": 0}"#;

const TEXTS: [&str; 5] = [
    "",
    "The committee met on Tuesday.",
    "  two  spaces\n\nand lines ",
    "caf\u{e9} \u{1f600}",
    "a <mask> b</s>",
];

/// A model of the form with weights that are drawn, and all that a folder of the hub has.
fn base(root: &Path, (model_type, keys, tokenizer, files): Form) -> PathBuf {
    let dir = root.join(format!("{model_type}-base"));
    fs::create_dir(&dir).unwrap();
    let config = format!(
        r#"{{"model_type": "{model_type}", "d_model": 16, "vocab_size": 2048, "init_std": 0.6, {keys},
            "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
            "encoder_attention_heads": 2, "decoder_attention_heads": 2, "dropout": 0.1,
            "torch_dtype": "float16", "transformers_version": "4.2.0"}}"#
    );
    let path = root.join("config.json");
    fs::write(&path, config).unwrap();
    models::random(&path, &Device::cpu(), Default::default(), 3).unwrap().save(&dir).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join(tokenizer);
    for file in files {
        fs::copy(tokenizer.join(file), dir.join(file)).unwrap();
    }
    fs::write(dir.join("generation_config.json"), GENERATION).unwrap();
    // As its config said before; what is saved of it must say float32.
    configure(&dir, "dtype", "\"float16\"");
    dir
}

/// A batch of unequal lengths; of a LED, with global tokens.
fn batch(root: &Path, is_led: bool) -> PathBuf {
    let path = root.join(format!("batch-{is_led}.safetensors"));
    let (rows, source, target) = (2, 72, 6);
    let ids: Vec<i64> = (0..rows * source).map(|at| (5 + at * 37 % 400) as i64).collect();
    let mask: Vec<i64> = (0..rows * source).map(|at| (at < source + 50) as i64).collect();
    let global: Vec<i64> = (0..rows * source).map(|at| (at % source % 20 == 0) as i64).collect();
    let labels: Vec<i64> = (0..rows * target).map(|at| (9 + at * 11 % 200) as i64).collect();
    let [source, target] = [[rows, source], [rows, target]];
    let mut tensors = vec![
        Named { name: "input_ids", shape: &source, values: Values::I64(&ids) },
        Named { name: "attention_mask", shape: &source, values: Values::I64(&mask) },
        Named { name: "labels", shape: &target, values: Values::I64(&labels) },
    ];
    if is_led {
        tensors.push(Named { name: "global_attention_mask", shape: &source, values: Values::I64(&global) });
    }
    write_file(&path, &tensors).unwrap();
    path
}

/// What is computed from the model here: logits, sequences, and ids where it has a tokenizer.
fn computed(root: &Path, model: &Path, inputs: PathBuf) -> Saved {
    let name = model.strip_prefix(root).unwrap().to_string_lossy().replace('/', "-");
    let at = |what: &str| root.join(format!("{name}.{what}"));
    let run = |command_name: &str, output: &Path| {
        let mut line = command();
        line.args([command_name, "--device", "cpu", "--model"]).arg(model).arg("--inputs").arg(&inputs);
        ran(line.arg("--output").arg(output)).succeeds();
        read_file(output).unwrap()
    };
    let logits = run("forward", &at("logits"));
    let sequences = run("generate", &at("sequences"));
    let expected = at("safetensors");
    let (values, ids) = (logits.f32("logits").unwrap(), sequences.i64("sequences").unwrap());
    let tensors = [
        Named { name: "logits", shape: logits.shape("logits").unwrap(), values: Values::F32(&values) },
        Named { name: "sequences", shape: sequences.shape("sequences").unwrap(), values: Values::I64(&ids) },
    ];
    write_file(&expected, &tensors).unwrap();
    let texts = Tokenizer::load(model).ok().map(|tokenizer| {
        let pairs = TEXTS.map(|text| json!([text, tokenizer.encode(text, usize::MAX).unwrap()]));
        fs::write(at("texts"), json!(pairs).to_string()).unwrap();
        at("texts")
    });
    Saved { model: model.to_path_buf(), batch: Some([inputs, expected]), texts }
}

fn converted(from: &Path, to: &Path, flags: &str) -> PathBuf {
    let mut line = command();
    line.arg("convert").arg("--model").arg(from).arg("--output-dir").arg(to);
    ran(line.args(flags.split_whitespace())).succeeds();
    to.to_path_buf()
}

/// Runs one step of fine-tuning; the saved model and the checkpoint.
fn tuned(from: &Path, run: &Path, data: &Path) -> [PathBuf; 2] {
    let flags =
        "--max-source-length 72 --max-target-length 8 --max-steps 1 --save-steps 1 --learning-rate 1e-2";
    let mut line = command();
    line.args(["finetune", "--device", "cpu", "--model"]).arg(from).arg("--dataset").arg(data);
    ran(line.arg("--output-dir").arg(run).args(flags.split_whitespace())).succeeds();
    ["model", "checkpoint-1"].map(|folder| run.join(folder))
}

fn documents(root: &Path) -> PathBuf {
    let data = root.join("documents");
    fs::create_dir(&data).unwrap();
    let line =
        r#"{"input": "The committee met on Tuesday to talk about the budget.", "output": "The budget."}"#;
    for split in ["train", "validation"] {
        fs::write(data.join(format!("{split}.jsonl")), format!("{line}\n{line}\n")).unwrap();
    }
    data
}

#[test]
fn transformers_takes_every_folder_that_is_written() {
    let Some(python) = interop::python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let (led_batch, batch) = (batch(root, true), batch(root, false));
    let data = documents(root);
    let mut saved = Vec::new();
    let mut bases = Vec::new();
    for form in FORMS {
        let base = base(root, form);
        let batch = if form.0 == "led" { &led_batch } else { &batch };
        let at = |name: &str| root.join(format!("{}-{name}", form.0));
        let mut folders = Vec::from(tuned(&base, &at("run"), &data));
        folders.push(converted(&base, &at("converted"), "--dtype fp32"));
        folders.push(converted(&base, &at("bf16"), "--dtype bf16"));
        folders.push(converted(&base, &at("fp16"), "--dtype fp16"));
        saved.extend(folders.iter().map(|folder| computed(root, folder, batch.clone())));
        bases.push(base);
    }
    let led =
        converted(&bases[2], &root.join("bart-to-led"), "--to led --max-positions 150 --attention-window 16");
    saved.push(computed(root, &led, led_batch.clone()));

    // What `LEDModel.save_pretrained` writes, and PyTorch's file.
    let bare = root.join("led-bare");
    fs::create_dir(&bare).unwrap();
    for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(bases[0].join(name), bare.join(name)).unwrap();
    }
    let whole = read_file(&bases[0].join("model.safetensors")).unwrap();
    let names = whole.names();
    let values: Vec<Vec<f32>> = names.iter().map(|name| whole.f32(name).unwrap()).collect();
    let tensors: Vec<Named> = names
        .iter()
        .zip(&values)
        .map(|(name, values)| Named {
            name: name.strip_prefix("led.").unwrap_or(name),
            shape: whole.shape(name).unwrap(),
            values: Values::F32(values),
        })
        .collect();
    write_file(&bare.join("model.safetensors"), &tensors).unwrap();
    let led = converted(&bare, &root.join("led-of-bare"), "--dtype fp32");
    saved.push(computed(root, &led, led_batch.clone()));
    let run = tuned(&bare, &root.join("led-bare-run"), &data);
    saved.push(computed(root, &run[0], led_batch.clone()));
    let torch = root.join("torch");
    fs::create_dir(&torch).unwrap();
    let golden = model("torch/led/pytorch_model.bin");
    fs::copy(golden, torch.join("pytorch_model.bin")).unwrap();
    fs::copy(model("led_no_global").join("config.json"), torch.join("config.json")).unwrap();
    let led = converted(&torch, &root.join("led-of-torch"), "");
    saved.push(Saved { model: led, ..Saved::default() });

    let study = root.join("study.toml");
    let models: Vec<Value> = bases[..2].iter().map(|base| json!(base)).collect();
    let text = format!(
        "models = {}\ndatasets = [{:?}]\nmax_source_lengths = [72]\nkeep_models = true\nmax_new_tokens = 8\n\
         attention_windows = [8]\n[train]\nmax_steps = 1\nmax_target_length = 8\n",
        json!(models),
        data.display().to_string(),
    );
    fs::write(&study, text).unwrap();
    let mut line = command();
    line.args(["study", "--device", "cpu", "--config"]).arg(&study);
    ran(line.arg("--output-dir").arg(root.join("study"))).succeeds();
    let cells: Vec<PathBuf> =
        fs::read_dir(root.join("study/cells")).unwrap().map(|cell| cell.unwrap().path()).collect();
    assert_eq!(cells.len(), 2);
    for cell in cells {
        let is_led = cell.to_string_lossy().contains("led-base");
        let batch = if is_led { &led_batch } else { &batch };
        saved.push(computed(root, &cell.join("model"), batch.clone()));
    }
    interop::check(&python, &saved);
}
