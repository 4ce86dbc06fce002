//! Where a run's settings come from: flags, a file, a recipe, defaults, in this order.

use super::finetune::{finetune, tiny_led};
use super::{Ran, command, ran};
use std::fs;
use std::path::{Path, PathBuf};

/// A file of settings in a folder of its own.
fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn printed(flags: &str, config: Option<&Path>) -> Ran {
    let mut command = command();
    command.arg("finetune").arg("--print-config").args(flags.split_whitespace());
    if let Some(path) = config {
        command.arg("--config").arg(path);
    }
    ran(&mut command)
}

/// (value, origin) of a printed key.
fn row(text: &str, key: &str) -> (String, String) {
    let found = text.lines().find(|line| line.split(" = ").next() == Some(key));
    let line = found.unwrap_or_else(|| panic!("no {key} in\n{text}"));
    let (value, origin) = line.split_once(" = ").unwrap().1.rsplit_once("  # ").unwrap();
    (value.trim().to_string(), origin.to_string())
}

#[test]
fn each_layer_wins_over_those_below() {
    let text = "recipe = 'paper'\nweight-decay = 0.5\nadam_beta1 = 0.7\noverwrite_output_dir = true\n";
    let (_dir, path) = file("run.toml", text);
    let done = printed("--adam_beta1 0.6", Some(&path));
    done.succeeds();
    let place = |line: usize| format!("{}:{line}", path.display());
    for (key, value, origin) in [
        ("adam_beta1", "0.6", "flag".to_string()),
        ("weight_decay", "0.5", place(2)),
        ("overwrite_output_dir", "true", place(4)),
        ("learning_rate", "2e-5", "recipe paper".into()),
        ("global_batch_size", "24", "recipe paper".into()),
        ("random_blocks", "\"drawn\"", "recipe paper".into()),
        ("optim", "\"adamw_hf\"", "recipe paper".into()),
        ("max_grad_norm", "1.0", "default".into()),
    ] {
        assert_eq!(row(&done.out, key), (value.to_string(), origin), "{key}");
    }
}

#[test]
fn keys_that_exclude_each_other_are_refused_by_their_names_and_the_files_line() {
    for (text, first, both) in [
        ("no_cache = true\ncache_dir = 'c'\n", "`no_cache`", "`cache_dir`"),
        ("resume = 'auto'\noverwrite-output-dir = true\n", "`resume`", "`overwrite_output_dir`"),
    ] {
        let (_dir, path) = file("run.toml", text);
        printed("", Some(&path)).fails(65, &[&format!("{}:", path.display()), first, both]);
    }
}

#[test]
fn what_is_printed_reads_back_to_the_same() {
    let values = |text: &str| -> toml::Table { text.parse().unwrap() };
    for flags in [
        "",
        "--recipe scrolls --dataset d/qasper.zip --max-source-length 4096",
        "--recipe paper --batch-size auto --memory 48GiB --label_smoothing_factor=.5 --seed 7",
        "--warmup_steps 20 --max-steps 9 --model 007 --output-dir 12 --no-predict --precision bf16",
    ] {
        let first = printed(flags, None);
        first.succeeds();
        let (_dir, path) = file("again.toml", &first.out);
        let second = printed("", Some(&path));
        second.succeeds();
        assert_eq!(values(&first.out), values(&second.out), "{flags}");
    }
}

#[test]
fn an_alternative_replaces_what_lower_layers_say() {
    let (_dir, path) = file("run.toml", "warmup_steps = 50\nmax_steps = 7\n");
    let done = printed("--warmup-ratio 0.3 --recipe paper --gradient-accumulation-steps 3", Some(&path));
    assert_eq!(row(&done.out, "warmup_ratio").0, "0.3");
    assert_eq!(row(&done.out, "max_steps").0, "7");
    assert_eq!(row(&done.out, "gradient_accumulation_steps").0, "3");
    for gone in ["warmup_steps = 50", "num_train_epochs", "global_batch_size"] {
        assert!(!done.out.contains(gone), "{gone} in\n{}", done.out);
    }
}

#[test]
fn a_global_flag_wins_wherever_it_stands() {
    let (_dir, path) = file("run.toml", "seed = 1\nprecision = \"bf16\"\n");
    let mut command = command();
    command.args(["--seed", "5", "finetune", "--print-config", "--config"]).arg(&path);
    let done = ran(&mut command);
    assert_eq!(row(&done.out, "seed"), ("5".into(), "flag".into()));
    assert_eq!(row(&done.out, "precision").0, "\"bf16\"");
}

#[test]
fn json_of_hf_scripts_is_read() {
    let text = "{\n\"model_name_or_path\": \"m\",\n\"label_smoothing_factor\": 0.1,\n\"max_train_samples\": null,\n\
                \"overwrite_output_dir\": true, \"per_device_train_batch_size\": 3}";
    let (_dir, path) = file("run.json", text);
    let done = printed("", Some(&path));
    done.succeeds();
    assert_eq!(row(&done.out, "model"), ("\"m\"".into(), format!("{}:2", path.display())));
    assert_eq!(row(&done.out, "label_smoothing").0, "0.1");
    assert_eq!(row(&done.out, "per_device_train_batch_size").0, "3");
    assert_eq!(row(&done.out, "overwrite_output_dir").0, "true");
}

#[test]
fn arguments_of_hf_become_flags_or_change_nothing() {
    let text = r#"{
        "model_name_or_path": "m", "dataset_name": "tau/scrolls", "dataset_config_name": "qmsum",
        "do_train": true, "do_eval": true, "predict_with_generate": true,
        "evaluation_strategy": "steps", "logging_steps": 250, "save_strategy": "no", "save_steps": 10,
        "gradient_checkpointing": true, "bf16": true, "tf32": true, "fp16": false, "max_steps": -1,
        "metric_for_best_model": "rouge/geometric_mean", "generation_max_length": 65, "val_max_target_length": 128,
        "train_sampling_strategy": "group_by_length", "report_to": ["tensorboard"], "deepspeed": null,
        "push_to_hub": false, "dataloader_num_workers": 4, "source_prefix": "", "use_fast_tokenizer": true
    }"#;
    let (_dir, path) = file("hf.json", text);
    let done = printed("", Some(&path));
    done.succeeds();
    for (key, value) in [
        ("dataset", "\"qmsum\""),
        ("no_predict", "false"),
        ("eval_steps", "250"),
        ("save_steps", "0"),
        ("recompute", "\"layer\""),
        ("precision", "\"bf16\""),
        ("max_steps", "0"),
        ("metric_for_best_model", "\"geometric_mean\""),
        // HF counts the start token.
        ("max_new_tokens", "64"),
        ("group_by_length", "true"),
        ("report_to", "\"tensorboard\""),
    ] {
        assert_eq!(row(&done.out, key).0, value, "{key}");
    }
    // Two arguments that ask for one switch, and files in one folder.
    let text = r#"{"do_eval": false, "predict_with_generate": true, "eval_strategy": "no", "eval_steps": 5,
        "train_file": "data/train.jsonl", "validation_file": "data/validation.jsonl"}"#;
    let (_dir, path) = file("hf.json", text);
    let done = printed("", Some(&path));
    done.succeeds();
    for (key, value) in [("no_predict", "true"), ("eval_steps", "0"), ("dataset", "\"data\"")] {
        assert_eq!(row(&done.out, key).0, value, "{key}");
    }
    // Of other versions, of other machines and of the hub.
    let text = r#"{"fp16_opt_level": "O1", "use_legacy_prediction_loop": false, "hub_token": "x", "hub_model_id": "me/led",
        "push_to_hub_model_id": "led", "tpu_num_cores": null, "ray_scope": "last", "enable_jit_checkpoint": false}"#;
    let (_dir, path) = file("hf.json", text);
    printed("", Some(&path)).succeeds();
    let text = r#"{"train_file": "x/train.csv", "validation_file": "x/dev.csv", "text_column": "article"}"#;
    let (_dir, path) = file("hf.json", text);
    let done = printed("", Some(&path));
    for (key, value) in [("dataset", "\"x\""), ("text_column", "\"article\"")] {
        assert_eq!(row(&done.succeeds().out, key).0, value, "{key}");
    }
}

#[test]
fn all_that_cannot_be_taken_is_in_one_error_with_what_to_do() {
    let text = "{\n\"fp16\": true,\n\"eval_strategy\": \"epoch\",\n\"source_prefix\": \"summarize: \",\n\
        \"lerning_rate\": 1,\n\"learning_rate\": \"fast\",\n\"train_file\": \"a.csv\",\n\"do_predict\": true\n}";
    let (_dir, path) = file("hf.json", text);
    let refused = printed("", Some(&path));
    let at = |line: usize, part: &str| format!("hf.json:{line}: {part}");
    let parts = [
        at(2, "`fp16`"),
        at(3, "`eval_strategy`"),
        at(4, "`source_prefix`"),
        at(5, "there is no setting `lerning_rate`; did you mean `learning_rate`?"),
        at(6, ""),
        at(7, "`train_file`"),
        at(8, "`do_predict`"),
    ];
    for part in ["\"bf16\": true", "eval_steps", "evaluate --split test", "7 of its settings"] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    refused.fails(65, &parts.each_ref().map(String::as_str));
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    for (text, parts) in [
        (
            "seed = 1\nlerning_rate = 1e-3\n",
            &["run.toml:2", "`lerning_rate`", "did you mean `learning_rate`?"][..],
        ),
        ("zzz = 1\n", &["run.toml:1", "`zzz`", "--print-config"]),
        ("\n\nlearning_rate = 'fast'\n", &["run.toml:3", "fast"]),
        ("optim = 'sgd'\n", &["run.toml:1", "'sgd' for `optim`", "adamw_hf"]),
        ("seed = 1\nseed = 2\n", &["run.toml:2", "duplicate"]),
        ("no_predict = 3\n", &["run.toml:1", "true or false"]),
        ("learning_rate = [1, 2]\n", &["run.toml:1", "list or a table"]),
        ("[train]\nlearning_rate = 1\n", &["run.toml:1", "`train`"]),
        ("config = 'x'\n", &["run.toml:1", "as a flag"]),
        ("learning_rate = \n", &["run.toml:1"]),
    ] {
        let (_dir, path) = file("run.toml", text);
        printed("", Some(&path)).fails(65, parts);
    }
    let (_dir, path) = file("run.json", "{\n\"seed\": 1,\n}");
    printed("", Some(&path)).fails(65, &["run.json:3"]);
    printed("", Some(Path::new("no-such.toml"))).fails(66, &["no-such.toml"]);
}

#[test]
fn a_recipe_says_only_what_was_published() {
    let rate = |flags: &str| row(&printed(&format!("--recipe scrolls {flags}"), None).out, "learning_rate").0;
    assert_eq!(rate("--dataset x/gov_report.zip --max-source-length 16384"), "5e-5");
    assert_eq!(rate("--dataset qasper"), "2e-5");
    assert_eq!(rate("--dataset qmsum-slice --max-source-length 4096"), "1e-5");
    let batch = printed("--recipe scrolls --dataset qasper --max-source-length 4096", None);
    // 131072 tokens.
    assert_eq!(row(&batch.out, "global_batch_size").0, "32");
    assert_eq!(row(&printed("--recipe paper --dataset qasper", None).out, "global_batch_size").0, "96");
    printed("--recipe scrolls --dataset qasper --max-source-length 2048", None)
        .fails(2, &["2048 tokens", "--learning-rate"]);
    printed("--recipe scrolls --dataset mine.zip --learning-rate 1e-4", None)
        .fails(2, &["'mine'", "--num-train-epochs"]);
    assert_eq!(printed("--recipe mine", None).code, Some(2));
}

#[test]
fn a_run_by_file_is_the_run_by_flags() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--dataset qmsum-slice --max-train-samples 4 --max-eval-samples 2 --no-predict --max-steps 2 \
        --max-source-length 64 --max-target-length 16 --per-device-train-batch-size 2 --learning-rate 1e-3 \
        --optim adamw_hf --lr-scheduler-type cosine --warmup-steps 1 --global-batch-size 4 --max-grad-norm 0.5";
    finetune(dir.path(), flags).succeeds();
    let losses = |run: &str| fs::read_to_string(dir.path().join(run).join("metrics.jsonl")).unwrap();
    let step =
        |text: String| text.lines().find(|line| line.contains("\"loss\"")).map(str::to_string).unwrap();
    let by_flags = step(losses("run"));
    let text = format!(
        "config_name = {:?}\ntokenizer = {:?}\noutput_dir = {:?}\ndevice = 'cpu'\ndataset = 'qmsum-slice'\n\
         max_train_samples = 4\nmax_eval_samples = 2\nno_predict = true\nmax_steps = 2\nmax_source_length = 64\n\
         max_target_length = 16\nper_device_train_batch_size = 2\nlearning_rate = 1e-3\noptim = 'adamw_hf'\n\
         lr_scheduler_type = 'cosine'\nwarmup_steps = 1\nglobal_batch_size = 4\nmax_grad_norm = 0.5\n",
        dir.path().join("config.json"),
        tiny_led(),
        dir.path().join("by-file"),
    );
    let path = dir.path().join("run.toml");
    fs::write(&path, text).unwrap();
    ran(command().args(["finetune", "--config"]).arg(&path)).succeeds();
    assert_eq!(step(losses("by-file")), by_flags);
    // A batch that does not divide the whole is refused with those that do.
    finetune(
        dir.path(),
        "--dataset qmsum-slice --global-batch-size 12 --batch-size 5 --overwrite-output-dir",
    )
    .fails(2, &["12", "5", "4 or 6"]);
}
