//! A run's events: every one to `metrics.jsonl`, the latest to the terminal, what they cost to `energy.json`.

use super::super::global::Global;
use super::energy::Energy;
use super::metrics::Metrics;
use super::signals::Signals;
use super::view::View;
use serde::Serialize;
use serde_json::{Map, Value};
use wattention::energy::Activity;
use wattention::error::Result;
use wattention::train::{Event, Observer, Scores};

#[derive(Serialize)]
struct StepLine {
    loss: f32,
    grad_norm: f32,
    learning_rate: f64,
    epoch: f64,
    step: u64,
}

/// Not under the names of a step that counts; a number that is not finite is null.
#[derive(Serialize)]
struct SkippedLine<'a> {
    skipped: &'a str,
    skipped_loss: f32,
    skipped_grad_norm: Option<f32>,
    examples: &'a [String],
    epoch: f64,
    step: u64,
}

#[derive(Serialize)]
struct EvaluationLine {
    eval_loss: f64,
    #[serde(flatten)]
    scores: Map<String, Value>,
    epoch: f64,
    step: u64,
}

pub struct Watch<'a> {
    pub metrics: &'a mut Metrics,
    pub energy: &'a mut Energy,
    pub view: View,
    pub global: &'a Global,
    pub signals: &'a Signals,
    pub steps_per_epoch: u64,
}

impl Watch<'_> {
    fn epoch(&self, step: u64) -> f64 {
        step as f64 / self.steps_per_epoch as f64
    }
}

impl Observer for Watch<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            &Event::Step { step, report, samples, tokens, .. } => {
                self.view.step(step, report, samples, tokens);
                self.energy.stepped(samples, tokens);
                self.metrics.write(&StepLine {
                    loss: report.loss,
                    grad_norm: report.grad_norm,
                    learning_rate: report.learning_rate,
                    epoch: self.epoch(step),
                    step,
                })
            }
            Event::Skipped { step, why, loss, grad_norm, examples } => {
                self.view.skipped(*step);
                let examples_named = examples.join(", ");
                let text = format_args!("step {step} is skipped: {why}, on examples {examples_named}");
                self.view.aside(|| self.global.warn(text));
                self.metrics.write(&SkippedLine {
                    skipped: why,
                    skipped_loss: *loss,
                    skipped_grad_norm: *grad_norm,
                    examples,
                    epoch: self.epoch(*step),
                    step: *step,
                })
            }
            Event::Evaluation { step, eval_loss, scores } => {
                self.view.evaluated(*eval_loss);
                let (scores, epoch) = (named(scores), self.epoch(*step));
                self.metrics.write(&EvaluationLine { eval_loss: *eval_loss, scores, epoch, step: *step })
            }
            Event::Checkpoint { step } => {
                let text = format_args!("checkpoint-{step} is being saved");
                self.view.aside(|| self.global.detail(text));
                // A run that is killed later goes on from here, and with what it had cost until here.
                self.energy.write().map(|_| ())
            }
        }
    }

    fn enters(&mut self, activity: Activity) {
        self.energy.enter(activity);
    }

    fn interrupted(&self) -> Option<i32> {
        self.signals.caught()
    }
}

/// Scores under the names of HF's trainer.
fn named(scores: &Scores) -> Map<String, Value> {
    scores.iter().map(|(name, value)| (format!("eval_{name}"), Value::from(*value))).collect()
}
