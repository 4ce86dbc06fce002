//! The JSON of arguments that HF's `run_summarization.py` and the SCROLLS baselines take, in the flags of `finetune`.
//!
//! An argument is the same flag here, or has a counterpart, or changes nothing about what is computed, or is refused
//! with what to do instead.

use serde_json::{Map, Value, json};
use std::path::Path;

/// What becomes of an argument: flags with their values, or why it cannot be taken.
pub(super) type Translated = Result<Vec<(String, Value)>, String>;

/// Arguments about logging, workers, devices and the hub, which change nothing about what is computed here.
const HARMLESS: &[&str] = &[
    "average_tokens_across_devices",
    "dataloader_in_order",
    "dataloader_multiprocessing_context",
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "ddp_backend",
    "ddp_broadcast_buffers",
    "ddp_bucket_cap_mb",
    "ddp_find_unused_parameters",
    "ddp_static_graph",
    "ddp_timeout",
    "debug",
    "disable_tqdm",
    "eval_accumulation_steps",
    "eval_do_concat_batches",
    "eval_use_gather_object",
    "batch_eval_metrics",
    "full_determinism",
    "include_for_metrics",
    "include_inputs_for_metrics",
    "include_num_input_tokens_seen",
    "include_tokens_per_second",
    "length_column_name",
    "local_rank",
    "log_level",
    "log_level_replica",
    "log_on_each_node",
    "logging_first_step",
    "logging_nan_inf_filter",
    "logging_steps",
    "logging_strategy",
    "max_predict_samples",
    "metric_names",
    "overwrite_hub",
    "pad_to_max_length",
    "preprocessing_num_workers",
    "project",
    "remove_unused_columns",
    "run_name",
    "save_on_each_node",
    "save_safetensors",
    "skip_memory_metrics",
    "tokenizer_fast",
    "torch_compile",
    "torch_compile_backend",
    "torch_compile_mode",
    "torch_empty_cache_steps",
    "use_auth_token",
    "use_cache",
    "use_fast_tokenizer",
    "use_liger_kernel",
    "token",
    "trust_remote_code",
    "enable_jit_checkpoint",
    "restore_callback_states_from_checkpoint",
    "fp16_opt_level",
    "fp16_backend",
    "half_precision_backend",
    "use_legacy_prediction_loop",
    "past_index",
    "tpu_num_cores",
    "tpu_metrics_debug",
    "xpu_backend",
    "use_ipex",
    "use_mps_device",
    "ray_scope",
    "accelerator_config",
    "dispatch_batches",
    "split_batches",
    "mp_parameters",
    "parallelism_config",
    "torchdynamo",
];

/// Arguments that are taken only where they ask for nothing: absent, false, empty or 0.
const REFUSED: &[(&str, &str)] = &[
    ("adafactor", "the optimizers are adamw and adamw_hf; leave it out"),
    ("auto_find_batch_size", "write \"per_device_train_batch_size\": \"auto\" instead"),
    ("bf16_full_eval", "evaluation has the format of training; write \"bf16\": true instead"),
    ("data_seed", "the order of the data comes from seed; leave it out"),
    ("dataloader_drop_last", "the last batch of an epoch is a step, too; leave it out"),
    ("dataset_config_name", "name the dataset's folder or zip as dataset"),
    ("deepspeed", "a run has one device; leave it out"),
    ("eval_delay", "evaluations begin at the first multiple of eval_steps; leave it out"),
    ("eval_on_start", "evaluations begin at the first multiple of eval_steps; leave it out"),
    ("fp16", "it needs its loss scaled, which is not done here; write \"bf16\": true instead"),
    ("fp16_full_eval", "evaluation has the format of training; write \"bf16\": true instead"),
    ("fsdp", "a run has one device; leave it out"),
    ("generation_config", "the model's own generation_config.json is read, and flags win over it"),
    ("gradient_checkpointing_kwargs", "write recompute instead: attention-ffn or layer"),
    ("ignore_data_skip", "a resumed run reads the data where it was; leave it out"),
    ("jit_mode_eval", "there is no TorchScript here; leave it out"),
    ("label_names", "the labels are the dataset's outputs; leave it out"),
    ("lang", "the models here have no languages; leave it out"),
    ("forced_bos_token", "write forced_bos_token_id, a number, instead"),
    ("lr_scheduler_kwargs", "the schedules have no more settings; leave it out"),
    ("model_revision", "write the model as ORG/NAME@REVISION instead"),
    ("neftune_noise_alpha", "no noise is added to embeddings here; leave it out"),
    ("optim_args", "write adam_beta1, adam_beta2 and adam_epsilon instead"),
    ("optim_target_modules", "all parameters are trained; leave it out"),
    ("prediction_loss_only", "write \"predict_with_generate\": false instead"),
    ("push_to_hub", "nothing is sent anywhere; leave it out, and upload RUN/model"),
    ("resize_position_embeddings", "inputs are cut to the model's positions; leave it out"),
    ("save_only_model", "a checkpoint has all that resuming needs; leave it out"),
    ("sortish_sampler", "write \"group_by_length\": true instead"),
    ("source_prefix", "inputs are taken as they are; write it into the dataset"),
    ("test_file", "predict it with `wattention evaluate --split test`"),
    ("train_file", FILES),
    ("validation_file", FILES),
];

const FILES: &str =
    "a dataset is a folder with train.jsonl and validation.jsonl (or .json, .csv); name it as dataset";

/// Translates all `given` arguments, each under its own name; `is_flag` says which names are flags.
pub(super) fn translate(
    given: &Map<String, Value>,
    is_flag: impl Fn(&str) -> bool,
) -> Vec<(String, Translated)> {
    given.iter().map(|(key, value)| (key.clone(), one(key, value, given, &is_flag))).collect()
}

fn one(key: &str, value: &Value, all: &Map<String, Value>, is_flag: &dyn Fn(&str) -> bool) -> Translated {
    let set = |flag: &str, value: Value| Ok(vec![(flag.to_string(), value)]);
    let nothing = || Ok(Vec::new());
    let text = value.as_str().unwrap_or_default();
    let is = |key: &str| all.get(key).is_some_and(|value| value == &Value::Bool(true));
    let translated = match (key, value) {
        ("gradient_checkpointing", Value::Bool(true)) => set("recompute", "layer".into()),
        ("bf16", Value::Bool(true)) => set("precision", "bf16".into()),
        // With bf16 it is about the few products that are not bf16.
        ("tf32", Value::Bool(true)) if is("bf16") => nothing(),
        ("tf32", Value::Bool(true)) => set("precision", "tf32".into()),
        ("use_cpu" | "no_cuda", Value::Bool(true)) => set("device", "cpu".into()),
        ("predict_with_generate", Value::Bool(wanted)) => set("no_predict", (!wanted).into()),
        ("do_train", Value::Bool(false)) => Err("finetune trains; score a model with `evaluate`".into()),
        ("do_eval", Value::Bool(false)) => set("no_predict", true.into()),
        ("do_predict", Value::Bool(true)) => {
            Err("predict the test split with `wattention evaluate --split test`".into())
        }
        ("eval_strategy" | "evaluation_strategy", _) => match text {
            "no" => set("eval_steps", 0.into()),
            // HF's own default.
            "steps" if !all.contains_key("eval_steps") => {
                set("eval_steps", all.get("logging_steps").cloned().unwrap_or(json!(500)))
            }
            "steps" => nothing(),
            _ => Err("evaluations come by steps; write \"steps\" and eval_steps".into()),
        },
        // Without a strategy, or by "no", HF leaves it unused.
        ("eval_steps", _) if strategy(all) == Some("no") => nothing(),
        ("save_strategy", _) => match text {
            "no" => set("save_steps", 0.into()),
            "steps" => nothing(),
            "best" => {
                Ok(vec![("save_steps".into(), 0.into()), ("load_best_model_at_end".into(), true.into())])
            }
            _ => Err("checkpoints come by steps; write \"steps\" and save_steps".into()),
        },
        ("save_steps", _) if ["no", "best"].iter().any(|no| all.get("save_strategy") == Some(&json!(no))) => {
            nothing()
        }
        ("train_sampling_strategy", _) => match text {
            "random" => nothing(),
            "group_by_length" => set("group_by_length", true.into()),
            _ => Err("the orders are random and group_by_length".into()),
        },
        ("max_steps", _) if value.as_i64().is_some_and(|steps| steps < 0) => nothing(),
        ("generation_max_length", _) if value.is_u64() => new_tokens(value),
        ("val_max_target_length", _) if value.is_u64() => {
            let trained = all.get("max_target_length").cloned().unwrap_or(json!(128));
            match (trained == *value, all.get("generation_max_length").is_some_and(Value::is_u64)) {
                (true, true) => nothing(),
                (true, false) => new_tokens(value),
                (false, _) => Err("references are cut to one length: max_target_length".into()),
            }
        }
        ("generation_num_beams", _) if value.is_u64() && !all.contains_key("num_beams") => {
            set("num_beams", value.clone())
        }
        ("generation_num_beams", _) => nothing(),
        ("metric_for_best_model", _) if text.contains('/') => {
            set(key, text.rsplit('/').next().unwrap_or(text).into())
        }
        ("report_to", Value::Array(names)) => match names.as_slice() {
            [] => nothing(),
            [Value::String(name)] => set(key, name.as_str().into()),
            _ => Err("write none or tensorboard".into()),
        },
        ("dataset_name", Value::String(name)) if name == "tau/scrolls" => {
            match all.get("dataset_config_name").and_then(Value::as_str) {
                Some(config) => set("dataset", config.into()),
                None => Err("name one of its datasets as dataset_config_name".into()),
            }
        }
        ("dataset_config_name", _) if all.get("dataset_name") == Some(&json!("tau/scrolls")) => nothing(),
        ("train_file" | "validation_file", _) if folder(all).is_some() => match key {
            "train_file" => set("dataset", folder(all).unwrap_or_default().into()),
            _ => nothing(),
        },
        ("ignore_pad_token_for_loss", Value::Bool(false)) => {
            Err("padding never counts in the loss; leave it out".into())
        }
        ("drop_duplicates_in_eval", Value::Bool(false)) => {
            Err("write \"protocol\": \"paper\" to score every reference by itself".into())
        }
        _ if is_flag(key) => set(key, value.clone()),
        _ if HARMLESS.contains(&key) || COUNTERPARTS.contains(&key) => nothing(),
        // `push_to_hub` itself is refused.
        _ if key.starts_with("hub_") || key.starts_with("push_to_hub_") => nothing(),
        _ if is_off(value) && is_hf(key) => nothing(),
        _ => match REFUSED.iter().find(|(name, _)| *name == key) {
            Some((_, what)) => Err(what.to_string()),
            // The reader of settings says what was probably meant.
            None => set(key, value.clone()),
        },
    };
    translated.map_err(|what| format!("`{key}` is {value}: {what}"))
}

/// Arguments that have a counterpart for other values than those that ask for nothing.
const COUNTERPARTS: &[&str] = &[
    "bf16",
    "do_eval",
    "do_predict",
    "do_train",
    "drop_duplicates_in_eval",
    "generation_max_length",
    "gradient_checkpointing",
    "ignore_pad_token_for_loss",
    "no_cuda",
    "predict_with_generate",
    "tf32",
    "use_cpu",
    "val_max_target_length",
];

/// Arguments of the trainer that ask for nothing unless they are set.
fn is_hf(key: &str) -> bool {
    REFUSED.iter().any(|(name, _)| *name == key) || key.starts_with("fsdp")
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || text == "main",
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    }
}

fn strategy(all: &Map<String, Value>) -> Option<&str> {
    ["eval_strategy", "evaluation_strategy"].iter().find_map(|key| all.get(*key)?.as_str())
}

/// HF counts the start token.
fn new_tokens(length: &Value) -> Translated {
    match length.as_u64() {
        Some(length) if length > 1 => Ok(vec![("max_new_tokens".into(), (length - 1).into())]),
        _ => Err("it must be at least 2, for the start token counts".into()),
    }
}

/// The folder of the files of both splits, where they are named so and written alike.
fn folder(all: &Map<String, Value>) -> Option<String> {
    let file = |key: &str| all.get(key).and_then(Value::as_str).map(Path::new);
    let (train, validation) = (file("train_file")?, file("validation_file")?);
    let form = train.extension()?.to_str()?;
    let named = train.file_stem()? == "train"
        && ["validation", "valid", "val", "dev"]
            .iter()
            .any(|name| validation.file_stem().is_some_and(|stem| stem == *name))
        && ["jsonl", "json", "csv"].contains(&form)
        && validation.extension()? == form;
    let folder = train.parent()?;
    let folder = if folder == Path::new("") { Path::new(".") } else { folder };
    (named && train.parent() == validation.parent()).then(|| folder.to_string_lossy().into_owned())
}
