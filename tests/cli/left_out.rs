//! What is not read of a user's data is said, counted in tokens by the tokenizer, and written down with the results.

use super::csv::csv_rows;
use super::finetune::{talkative, tiny_led};
use super::study::study;
use super::{Ran, command, ran};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use wattention::text::Tokenizer;

const SOURCE: usize = 20;
const TARGET: usize = 6;

/// Inputs and summaries, some of which are longer than what is kept.
const TRAIN: [(&str, &str); 3] = [
    (
        "The committee met on Tuesday and talked about the budget of the new school for the whole day.",
        "The budget.",
    ),
    ("It rained.", "It rained on the whole of the town and on the hills behind it, all day long."),
    (
        "What was decided?\n\nThe team decided to build a remote control with two buttons and a display.",
        "Two.",
    ),
];
const VALIDATION: [(&str, &str); 2] = [
    ("A short text.", "Short."),
    ("A longer text about a meeting, in which a team talked about prices and colours.", "Prices."),
];

/// A dataset with one wrong record in its training split.
fn dataset(dir: &Path) -> PathBuf {
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    let lines = |records: &[(&str, &str)]| -> String {
        records
            .iter()
            .map(|(input, output)| json!({ "input": input, "output": output }).to_string() + "\n")
            .collect()
    };
    fs::write(data.join("train.jsonl"), lines(&TRAIN) + "{\"input\": \"\", \"output\": \"x\"}\n").unwrap();
    fs::write(data.join("validation.jsonl"), lines(&VALIDATION)).unwrap();
    data
}

/// What is cut of the records, counted here.
fn cut(records: &[(&str, &str)]) -> Value {
    let tokenizer = Tokenizer::load(&tiny_led()).unwrap();
    let count = |text: &str| tokenizer.encode(text, usize::MAX).unwrap().len();
    let inputs: Vec<usize> = records.iter().map(|(input, _)| count(input)).collect();
    let outputs: Vec<usize> = records.iter().map(|(_, output)| count(output)).collect();
    let over = |lengths: &[usize], most: usize| lengths.iter().filter(|&&length| length > most).count();
    let read = |lengths: &[usize], most: usize| lengths.iter().map(|&length| length.min(most)).sum::<usize>();
    json!({
        "documents": records.len(), "documents_cut": over(&inputs, SOURCE),
        "tokens": inputs.iter().sum::<usize>(), "tokens_read": read(&inputs, SOURCE),
        "references": records.len(), "references_cut": over(&outputs, TARGET),
        "reference_tokens": outputs.iter().sum::<usize>(), "reference_tokens_read": read(&outputs, TARGET),
    })
}

fn on(command_name: &str, model: &Path, data: &Path, flags: &str) -> Ran {
    let mut line = command();
    line.args([command_name, "--device", "cpu", "--json", "--model"]).arg(model).arg("--dataset").arg(data);
    let lengths = format!("--max-source-length {SOURCE} --max-target-length {TARGET} --max-new-tokens 4");
    ran(line.args(lengths.split_whitespace()).args(flags.split_whitespace()))
}

#[test]
fn a_run_says_what_it_does_not_read() {
    let (dir, model) = (tempfile::tempdir().unwrap(), talkative());
    let (data, run) = (dataset(dir.path()), dir.path().join("run"));
    let to = format!("--max-steps 1 --skip-bad-records 1 --output-dir {}", run.display());
    let (train, validation) = (cut(&TRAIN), cut(&VALIDATION));
    assert_eq!([&train["documents_cut"], &train["references_cut"], &validation["documents_cut"]], [2, 1, 1]);
    let want = json!({
        "train": { "skipped": 1, "unused": 0, "cut": train },
        "validation": { "skipped": 0, "unused": 0, "cut": validation },
    });
    for cached in ["--no-cache", "--overwrite-output-dir", "--overwrite-output-dir"] {
        // Without a cache of tokens, into it and out of it.
        let done = on("finetune", model.path(), &data, &format!("{to} {cached}"));
        let report = done.json();
        assert_eq!(report["left_out"], want, "{cached}");
        let config: Value =
            serde_json::from_str(&fs::read_to_string(run.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["left_out"], want);
        for said in
            ["train: 2 of 3 documents cut", "1 of 3 references cut", "validation: 1 of 2 documents cut"]
        {
            assert!(done.err.contains(said), "{}", done.err);
        }
        assert!(done.err.contains("passed over: ") && done.err.contains("train.jsonl:4"), "{}", done.err);
    }
    let card = fs::read_to_string(run.join("model/README.md")).unwrap();
    assert!(card.contains("| left out of training | 2 of 3 documents cut"), "{card}");
    let evaluated = on("evaluate", model.path(), &data, "--split train --skip-bad-records 1").json();
    assert_eq!((&evaluated["skipped"], &evaluated["cut"]), (&json!(1), &train));
    // Of three examples one is asked for, which is not cut.
    let flags = format!("{to} --overwrite-output-dir --max-eval-samples 1");
    let report = on("finetune", model.path(), &data, &flags).json();
    assert_eq!(report["left_out"]["validation"]["unused"], 1);
    assert_eq!(report["left_out"]["validation"]["cut"]["documents_cut"], 0);
}

#[test]
fn inputs_that_share_an_id_are_not_dropped_in_silence() {
    let (dir, model) = (tempfile::tempdir().unwrap(), talkative());
    let line = |id: &str, input: &str| json!({ "id": id, "input": input, "output": "x" }).to_string() + "\n";
    let text = line("1", "One.") + &line("1", "One.") + &line("2", "Two.") + &line("1", "Another.");
    for split in ["train", "validation"] {
        fs::write(dir.path().join(format!("{split}.jsonl")), &text).unwrap();
    }
    let done = on("evaluate", model.path(), dir.path(), "");
    let report = done.json();
    assert_eq!((&report["examples"], &report["skipped"]), (&json!(2), &json!(1)));
    assert!(done.err.contains("passed over: ") && done.err.contains("the id \"1\""), "{}", done.err);
    // The paper asks for every line.
    let report = on("evaluate", model.path(), dir.path(), "--protocol paper").json();
    assert_eq!((&report["examples"], &report["skipped"]), (&json!(4), &json!(0)));
}

#[test]
fn rules_of_global_attention_change_what_is_learned_and_are_written_down() {
    let (dir, model) = (tempfile::tempdir().unwrap(), talkative());
    let data = dataset(dir.path());
    let loss = |rule: &str| {
        let run = dir.path().join("run");
        let flags = format!(
            "--skip-bad-records 1 --no-predict --max-steps 1 --overwrite-output-dir --global-attention {rule} --output-dir {}",
            run.display()
        );
        let report = on("finetune", model.path(), &data, &flags).json();
        assert_eq!(report["global_attention"], rule);
        let config: Value =
            serde_json::from_str(&fs::read_to_string(run.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["arguments"]["global_attention"], rule);
        assert!(
            fs::read_to_string(run.join("model/README.md"))
                .unwrap()
                .contains(&format!("| global attention | {rule} |"))
        );
        report["train"]["train_loss"].to_string()
    };
    let mut losses = ["first", "none", "question", "every:4", "tokens:.", "every:8"].map(loss).to_vec();
    losses.sort();
    losses.dedup();
    assert_eq!(losses.len(), 6, "{losses:?}");
    let refused = |rule: &str, says: &[&str]| {
        let flags = format!(
            "--skip-bad-records 1 --output-dir {} --global-attention {rule}",
            dir.path().join("new").display()
        );
        on("finetune", model.path(), &data, &flags).fails(2, says);
    };
    refused("tokens:<doc-sep>", &["tokens:<doc-sep>", "first"]);
    refused("every:0", &["every:N"]);
    // A model that has none says so.
    let flags =
        format!("--skip-bad-records 1 --max-steps 1 --output-dir {}", dir.path().join("bird").display());
    let done = on(
        "finetune",
        Path::new("tiny-bigbird-pegasus"),
        &data,
        &format!("{flags} --global-attention every:4"),
    );
    assert_eq!(done.json()["global_attention"], "none");
    assert!(done.err.contains("every:4 changes nothing"), "{}", done.err);
}

#[test]
fn a_study_says_what_its_cells_do_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path());
    let config = format!(
        "title = 'Cut'\nmodels = ['tiny-led']\ndatasets = [{:?}]\nmax_source_lengths = [{SOURCE}, 64]\nskip_bad_records = 1\n\
         max_new_tokens = 4\nglobal_attention = 'question'\n[[rules]]\nmax_source_length = 64\nglobal_attention = 'every:8'\n\
         [train]\nmax_steps = 1\nmax_target_length = {TARGET}\n",
        data.display().to_string()
    );
    let done = ran(&mut study(dir.path(), &config, "--json"));
    let all = done.json();
    let cells = all["cells"].as_array().unwrap();
    let [short, long] = &cells[..] else { panic!("{cells:?}") };
    assert_eq!(
        (&short["global_attention"], &long["global_attention"]),
        (&json!("question"), &json!("every:8"))
    );
    assert_eq!(short["train_left_out"], json!({ "skipped": 1, "unused": 0, "cut": cut(&TRAIN) }));
    assert_eq!(short["eval_left_out"]["cut"], cut(&VALIDATION));
    assert_eq!(long["eval_left_out"]["cut"]["documents_cut"], 0);
    let rows = csv_rows(&fs::read_to_string(dir.path().join("out/results.csv")).unwrap());
    let field =
        |row: usize, name: &str| rows[row][rows[0].iter().position(|title| title == name).unwrap()].as_str();
    assert_eq!(
        (field(1, "global_attention"), field(1, "eval_documents_cut"), field(1, "train_records_skipped")),
        ("question", "1", "1")
    );
    let percent = |of: &Value| 100.0 * of["tokens_read"].as_f64().unwrap() / of["tokens"].as_f64().unwrap();
    assert_eq!(field(1, "input_read_percent").parse(), Ok(percent(&cut(&VALIDATION))));
    assert_eq!(field(2, "input_read_percent"), "100");
    let report = fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    assert!(report.contains(&format!("Of the documents of data, {SOURCE} tokens cut 1 of 2")), "no sentence");
    assert!(report.contains("Records of data were passed over: 1 of the training split"), "no sentence");
    assert!(done.err.contains("validation: 1 of 2 documents cut"), "{}", done.err);
    // A refusal has the words of the file.
    let wrong = config.replace("'question'", "'tokens:<none>'").replace("[20, 64]", "[20, 9000]");
    let refused = ran(&mut study(dir.path(), &wrong, ""));
    assert!(
        refused.err.contains("tokens:<none>") && refused.err.contains("max_source_lengths 9000"),
        "{}",
        refused.err
    );
    assert!(
        !refused.err.contains("--max-source-length") && !refused.err.contains("--global-attention"),
        "{}",
        refused.err
    );
}
