//! A fine-tuning run: epochs of shuffled batches, evaluation in between, events for whoever watches.

use super::batches::Corpus;
use super::options::Options;
use super::step::{StepReport, TrainState, loss_step, micro_step, optimizer_step};
use crate::data::order;
use crate::error::{Error, Result};
use crate::models::LossRule;
use crate::models::session::Session;
use crate::tape::Randomness;
use crate::units::Seconds;
use std::time::{Duration, Instant};

/// What happens during a run, in order.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    Step {
        /// Steps done, this one included.
        step: u64,
        total: u64,
        report: StepReport,
    },
    Evaluation {
        step: u64,
        eval_loss: f64,
    },
}

/// Somebody who watches a run.
pub trait Observer {
    fn event(&mut self, event: &Event) -> Result<()>;
}

impl Observer for () {
    fn event(&mut self, _: &Event) -> Result<()> {
        Ok(())
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    pub steps: u64,
    /// Examples trained on, counted as often as they were.
    pub samples: u64,
    /// Source and target tokens trained on, padding not counted.
    pub tokens: u64,
    pub last_loss: f32,
    /// Mean over all steps (HF `train_loss`).
    pub train_loss: f64,
    /// Mean over the run's last tenth of steps, which one batch does not sway.
    pub final_loss: f64,
    pub eval_loss: Option<f64>,
    /// Training alone.
    pub train_time: Seconds,
    /// Evaluation in between.
    pub eval_time: Seconds,
}

/// Trains on `train`, evaluates the loss on `validation` every `eval_steps` and at the end.
pub fn fine_tune<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    train: &Corpus,
    validation: Option<&Corpus>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    options.check()?;
    if train.examples.is_empty() {
        return Err(Error::data("training set", "it has no examples"));
    }
    let total = options.total_steps(train.examples.len());
    let mut batches = Batches::new(train.examples.len(), options);
    let (mut samples, mut tokens) = (0, 0);
    let mut losses = Vec::with_capacity(total as usize);
    let (mut train_time, mut eval_time) = (Duration::ZERO, Duration::ZERO);
    let mut eval_loss = None;
    for step in 0..total {
        let start = Instant::now();
        let micro_batches = batches.next();
        let batch: Vec<usize> = micro_batches.concat();
        let loss = batch_loss(session, train, &micro_batches, options, step)?;
        let (grad_norm, learning_rate) = optimizer_step(session, options, step, total)?;
        train_time += start.elapsed();
        samples += batch.len() as u64;
        tokens += batch.iter().map(|&i| train.examples[i].input.len() as u64).sum::<u64>();
        tokens += train.target_tokens(&batch) as u64;
        losses.push(loss);
        let report = StepReport { loss, grad_norm, learning_rate };
        observer.event(&Event::Step { step: step + 1, total, report })?;
        let due = options.eval_steps > 0 && (step + 1).is_multiple_of(options.eval_steps);
        if let Some(validation) = validation.filter(|_| due || step + 1 == total) {
            let start = Instant::now();
            let loss = evaluate_loss(session, validation, options.per_device_eval_batch_size)?;
            eval_time += start.elapsed();
            eval_loss = Some(loss);
            observer.event(&Event::Evaluation { step: step + 1, eval_loss: loss })?;
        }
    }
    let mean = |losses: &[f32]| losses.iter().map(|&l| l as f64).sum::<f64>() / losses.len() as f64;
    let tail = &losses[losses.len() - losses.len().div_ceil(10)..];
    Ok(Summary {
        steps: total,
        samples,
        tokens,
        last_loss: losses.last().copied().unwrap_or(f32::NAN),
        train_loss: mean(&losses),
        final_loss: mean(tail),
        eval_loss,
        train_time: train_time.into(),
        eval_time: eval_time.into(),
    })
}

/// Adds the gradients of all micro-batches, each divided by the tokens of all of them.
fn batch_loss<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    train: &Corpus,
    micro_batches: &[Vec<usize>],
    options: &Options,
    step: u64,
) -> Result<f32> {
    let tokens: usize = micro_batches.iter().map(|which| train.target_tokens(which)).sum();
    let rule = LossRule { normaliser: tokens as f32, smoothing: options.label_smoothing as f32 };
    let mut loss = 0.0;
    for (i, which) in micro_batches.iter().enumerate() {
        let randomness = Randomness {
            seed: options.seed,
            step: step * options.gradient_accumulation_steps as u64 + i as u64,
        };
        loss += micro_step(session, &train.source(which)?, &train.target(which)?, rule, randomness)?;
    }
    match loss.is_finite() {
        true => Ok(loss),
        false => Err(Error::data(
            format!("step {}", step + 1),
            format!(
                "the loss is {loss} on examples {micro_batches:?}; lower --learning-rate or look at them"
            ),
        )),
    }
}

/// Mean loss per target token over all of `corpus`.
pub fn evaluate_loss<X>(session: &mut Session<X>, corpus: &Corpus, batch_size: usize) -> Result<f64> {
    let all: Vec<usize> = (0..corpus.examples.len()).collect();
    let (mut sum, mut tokens) = (0.0, 0);
    for which in all.chunks(batch_size) {
        let (source, target) = (corpus.source(which)?, corpus.target(which)?);
        let rule = LossRule { normaliser: 1.0, smoothing: 0.0 };
        sum += loss_step(session, &source, &target, rule)? as f64;
        tokens += target.labels.len();
    }
    Ok(sum / tokens.max(1) as f64)
}

/// Examples of each step: a pure function of (seed, epoch, step).
struct Batches<'a> {
    options: &'a Options,
    examples: usize,
    epoch: u64,
    order: Vec<usize>,
    at: usize,
}

impl<'a> Batches<'a> {
    fn new(examples: usize, options: &'a Options) -> Self {
        Batches { options, examples, epoch: 0, order: order(options.seed, 0, examples), at: 0 }
    }

    /// The micro-batches of one optimizer step; an epoch's last may be short, and none spans two epochs.
    fn next(&mut self) -> Vec<Vec<usize>> {
        if self.at >= self.order.len() {
            self.epoch += 1;
            self.order = order(self.options.seed, self.epoch, self.examples);
            self.at = 0;
        }
        let size = self.options.per_device_train_batch_size;
        let left = &self.order[self.at..];
        let taken = left.len().min(size * self.options.gradient_accumulation_steps);
        self.at += taken;
        left[..taken].chunks(size).map(<[usize]>::to_vec).collect()
    }
}
