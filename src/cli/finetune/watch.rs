//! A run's events: every one to `metrics.jsonl`, the latest to the terminal.

use super::super::progress::Progress;
use super::run_dir::Metrics;
use serde::Serialize;
use wattention::error::Result;
use wattention::train::{Event, Observer};

#[derive(Serialize)]
struct StepLine {
    loss: f32,
    grad_norm: f32,
    learning_rate: f64,
    epoch: f64,
    step: u64,
}

#[derive(Serialize)]
struct EvaluationLine {
    eval_loss: f64,
    epoch: f64,
    step: u64,
}

pub struct Watch<'a> {
    pub metrics: &'a mut Metrics,
    pub progress: Progress,
    pub steps_per_epoch: u64,
    pub eval_loss: Option<f64>,
}

impl Watch<'_> {
    fn epoch(&self, step: u64) -> f64 {
        step as f64 / self.steps_per_epoch as f64
    }
}

impl Observer for Watch<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        match *event {
            Event::Step { step, report, .. } => {
                let evaluated = self.eval_loss.map_or(String::new(), |loss| format!(", eval loss {loss:.4}"));
                self.progress.step(1, format_args!("loss {:.4}{evaluated}", report.loss));
                self.metrics.write(&StepLine {
                    loss: report.loss,
                    grad_norm: report.grad_norm,
                    learning_rate: report.learning_rate,
                    epoch: self.epoch(step),
                    step,
                })
            }
            Event::Evaluation { step, eval_loss } => {
                self.eval_loss = Some(eval_loss);
                self.metrics.write(&EvaluationLine { eval_loss, epoch: self.epoch(step), step })
            }
        }
    }
}
