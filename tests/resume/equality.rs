//! A run that goes on is the run that never stopped, bit for bit.

use crate::resume::tiny::{BIGBIRD, Record, Run, bits, options};
use std::fs;
use std::path::Path;
use wattention::device::{Device, Precision};
use wattention::error::Error;
use wattention::train::checkpoint::{self, newest};
use wattention::train::{Control, Cursor, Options, Times, TrainerState};

/// A checkpoint's state but for the times, which no two runs share.
fn state(dir: &Path) -> TrainerState {
    TrainerState { times: Times::default(), ..checkpoint::open(dir).unwrap().state }
}

/// Goes on from every checkpoint of a run to its end, and compares all there is to compare.
#[track_caller]
fn every_checkpoint_leads_to_the_same_end(run: impl Fn(&Path) -> Run, last: u64) {
    let dir = tempfile::tempdir().unwrap();
    let whole = run(dir.path());
    let mut said = Record::default();
    let (summary, weights) = whole.go(None, &mut said);
    let summary = summary.unwrap();
    assert_eq!(summary.steps, last);
    let steps = whole.steps();
    assert_eq!(steps.last(), Some(&last));
    assert!(steps.len() > 1);
    for &step in &steps {
        let copy = tempfile::tempdir().unwrap();
        let part = run(copy.path());
        let from = checkpoint::open(&whole.checkpoint(step)).unwrap();
        part.settings().check(&from.manifest.settings, "the checkpoint").unwrap();
        let mut rest = Record::default();
        let (resumed, resumed_weights) = part.go(Some(&from), &mut rest);
        let resumed = resumed.unwrap();
        assert!(bits(&resumed_weights) == bits(&weights), "other weights from step {step}");
        let want: Vec<_> = said.lines.iter().filter(|(at, _)| *at > step).cloned().collect();
        assert_eq!(rest.lines, want, "from step {step}");
        assert_eq!(resumed.train_loss.to_bits(), summary.train_loss.to_bits());
        assert_eq!(resumed.final_loss.to_bits(), summary.final_loss.to_bits());
        assert_eq!((resumed.samples, resumed.tokens), (summary.samples, summary.tokens));
        assert_eq!((resumed.eval_loss, resumed.best), (summary.eval_loss, summary.best));
        // What was done before counts as well.
        assert!(resumed.train_time.0 >= from.state.times.steps.0 && from.state.times.steps.0 > 0.0);
        if step < last {
            let (got, want) = (part.checkpoint(last), whole.checkpoint(last));
            assert_eq!(state(&got), state(&want));
            for file in ["model.safetensors", "optimizer.safetensors", "config.json"] {
                assert!(fs::read(got.join(file)).unwrap() == fs::read(want.join(file)).unwrap(), "{file}");
            }
        }
    }
}

#[test]
fn on_the_cpu() {
    let control = Control { save_steps: 1, early_stopping_patience: 9, ..Control::default() };
    every_checkpoint_leads_to_the_same_end(|dir| Run::new(dir, options(7), control.clone()), 7);
}

#[test]
fn in_bf16_with_grouped_lengths_and_warmup() {
    let control = Control { save_steps: 2, group_by_length: true, ..Control::default() };
    let options = Options { warmup_ratio: 0.4, label_smoothing: 0.1, ..options(6) };
    let run = |dir: &Path| Run {
        device: Device::open("cpu", Precision::Bf16).unwrap(),
        ..Run::new(dir, options.clone(), control.clone())
    };
    every_checkpoint_leads_to_the_same_end(run, 6);
}

#[test]
fn with_bigbird() {
    let control = Control { save_steps: 2, ..Control::default() };
    every_checkpoint_leads_to_the_same_end(
        |dir| Run { config: BIGBIRD, ..Run::new(dir, options(4), control.clone()) },
        4,
    );
}

#[test]
fn on_the_simulator() {
    let control = Control { save_steps: 1, ..Control::default() };
    let options = Options { per_device_train_batch_size: 1, gradient_accumulation_steps: 1, ..options(2) };
    let device = Device::open("sim", Precision::Fp32);
    let Ok(device) = device else {
        return println!("skipped: no simulator in this build");
    };
    let run = |dir: &Path| Run { device: device.clone(), ..Run::new(dir, options.clone(), control.clone()) };
    every_checkpoint_leads_to_the_same_end(run, 2);
}

#[test]
fn with_spikes_skipped() {
    // The 128 steps before there are scores, and some of which many are skipped.
    let control = Control {
        save_steps: 65,
        skip_loss_zscore: 0.5,
        skip_grad_zscore: 0.5,
        early_stopping_patience: 100,
        ..Control::default()
    };
    let options = Options { eval_steps: 50, ..options(195) };
    let run = |dir: &Path| Run::new(dir, options.clone(), control.clone());
    every_checkpoint_leads_to_the_same_end(run, 195);
    let dir = tempfile::tempdir().unwrap();
    let mut said = Record::default();
    let skipped = run(dir.path()).go(None, &mut said).0.unwrap().skipped;
    let told = said.lines.iter().filter(|(_, line)| line.starts_with("Skipped")).count() as u64;
    assert!(skipped > 0 && skipped < 67 && told == skipped, "{skipped} skipped, {told} told");
}

#[test]
fn a_signal_at_any_step_loses_nothing() {
    let control = Control { save_steps: 0, ..Control::default() };
    let whole_dir = tempfile::tempdir().unwrap();
    let mut said = Record::default();
    let whole = Run::new(whole_dir.path(), options(5), control.clone());
    let (_, weights) = whole.go(None, &mut said);
    assert!(whole.steps().is_empty());

    // Step by step: every process makes one step, and the evaluation that the one before had no time for.
    let dir = tempfile::tempdir().unwrap();
    let part = Run::new(dir.path(), options(5), control);
    let mut lines = Vec::new();
    let mut last = Vec::new();
    for step in 1..=5 {
        let from = newest(dir.path()).unwrap().checkpoint;
        assert_eq!(from.as_ref().map(|from| from.state.global_step), (step > 1).then_some(step - 1));
        let mut record = Record { stop_after: Some(step), ..Record::default() };
        let (outcome, weights) = part.go(from.as_ref(), &mut record);
        assert!(matches!(outcome, Err(Error::Interrupted(15))), "{outcome:?}");
        lines.extend(record.lines);
        last = weights;
    }
    let from = newest(dir.path()).unwrap().checkpoint.unwrap();
    assert!(from.state.evaluation_due && from.state.eval_loss.is_some());
    let mut record = Record::default();
    part.go(Some(&from), &mut record).0.unwrap();
    lines.extend(record.lines);
    assert_eq!(lines, said.lines);
    assert!(bits(&last) == bits(&weights));
}

#[test]
fn a_cursor_of_another_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::new(dir.path(), options(2), Control { save_steps: 1, ..Control::default() });
    run.go(None, &mut Record::default()).0.unwrap();
    let mut checkpoint = checkpoint::open(&run.checkpoint(1)).unwrap();
    checkpoint.state.cursor = Cursor { position: 1, ..checkpoint.state.cursor };
    let loaded = crate::resume::tiny::model(&run.device, 0.1);
    let train = crate::resume::tiny::corpus(&loaded, 7);
    let mut session = wattention::models::session::Session::new(
        loaded,
        wattention::models::ModelOptions::default(),
        wattention::train::train_state,
    )
    .unwrap();
    let trainer = wattention::train::Trainer::new(&mut session, &train, &run.options, &run.control).unwrap();
    assert_eq!(trainer.restore(&checkpoint).err().map(|error| error.exit_code()), Some(65));
}
