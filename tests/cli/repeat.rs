//! A run's `config.json` repeats it: a study's cell, by `finetune`, from another folder, to the same bytes.

use super::resume::events;
use super::study::{TINY, study};
use super::{command, names_in, ran};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// `finetune --config CONFIG` into `dir/again`, started in a folder where no relative path leads anywhere.
fn repeated(config: &Path, dir: &Path) {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut finetune = command();
    finetune.current_dir(elsewhere.path()).args(["finetune", "--config"]).arg(config);
    ran(finetune.arg("--output-dir").arg(dir.join("again"))).succeeds();
}

#[test]
fn a_cells_config_repeats_the_cell_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let config = "protocols = ['paper', 'scrolls']\nattention_windows = [64]\nkeep_models = true\n"
        .to_string()
        + &TINY.replace("[64, 128]", "[64]")
        + "eval_steps = 2\nlearning_rate = 1e-3\n[control]\nload_best_model_at_end = true\n\
           metric_for_best_model = 'rouge1'\nskip_loss_zscore = 9\n";
    ran(&mut study(dir.path(), &config, "")).succeeds();
    let cell = dir.path().join("out/cells/tiny-led_qmsum-slice_64_fp32_window64_seed42");
    repeated(&cell.join("config.json"), dir.path());
    let again = dir.path().join("again");
    for file in ["model/model.safetensors", "model/config.json", "predictions.jsonl"] {
        assert!(fs::read(cell.join(file)).unwrap() == fs::read(again.join(file)).unwrap(), "{file} differs");
    }
    assert_eq!(names_in(&cell.join("model")), names_in(&again.join("model")));
    let (first, second) = (events(&cell), events(&again));
    assert_eq!(first, second);
    assert_eq!(first.iter().filter(|line| line.get("loss").is_some()).count(), 4);
    // The same files with the same fields, but for what only a study adds.
    let own = |run: &Path| -> Vec<String> {
        let study = ["cell.json", "trained.json", "predictions-paper.jsonl", "predictions-scrolls.jsonl"];
        // A finished cell's checkpoints are removed.
        let checkpoints = |name: &str| name.starts_with("checkpoint-") || name == "latest";
        names_in(run).into_iter().filter(|name| !study.contains(&&**name) && !checkpoints(name)).collect()
    };
    assert_eq!(own(&cell), own(&again));
    let keys = |file: &str, run: &Path| -> Vec<String> {
        read(&run.join(file)).as_object().unwrap().keys().cloned().collect()
    };
    for file in ["config.json", "energy.json"] {
        assert_eq!(keys(file, &cell), keys(file, &again), "{file}");
    }
    let [of_cell, of_again] = [&cell, &again].map(|run| read(&run.join("config.json")));
    assert_eq!(of_cell["arguments"], of_again["arguments"]);
    assert_eq!(of_cell["settings"], of_again["settings"]);
    assert_eq!(of_cell["arguments"]["model"], "tiny-led");
    assert_eq!(of_cell["arguments"]["dataset"], "qmsum-slice");
}

#[test]
fn a_runs_config_repeats_it_by_paths_that_hold_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut first = command();
    first.current_dir(root).args("finetune --model weights/tiny-led --tokenizer small-led".split(' '));
    first.args("--dataset qmsum-slice --max-train-samples 4 --no-predict --max-steps 2".split(' '));
    first.args("--max-source-length 64 --max-target-length 16 --batch-size 2 --device cpu".split(' '));
    ran(first.arg("--output-dir").arg(dir.path().join("run"))).succeeds();
    let config = dir.path().join("run/config.json");
    let arguments = &read(&config)["arguments"];
    assert_eq!(arguments["model"].as_str().map(Path::new), Some(&*root.join("weights/tiny-led")));
    assert_eq!(arguments["tokenizer"], "small-led");
    repeated(&config, dir.path());
    let weights = |run: &str| fs::read(dir.path().join(run).join("model/model.safetensors")).unwrap();
    assert!(weights("run") == weights("again"));
}
