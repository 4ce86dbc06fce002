//! The best evaluation: that it ends a run in time, survives pruning and is what the run ends with.

use crate::resume::tiny::{Record, Run, bits, options};
use wattention::device::Device;
use wattention::models::{self, ModelLimits};
use wattention::train::checkpoint::open;
use wattention::train::{Control, Options};

/// Learns fast and then too much: the loss on other data falls and rises again.
fn overfitting(dir: &std::path::Path, control: Control) -> Run {
    let options = Options {
        learning_rate: 5e-2,
        lr_scheduler_type: wattention::train::Schedule::Constant,
        ..options(40)
    };
    Run { dropout: 0.0, ..Run::new(dir, options, control) }
}

fn eval_losses(record: &Record) -> Vec<(u64, f64)> {
    let of = |line: &str| line.split("eval_loss: ").nth(1)?.split(',').next()?.parse().ok();
    record.lines.iter().filter_map(|(step, line)| Some((*step, of(line)?))).collect()
}

#[test]
fn patience_ends_the_run_and_the_best_is_kept_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control {
        save_steps: 3,
        save_total_limit: 1,
        load_best_model_at_end: true,
        early_stopping_patience: 2,
        ..Control::default()
    };
    let run = overfitting(dir.path(), control);
    let mut record = Record::default();
    let (summary, weights) = run.go(None, &mut record);
    let summary = summary.unwrap();
    let losses = eval_losses(&record);
    let (best, loss) = *losses.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    // The rule, said again: two evaluations in a row that are not better than all before.
    let mut lowest = f64::INFINITY;
    let mut is_lowest = |loss: f64| {
        let before = lowest;
        lowest = lowest.min(loss);
        loss < before
    };
    let better: Vec<bool> = losses.iter().map(|(_, loss)| is_lowest(*loss)).collect();
    let end = better.windows(2).position(|pair| pair == [false, false]).map(|at| losses[at + 1].0);
    assert_eq!(Some(summary.steps), end);
    assert!(summary.steps < 40 && best < summary.steps && best > 2, "{losses:?}");
    assert_eq!(summary.best, Some((best, loss)));
    assert_eq!((summary.weights_of, summary.eval_loss), (best, Some(loss)));
    // One is the limit, and the best is one of two.
    assert!(run.steps().len() <= 2 && run.steps().contains(&best), "{:?}", run.steps());
    let saved = models::load(&run.checkpoint(best), &Device::cpu(), models::ModelOptions::default()).unwrap();
    assert!(bits(&saved.parameters.slab.read().unwrap()) == bits(&weights));
    let limits: ModelLimits = saved.model.limits();
    assert_eq!(limits.vocab, 40);
}

#[test]
fn pruning_keeps_the_newest_and_the_best_at_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control { save_steps: 1, save_total_limit: 2, ..Control::default() };
    let run = overfitting(dir.path(), control);
    for step in 1..=12 {
        let from = wattention::train::checkpoint::newest(dir.path()).unwrap();
        assert!(from.passed_over.is_empty(), "{:?}", from.passed_over);
        let mut record = Record { stop_after: Some(step), ..Record::default() };
        run.go(from.checkpoint.as_ref(), &mut record).0.unwrap_err();
        let state = open(&run.checkpoint(step)).unwrap().state;
        let steps = run.steps();
        assert_eq!(steps.last(), Some(&step));
        assert!(steps.len() <= 2, "{steps:?}");
        if let Some(best) = state.best.step {
            assert!(steps.contains(&best), "step {best} is the best of {steps:?}");
        }
        let latest = std::fs::read_to_string(dir.path().join("latest")).unwrap();
        assert_eq!(latest, format!("checkpoint-{step}\n"));
    }
}

#[test]
fn what_a_killed_process_did_not_come_to_is_done_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let run = |save_total_limit| {
        let control = Control { save_steps: 1, save_total_limit, ..Control::default() };
        Run::new(dir.path(), options(4), control)
    };
    run(0).go(None, &mut Record::default()).0.unwrap();
    assert_eq!(run(0).steps(), [1, 2, 3, 4]);
    // As if it had been killed after the last checkpoint had its name.
    std::fs::write(dir.path().join("latest"), "checkpoint-3\n").unwrap();
    let from = open(&run(1).checkpoint(4)).unwrap();
    let best = from.state.best.step.unwrap();
    run(1).go(Some(&from), &mut Record::default()).0.unwrap();
    assert_eq!(run(1).steps(), if best == 4 { vec![4] } else { vec![best, 4] });
    assert_eq!(std::fs::read_to_string(dir.path().join("latest")).unwrap(), "checkpoint-4\n");
}

#[test]
fn what_cannot_be_is_refused_before_any_step() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control { metric_for_best_model: "rouge1".into(), ..Control::default() };
    let mut record = Record::default();
    let refusal = overfitting(dir.path(), control).go(None, &mut record).0.unwrap_err();
    assert!(record.lines.is_empty());
    assert_eq!(refusal.exit_code(), 2);
    assert!(refusal.to_string().contains("rouge1"), "{refusal}");
}
