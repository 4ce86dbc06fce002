use super::*;
use std::collections::HashSet;

fn cells(grid: &Grid) -> Vec<CellPlan> {
    grid.cells(&Places::default(), Precision::Fp32, 42).unwrap()
}

fn read(text: &str) -> Result<Grid> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("study.toml");
    std::fs::write(&path, text).unwrap();
    Grid::read(&path)
}

#[test]
fn the_grid_is_the_product_and_models_alternate() {
    let grid = Grid {
        models: vec!["a".into(), "b".into()],
        datasets: vec!["x".into(), "y.zip".into()],
        max_source_lengths: vec![64, 128],
        precisions: Some(vec![Precision::Fp32, Precision::Bf16]),
        seeds: Some(vec![1, 2, 3]),
        batch_sizes: Some(vec![BatchSize::Of(2), BatchSize::Largest]),
        ..Grid::default()
    };
    let cells = cells(&grid);
    assert_eq!(cells.len(), 2 * 2 * 2 * 2 * 3 * 2);
    assert!(cells.chunks(2).all(|pair| [&pair[0].model, &pair[1].model] == ["a", "b"]));
    assert_eq!(cells.iter().map(|cell| &cell.name).collect::<HashSet<_>>().len(), cells.len());
    assert_eq!(cells[0].name, "a_x_64_fp32_batch-2_seed1");
    assert_eq!(cells[95].dataset_name(), "y");
}

#[test]
fn names_that_would_share_a_folder_are_told_apart() {
    let grid = Grid {
        models: vec!["org/led".into(), "other/LED".into(), "../..".into(), "\u{fffd}/$(x)\n".into()],
        max_source_lengths: vec![64],
        datasets: vec!["d".repeat(500)],
        ..Grid::default()
    };
    let cells = cells(&grid);
    let names: HashSet<String> = cells.iter().map(|cell| cell.name.to_lowercase()).collect();
    assert_eq!(names.len(), 4);
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    assert!(names.iter().all(|name| name.len() < 200 && name.chars().all(safe)), "{names:?}");
}

#[test]
fn unknown_keys_and_empty_lists_are_refused() {
    let error = read("title = 'x'\nmodles = ['a']\n").unwrap_err();
    assert_eq!(error.exit_code(), 65);
    assert!(error.to_string().contains("study.toml:2"), "{error}");
    for list in ["models", "seeds", "precisions", "batch_sizes", "protocols", "weights", "attention_windows"]
    {
        let grid = read(&format!("{list} = []\n")).unwrap();
        let error = grid.cells(&Places::default(), Precision::Fp32, 1).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(&format!("`{list}`")), "{error}");
    }
}

#[test]
fn a_file_says_what_a_batch_is() {
    let grid = read("batch_sizes = [8, 'largest']\nmemory = '48GiB'\n").unwrap();
    assert_eq!(grid.batch_sizes, Some(vec![BatchSize::Of(8), BatchSize::Largest]));
    assert_eq!(grid.memory.unwrap().0.0, 48 << 30);
    for wrong in ["batch_sizes = [0]", "batch_sizes = ['most']", "memory = 'lots'", "memory = '0'"] {
        assert_eq!(read(wrong).unwrap_err().exit_code(), 65, "{wrong}");
    }
}

#[test]
fn rules_change_the_cells_they_name_and_no_others() {
    let text = "models = ['m']\ndatasets = ['a', 'b.zip']\nmax_source_lengths = [64, 128]\n\
        [train]\nlearning_rate = 1e-4\n\
        [[rules]]\ndataset = 'b'\ntrain.learning_rate = 2e-4\ntrain.eval_steps = 5\n\
        control.early_stopping_patience = 3\n\
        [[rules]]\nmax_source_length = 128\ntrain.learning_rate = 3e-4\n";
    let rates: Vec<_> = cells(&read(text).unwrap())
        .iter()
        .map(|cell| (cell.train.learning_rate, cell.control.early_stopping_patience))
        .collect();
    assert_eq!(rates, [(1e-4, 0), (3e-4, 0), (2e-4, 3), (3e-4, 3)]);
    let wrong = read("[[rules]]\ntrain.learning_rat = 1.0\n").unwrap();
    let error = wrong.cells(&Places::default(), Precision::Fp32, 1).unwrap_err();
    assert!(error.to_string().contains("learning_rat"), "{error}");
}

#[test]
fn rules_of_the_preset_give_way_to_what_a_file_sets() {
    let of = |text: &str| {
        let grid =
            read(&format!("models = ['m']\ndatasets = ['needle-qa']\nmax_source_lengths = [64]\n{text}"));
        let cell = cells(&grid.unwrap()).swap_remove(0);
        (cell.max_train_samples, cell.max_new_tokens, cell.train.learning_rate, cell.train.max_target_length)
    };
    let left_out = of("");
    assert_ne!(left_out, of("rules = []"), "the preset has a rule for this dataset");
    let set = of("max_train_samples = 0\nmax_new_tokens = 5\n[train]\nlearning_rate = 1e-4\n");
    assert_eq!(set, (0, 5, 1e-4, left_out.3));
}

#[test]
fn a_baseline_runs_once_at_what_it_reads() {
    let text = "models = ['tiny-led']\nbaselines = ['tiny-bart', 'nowhere/bart']\ndatasets = ['d']\n\
        max_source_lengths = [512, 2048]\nattention_windows = [32]\n";
    let of = |text: &str| -> Vec<(String, usize)> {
        let cells = cells(&read(text).unwrap());
        cells.iter().map(|cell| (cell.model.clone(), cell.train.max_source_length)).collect()
    };
    let at = |model: &str, length| (model.to_string(), length);
    let expected =
        [at("tiny-bart", 1024), at("nowhere/bart", 2048), at("tiny-led", 512), at("tiny-led", 2048)];
    assert_eq!(of(text), expected);
    assert_eq!(of(&text.replace("2048", "600"))[0], at("tiny-bart", 600), "no further than the others");
    // One that is also a model has that cell already.
    let twice = text.replace("['tiny-led']", "['tiny-led', 'tiny-bart']").replace("[512, 2048]", "[1024]");
    assert_eq!(of(&twice), [at("nowhere/bart", 1024), at("tiny-led", 1024), at("tiny-bart", 1024)]);
}

#[test]
fn weights_in_8_bits_are_scored_by_the_cells_that_are_there() {
    let of = |text: &str| {
        let grid = read(&format!("models = ['m']\ndatasets = ['d']\nmax_source_lengths = [64]\n{text}"));
        cells(&grid.unwrap())
    };
    let (alone, both) = (of(""), of("weights = ['stored', 'int8']"));
    assert_eq!((both.len(), &both[0].name), (1, &alone[0].name));
    assert_eq!((alone[0].more_weights(), both[0].more_weights()), (vec![], vec![Weights::Int8]));
    // A cell that was finished before there was a choice is the cell of today that makes none.
    let json = serde_json::to_value(&alone[0]).unwrap();
    assert!(json.get("weights").is_none());
    assert_eq!(serde_json::from_value::<CellPlan>(json).unwrap(), alone[0]);
    let json = serde_json::to_value(&both[0]).unwrap();
    assert_eq!(serde_json::from_value::<CellPlan>(json).unwrap(), both[0]);
    assert_eq!(read("weights = ['int4']").unwrap_err().exit_code(), 65);
}

#[test]
fn windows_are_for_models_that_have_one() {
    let grid = Grid {
        models: vec!["tiny-led".into(), "tiny-bigbird-pegasus".into()],
        max_source_lengths: vec![64],
        datasets: vec!["d".into()],
        attention_windows: Some(vec![32, 64]),
        ..Grid::default()
    };
    let windows: Vec<_> = cells(&grid).iter().map(|c| (c.model.clone(), c.attention_window)).collect();
    let led = |window| ("tiny-led".to_string(), Some(window));
    assert_eq!(windows, [led(32), ("tiny-bigbird-pegasus".into(), None), led(64)]);
}
