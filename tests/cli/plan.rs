//! `plan`: published model sizes, budgets that are kept, and steps of large models without their memory.

use super::{Ran, command, model, ran, wattention};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

const LED_LARGE: &str = r#"{"model_type": "led", "d_model": 1024, "vocab_size": 50265, "init_std": 0.02,
"encoder_layers": 12, "decoder_layers": 12, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096,
"encoder_attention_heads": 16, "decoder_attention_heads": 16, "attention_window": 1024,
"max_encoder_position_embeddings": 16384, "max_decoder_position_embeddings": 1024,
"dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0, "activation_function": "gelu",
"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}"#;

const BIGBIRD_LARGE: &str = r#"{"model_type": "bigbird_pegasus", "d_model": 1024, "vocab_size": 96103,
"encoder_layers": 16, "decoder_layers": 16, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096,
"encoder_attention_heads": 16, "decoder_attention_heads": 16, "attention_type": "block_sparse",
"block_size": 64, "num_random_blocks": 3, "max_position_embeddings": 4096, "scale_embedding": true,
"use_bias": false, "dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0,
"activation_function": "gelu_new", "init_std": 0.02,
"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 2}"#;

fn plan(config: &Path, flags: &str) -> Ran {
    ran(command().args(["plan", "--config"]).arg(config).args(flags.split_whitespace()))
}

fn tiny(flags: &str) -> Map<String, Value> {
    plan(&model("led_plain").join("config.json"), &format!("--json {flags}")).json()
}

fn number(report: &Map<String, Value>, path: &str) -> u64 {
    let mut at = &report[path.split('.').next().unwrap()];
    for key in path.split('.').skip(1) {
        at = &at[key];
    }
    at.as_u64().unwrap_or_else(|| panic!("{path} is {at}"))
}

#[test]
fn large_models_are_planned_without_their_memory() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.json");
    // Parameters as transformers counts them for these configurations.
    for (text, length, parameters) in [(LED_LARGE, 4096, 459_801_600), (BIGBIRD_LARGE, 4096, 576_891_904)] {
        fs::write(&config, text).unwrap();
        let flags = format!("--json --batch-size 64 --max-source-length {length}");
        let report = plan(&config, &flags).json();
        assert_eq!(number(&report, "parameters"), parameters);
        let weights = number(&report, "memory.weights");
        assert!(weights >= 4 * parameters && weights < 4 * parameters + (1 << 20));
        assert_eq!(number(&report, "memory.gradients"), weights);
        assert!(number(&report, "memory.optimizer") >= 2 * weights);
        let (arena, live) = (number(&report, "memory.arena"), number(&report, "memory.arena_live"));
        assert!(live <= arena && arena < 2 * live, "{live} live in {arena}");
        // 6 FLOPs per weight of a layer and token, and more for attention.
        let least = 6 * (parameters / 2) * 64 * length;
        assert!(number(&report, "work.flops") > least / 2, "{} FLOPs", number(&report, "work.flops"));
    }
}

#[test]
fn phases_add_up_to_the_step() {
    let report = tiny("--batch-size 2 --max-source-length 40 --max-target-length 7");
    let phases = report["phases"].as_array().unwrap();
    for key in ["launches", "flops", "bytes", "exponentials"] {
        let sum: u64 = phases.iter().map(|phase| phase[key].as_u64().unwrap()).sum();
        assert_eq!(sum, number(&report, &format!("work.{key}")), "{key}");
    }
    let passes: Vec<_> = phases.iter().map(|phase| phase["pass"].as_str().unwrap()).collect();
    assert!(passes.contains(&"forward") && passes.contains(&"backward"));
}

#[test]
fn each_mode_adds_to_the_one_before() {
    let modes = ["encoder", "forward", "forward-backward", "train"];
    let reports = modes.map(|mode| tiny(&format!("--mode {mode} --max-source-length 40")));
    for pair in reports.windows(2) {
        assert!(number(&pair[0], "work.flops") < number(&pair[1], "work.flops"));
    }
    assert_eq!(number(&reports[1], "memory.gradients"), 0);
    assert_eq!(number(&reports[1], "memory.optimizer"), 0);
    let table = plan(&model("led_plain").join("config.json"), "--max-source-length 40");
    table.succeeds();
    assert!(table.out.contains("encoder.attention"), "{}", table.out);
}

#[test]
fn the_largest_batch_fits_and_the_next_does_not() {
    let shapes = "--max-source-length 40 --max-target-length 7";
    let budget = 2 << 20;
    let report = tiny(&format!("{shapes} --fit {budget}"));
    let batch = number(&report, "fit.batch_size");
    assert!(batch > 1);
    assert_eq!(number(&report, "batch_size"), batch);
    assert_eq!(number(&report, "fit.next.batch_size"), batch + 1);
    for (batch, total) in [(batch, "fit.total"), (batch + 1, "fit.next.total")] {
        let alone = tiny(&format!("{shapes} --batch-size {batch}"));
        assert_eq!(number(&alone, "memory.total"), number(&report, total));
        assert_eq!(number(&alone, "memory.total") <= budget, total == "fit.total");
    }
}

#[test]
fn what_does_not_fit_or_does_not_exist_is_refused() {
    let config = model("led_plain").join("config.json");
    plan(&config, "--fit 10KiB").fails(75, &["a batch of 1 needs", "10.0 KiB"]);
    plan(&config, "--max-source-length 65").fails(2, &["--max-source-length 65", "64"]);
    plan(&config, "--batch-size 2000000000").fails(75, &["2000000000"]);
    plan(Path::new("nowhere/config.json"), "").fails(66, &["nowhere/config.json"]);
    for flags in ["--fit lots", "--mode backward", "--batch-size 0", "--fit 1GiB --batch-size 2"] {
        assert_eq!(plan(&config, flags).code, Some(2), "{flags}");
    }
    assert_eq!(ran(command().arg("plan")).code, Some(2));
}

/// The compute part of the prediction for many GPUs is the plan of one, and more of them are never more efficient.
#[test]
fn a_plan_for_many_gpus_rests_on_that_of_one() {
    let plan = |flags: &str| {
        let line = format!("plan --model tiny-led --precision bf16 --batch-size 2 --gpu h200 --json {flags}");
        wattention(&line).json()
    };
    let one = plan("");
    assert!(one.get("scale").is_none());
    for between in ["nvlink", "ib", "ethernet"] {
        let many = plan(&format!("--world-size 1024 --interconnect {between}"));
        assert_eq!(many["predicted"], one["predicted"]);
        let sizes = many["scale"]["sizes"].as_array().unwrap().clone();
        assert_eq!(sizes.len(), 11);
        assert_eq!(
            (&sizes[0]["least_step_s"], &sizes[0]["efficiency"]),
            (&one["predicted"]["least_s"], &1.0.into())
        );
        let of = |key: &str| sizes.iter().map(|size| size[key].as_f64().unwrap()).collect::<Vec<f64>>();
        assert!(of("efficiency").windows(2).all(|pair| pair[1] <= pair[0]), "{between}");
        let whole = one["predicted"]["least_s"].as_f64().unwrap();
        for (step, exposed) in of("least_step_s").into_iter().zip(of("exposed_s")) {
            assert!((step - whole - exposed).abs() <= 1e-12 * step);
        }
        assert!(many["scale"]["assumptions"].as_str().unwrap().contains("rings"));
    }
    wattention("plan --model tiny-led --communication-data-type bf16").fails(2, &["--world-size"]);
    wattention("plan --model tiny-led --world-size 8").fails(2, &["--gpu"]);
    let forward = "plan --model tiny-led --mode forward --gpu h200 --world-size 8";
    wattention(forward).fails(2, &["--mode train"]);
}

/// What GPUs exchange gradients in is exact in the plan; what NCCL takes is an estimate beside it, which a budget holds.
#[test]
fn memory_of_several_gpus_has_what_exchanges_take() {
    let of = |flags: &str| tiny(&format!("--gpu h200 {flags}"));
    let (one, eight) = (of(""), of("--world-size 8"));
    let in_bf16 = of("--world-size 8 --communication-data-type bf16");
    let copy = number(&in_bf16, "memory.communication");
    // Two bytes for each of the gradients' four.
    assert_eq!(2 * copy, number(&in_bf16, "memory.gradients"));
    assert_eq!(number(&in_bf16, "memory.total"), number(&one, "memory.total") + copy);
    assert_eq!(
        (number(&eight, "memory.communication"), &eight["memory"]["total"]),
        (0, &one["memory"]["total"])
    );
    assert!(one["memory"].get("nccl_estimate").is_none());
    let nccl = number(&eight, "memory.nccl_estimate");
    assert_eq!(nccl, 1 << 30);
    assert_eq!(in_bf16["scale"]["communication_data_type"], "bf16");
    let assumed = in_bf16["scale"]["assumptions"].as_str().unwrap();
    assert!(assumed.contains("Gradients in bf16") && assumed.contains("8 MiB"), "{assumed}");

    // With a budget that holds so much more, the batch is that of one GPU.
    let fit = |flags: &str, budget: u64| number(&of(&format!("{flags} --fit {budget}")), "fit.batch_size");
    let budget = 64 << 20;
    assert_eq!(fit("", budget), fit("--world-size 8", budget + nccl));
    let more = "--world-size 8 --communication-data-type bf16";
    assert_eq!(fit("", budget), fit(more, budget + nccl + copy));
    plan(&model("led_plain").join("config.json"), &format!("--gpu h200 --world-size 8 --fit {budget}"))
        .fails(75, &["a batch of 1 needs"]);

    let mut limited = command();
    limited.args(["plan", "--json", "--gpu", "h200", "--world-size", "2", "--config"]);
    limited.arg(model("led_plain").join("config.json")).env("NCCL_MAX_NCHANNELS", "4");
    assert_eq!(number(&ran(&mut limited).json(), "memory.nccl_estimate"), (4 * 12 + 256) << 20);
    let text = plan(&model("led_plain").join("config.json"), &format!("--gpu h200 {more}"));
    assert!(text.succeeds().out.contains("NCCL takes about 1.00 GiB more, an estimate"), "{}", text.out);
    assert!(text.out.contains("communication "), "{}", text.out);
}
