//! One step of a run: computed, and its update made or skipped.

use super::control::Control;
use super::diagnosis::diagnose;
use super::loader::Prepared;
use super::overlap::last_micro_step;
use super::ranks::{gather_weights, shared_norm, sum_gradients, sum_losses};
use super::state::TrainerState;
use super::step::{Moment, StepReport, TrainState, forget_gradients, micro_step, norm_step, update_step};
use super::trainer::{Outcome, Trainer};
use crate::error::{Error, Result};
use crate::models::LossRule;
use crate::tape::Randomness;

impl<X: AsRef<TrainState>> Trainer<'_, X> {
    /// Computes one step and updates the weights, unless its loss or gradient forbids it.
    pub(super) fn update(&mut self, batch: &Prepared) -> Result<Outcome> {
        let mut losses = Vec::new();
        for (at, micro) in batch.micro_batches.iter().enumerate() {
            let (rule, randomness) = (self.rule(batch), self.randomness(micro.number));
            let (session, source, target) = (&mut *self.session, &micro.source, &micro.target);
            losses.push(match at + 1 == batch.micro_batches.len() {
                true => last_micro_step(session, source, target, rule, randomness, &self.group)?,
                false => micro_step(session, source, target, rule, randomness)?,
            });
        }
        let loss = sum_losses(&losses, &self.group);
        // Whatever the loss is: GPUs may have begun.
        sum_gradients(self.session, &self.group, self.options.communication_data_type)?;
        let skip = |why: String, grad_norm, bad| Outcome::Skipped { why, loss, grad_norm, bad };
        if !loss.is_finite() {
            forget_gradients(self.session);
            return Ok(skip(format!("the loss is {loss}"), None, true));
        }
        let Control { skip_loss_zscore, skip_grad_zscore, .. } = *self.control;
        let spike = |name: &str, z: Option<f64>, most: f64| {
            z.filter(|&z| z > most)
                .map(|z| format!("the {name} is {z:.1} standard deviations above the last"))
        };
        if skip_loss_zscore > 0.0
            && let Some(why) = spike("loss", self.state.losses.z_score(loss as f64), skip_loss_zscore)
        {
            forget_gradients(self.session);
            return Ok(skip(why, None, false));
        }
        let shared = shared_norm(self.session, &self.group)?;
        if skip_grad_zscore > 0.0 {
            let norm = shared.map_or_else(|| norm_step(self.session), Ok)?;
            // One that is not finite is left to the update, and must not spoil the mean of the others.
            if norm.is_finite()
                && let Some(why) =
                    spike("gradient norm", self.state.gradient_norms.z_score(norm as f64), skip_grad_zscore)
            {
                forget_gradients(self.session);
                return Ok(skip(why, Some(norm), false));
            }
        }
        let TrainerState { global_step: step, updates, .. } = self.state;
        let at = Moment { step, total: self.total, updates };
        let (grad_norm, learning_rate) = update_step(self.session, self.options, at, shared)?;
        gather_weights(self.session, &self.group)?;
        Ok(match grad_norm.is_finite() {
            true => Outcome::Updated(StepReport { loss, grad_norm, learning_rate }),
            false => skip(format!("the gradient norm is {grad_norm}"), Some(grad_norm), true),
        })
    }

    /// Each micro-batch's gradient is divided by the tokens of all of them.
    fn rule(&self, batch: &Prepared) -> LossRule {
        let smoothing = self.options.label_smoothing as f32;
        LossRule { normaliser: batch.target_tokens as f32, smoothing }
    }

    fn randomness(&self, micro_batch: usize) -> Randomness {
        let step = self.state.cursor.micro_batch + micro_batch as u64;
        Randomness { seed: self.options.seed, step }
    }

    pub(super) fn ids(&self, batch: &Prepared) -> Vec<String> {
        batch.examples().iter().map(|&i| self.train.ids[i].clone()).collect()
    }

    /// The error that ends the run at a step that cannot be made: where it went wrong, and on what.
    pub(super) fn hopeless(&self, batch: &Prepared, why: &str) -> Error {
        let step = self.state.global_step + 1;
        let mut where_ = String::new();
        for micro in &batch.micro_batches {
            let (rule, randomness) = (self.rule(batch), self.randomness(micro.number));
            match diagnose(self.session, &micro.source, &micro.target, rule, randomness) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    let ids: Vec<&str> = micro.examples.iter().map(|&i| &*self.train.ids[i]).collect();
                    where_ =
                        format!("; the first value that is not finite is {found}, on {}", ids.join(", "));
                    break;
                }
                Err(error) => where_ = format!("; looking for the cause failed: {error}"),
            }
        }
        let times = match self.state.bad_steps {
            0 => String::new(),
            n => format!(", after {n} such steps"),
        };
        Error::data(
            format!("step {step}"),
            format!(
                "{why}{times}, on examples {}{where_}; lower --learning-rate, look at the examples, \
                 or pass over up to N such steps with --max-bad-steps N+1",
                self.ids(batch).join(", ")
            ),
        )
    }
}
