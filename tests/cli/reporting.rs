//! What else a run tells: TensorBoard's event files, and stderr without a terminal.

use super::finetune::finetune;
use super::names_in;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const RUN: &str = "--dataset qmsum-slice --max-train-samples 4 --max-eval-samples 2 --per-device-train-batch-size 2 \
    --max-steps 3 --eval-steps 2 --max-source-length 64 --max-target-length 16 --max-new-tokens 4 \
    --learning-rate 1e-3 --overwrite-output-dir";

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut n = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes.split_off_first().unwrap();
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    n
}

/// Field number and content of every field of a protocol buffer; numbers as their bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let content = match key & 7 {
            0 => varint(&mut bytes).to_le_bytes().to_vec(),
            1 => bytes.split_off(..8).unwrap().to_vec(),
            5 => bytes.split_off(..4).unwrap().to_vec(),
            2 => {
                let length = varint(&mut bytes) as usize;
                bytes.split_off(..length).unwrap().to_vec()
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, content));
    }
    found
}

/// (tag, step) and value of every scalar in the one event file of `dir`.
fn scalars(dir: &Path) -> BTreeMap<(String, u64), f32> {
    let names = names_in(dir);
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("events.out.tfevents."), "{names:?}");
    let file = fs::read(dir.join(&names[0])).unwrap();
    let (mut rest, mut found) = (&file[..], BTreeMap::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let event = fields(&rest[12..12 + length]);
        rest = &rest[16 + length..];
        let step = event.iter().find(|(field, _)| *field == 2);
        let step = step.map_or(0, |(_, bytes)| u64::from_le_bytes(bytes[..].try_into().unwrap()));
        for (_, summary) in event.iter().filter(|(field, _)| *field == 5) {
            for (_, value) in fields(summary) {
                let parts: BTreeMap<u64, Vec<u8>> = fields(&value).into_iter().collect();
                let tag = String::from_utf8(parts[&1].clone()).unwrap();
                found.insert((tag, step), f32::from_le_bytes(parts[&2][..].try_into().unwrap()));
            }
        }
    }
    found
}

#[test]
fn tensorboard_is_told_what_the_metrics_say() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    for _ in 0..2 {
        // The second run replaces the first one's events.
        finetune(dir.path(), &format!("{RUN} --report_to tensorboard")).succeeds();
    }
    let told = scalars(&run.join("runs"));
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut lines = 0;
    for line in metrics.lines() {
        let line: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        for (key, tag) in [
            ("loss", "train/loss"),
            ("grad_norm", "train/grad_norm"),
            ("learning_rate", "train/learning_rate"),
            ("eval_loss", "eval/loss"),
            ("eval_rougeL", "eval/rougeL"),
            ("train_runtime", "train/train_runtime"),
        ] {
            if let Some(value) = line.get(key) {
                let step = line["step"].as_u64().unwrap();
                assert_eq!(told[&(tag.to_string(), step)], value.as_f64().unwrap() as f32, "{tag} {step}");
                lines += 1;
            }
        }
    }
    // Three numbers of three steps, the loss of two evaluations and of the scores, ROUGE and the time.
    assert_eq!(lines, 3 * 3 + 3 + 2);
}

#[test]
fn a_folder_of_its_own_asks_for_events_and_keeps_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let board = dir.path().join("board");
    let flags = format!("{RUN} --no-predict --logging_dir {}", board.display());
    finetune(dir.path(), &flags).succeeds();
    assert!(scalars(&board).contains_key(&("train/loss".into(), 3)));
    assert!(!dir.path().join("run/runs").exists());
    fs::write(board.join("mine.txt"), "mine").unwrap();
    finetune(dir.path(), &flags).succeeds();
    assert!(names_in(&board).len() >= 2);
    assert_eq!(fs::read_to_string(board.join("mine.txt")).unwrap(), "mine");
    finetune(dir.path(), &format!("{RUN} --tensorboard-dir /dev/null/x")).fails(74, &["/dev/null/x"]);
}

#[test]
fn a_quiet_run_says_nothing_and_another_only_lines() {
    let dir = tempfile::tempdir().unwrap();
    let quiet = finetune(dir.path(), &format!("{RUN} --no-predict -q"));
    quiet.succeeds();
    assert_eq!(quiet.err, "");
    let told = finetune(dir.path(), &format!("{RUN} --no-predict"));
    assert!(told.err.contains("planned") && told.err.contains("training: 3 steps in"), "{}", told.err);
    assert!(!told.err.contains(['\u{1b}', '\r']), "{:?}", told.err);
}
