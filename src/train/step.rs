//! One training step: micro-batches that add gradients, then the optimizer.

use super::options::{Optimizer, Options};
use super::schedule::learning_rate;
use super::shard::{RankLayout, within};
use super::sums::Sums;
use crate::error::{Error, Result};
use crate::models::batch::{DeviceBatch, Source, Target};
use crate::models::session::{Session, Side, Signature};
use crate::models::{Loaded, LossRule};
use crate::nn::STEP;
use crate::ops::adamw::{AdamW, State, adamw, table};
use crate::ops::gradient_norm::gradient_norm;
use crate::shape::DType;
use crate::tape::{Gradients, Randomness, Tape};
use crate::tensor::Tensor;
use crate::trace::phase;
use std::cell::RefCell;
use std::ops::Range;

/// Gradients and moments, slabs like the parameters'.
pub struct TrainState {
    gradients: RefCell<Gradients>,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    segments: Tensor,
    /// The elements that this rank updates, whose moments it has.
    part: Range<usize>,
    sums: Sums,
}

/// Zeroed training state for a model, as [`Session::new`] wants it.
pub fn train_state(loaded: &Loaded) -> Result<TrainState> {
    ranked_train_state(loaded, RankLayout::ALONE)
}

/// The same as one of several ranks has it.
pub fn ranked_train_state(loaded: &Loaded, layout: RankLayout) -> Result<TrainState> {
    let parameters = &loaded.parameters;
    let part = layout.shard.range(parameters.slab.len(), STEP)?;
    let slab = |len: usize| Tensor::persistent(parameters.device(), [len], DType::F32);
    let segments = table(&within(&parameters.segments(), &part), part.len());
    let on_device = Tensor::persistent(parameters.device(), [segments.len()], DType::I32)?;
    on_device.write(&segments)?;
    let g = slab(parameters.slab.len())?;
    Ok(TrainState {
        gradients: RefCell::new(parameters.gradients(&g)?),
        g,
        m: slab(part.len())?,
        v: slab(part.len())?,
        segments: on_device,
        part,
        sums: Sums::new(parameters.device(), parameters.slab.len(), layout)?,
    })
}

impl TrainState {
    /// AdamW's first and second moments of [`TrainState::part`].
    pub(super) fn moments(&self) -> [&Tensor; 2] {
        [&self.m, &self.v]
    }

    /// The elements of the parameters' slab that this rank updates.
    pub(super) fn part(&self) -> Range<usize> {
        self.part.clone()
    }

    /// Takes the moments of this rank's part from those of all parameters.
    pub(super) fn take_moments(&self, all: &[Vec<f32>; 2]) -> Result<()> {
        for (slab, all) in self.moments().into_iter().zip(all) {
            slab.write(&all[self.part()])?;
        }
        Ok(())
    }

    /// Zeroes the gradients that no step has written.
    pub(super) fn complete_gradients(&self) -> Result<()> {
        self.gradients.borrow_mut().finish()
    }

    /// Whether no gradient has been collected since the last optimizer step.
    pub(super) fn is_fresh(&self) -> bool {
        self.gradients.borrow().is_fresh()
    }

    /// The gradients collected so far, a slab like the parameters'.
    pub(super) fn gradients(&self) -> &Tensor {
        &self.g
    }

    /// The gradients whose sums over ranks are here.
    fn summed(&self) -> Result<Tensor> {
        match self.sums.are_shared_out() {
            true => self.g.slice(self.part.start, [self.part.len()]),
            false => Ok(self.g.clone()),
        }
    }

    /// Their sums over ranks on GPUs.
    pub(super) fn sums(&self) -> &Sums {
        &self.sums
    }
}

impl AsRef<TrainState> for TrainState {
    fn as_ref(&self) -> &TrainState {
        self
    }
}

/// What an optimizer step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss per target token of the whole batch.
    pub loss: f32,
    /// Before clipping.
    pub grad_norm: f32,
    pub learning_rate: f64,
}

/// Adds the gradients of one micro-batch; its share of the loss, divided by `normaliser` tokens.
pub fn micro_step<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    source: &Source,
    target: &Target,
    rule: LossRule,
    randomness: Randomness,
) -> Result<f32> {
    micro_step_by(session, source, target, ["train", "train.add"], |side: &Side<X>, _| {
        forward_backward(side, source, target, rule, randomness)
    })
}

/// The same by `work`, a step of its own kind where it assigns gradients, and of another where it adds to them: what adds
/// launches otherwise.
pub(super) fn micro_step_by<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    source: &Source,
    target: &Target,
    [assigns, adds]: [&'static str; 2],
    work: impl Fn(&Side<X>, &Signature) -> Result<Tensor>,
) -> Result<f32> {
    if target.labels.is_empty() {
        return Err(Error::data(
            "labels",
            "all labels of the batch are ignored; there is nothing to learn from",
        ));
    }
    let shape = source.signature().into_iter().chain(target.signature());
    let kind = if session.real().state.as_ref().is_fresh() { assigns } else { adds };
    let signature = Signature::new(kind, shape);
    Ok(session.read::<f32>(signature.clone(), |side: &Side<X>| work(side, &signature))?[0])
}

/// The loss of one micro-batch, whose gradients it adds.
pub(super) fn forward_backward<X: AsRef<TrainState>>(
    side: &Side<X>,
    source: &Source,
    target: &Target,
    rule: LossRule,
    randomness: Randomness,
) -> Result<Tensor> {
    forward_backward_by(side, source, target, rule, randomness, |tape, loss, gradients| {
        tape.backward(loss, 1.0, gradients)
    })
}

/// The same with the backward pass by `backward`.
pub(super) fn forward_backward_by<X: AsRef<TrainState>>(
    side: &Side<X>,
    source: &Source,
    target: &Target,
    rule: LossRule,
    randomness: Randomness,
    backward: impl FnOnce(Tape, &Tensor, &mut Gradients) -> Result<()>,
) -> Result<Tensor> {
    let tape = Tape::training(side.device(), randomness)?;
    let batch = DeviceBatch::upload(side.device(), source, target, rule)?;
    let loss = side.loaded.model.loss(&tape, &batch)?;
    let mut gradients = side.state.as_ref().gradients.borrow_mut();
    backward(tape, &loss, &mut gradients)?;
    Ok(loss)
}

/// Loss of one batch without dropout and gradients, divided by the rule's tokens.
pub fn loss_step<X>(
    session: &mut Session<X>,
    source: &Source,
    target: &Target,
    rule: LossRule,
) -> Result<f32> {
    let shape = source.signature().into_iter().chain(target.signature());
    let loss = session.read::<f32>(Signature::new("loss", shape), |side: &Side<X>| {
        let batch = DeviceBatch::upload(side.device(), source, target, rule)?;
        side.loaded.model.loss(&Tape::off(), &batch)
    })?;
    Ok(loss[0])
}

/// Forgets the gradients collected since the last optimizer step.
pub fn forget_gradients<X: AsRef<TrainState>>(session: &Session<X>) {
    let state = session.real().state.as_ref();
    state.gradients.borrow_mut().reset();
}

/// The norm of the gradients collected since the last optimizer step, which keeps them; of those that this rank updates with
/// where it has no others' sums.
pub(super) fn norm_step<X: AsRef<TrainState>>(session: &mut Session<X>) -> Result<f32> {
    let norm = session.read::<f32>(Signature::new("gradient-norm", []), |side: &Side<X>| {
        let _phase = phase("optimizer");
        let state = side.state.as_ref();
        state.gradients.borrow_mut().finish()?;
        gradient_norm(&state.summed()?)
    })?;
    Ok(norm[0])
}

/// `update_step` of a run that has skipped no step; a norm that is not finite is an error.
pub fn optimizer_step<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    options: &Options,
    step: u64,
    total: u64,
) -> Result<(f32, f64)> {
    optimizer_step_by(session, options, step, total, None)
}

/// The same with the norm of all ranks' gradients, where this one has not all.
pub(super) fn optimizer_step_by<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    options: &Options,
    step: u64,
    total: u64,
    norm: Option<f32>,
) -> Result<(f32, f64)> {
    let (norm, rate) = update_step(session, options, Moment { step, total, updates: step }, norm)?;
    match norm.is_finite() {
        true => Ok((norm, rate)),
        false => Err(Error::data(
            format!("step {}", step + 1),
            format!("the gradient norm is {norm}; lower --learning-rate or look at this batch"),
        )),
    }
}

/// When an update happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Steps done before, which the schedule counts.
    pub step: u64,
    pub total: u64,
    /// Updates made before, which the moments count.
    pub updates: u64,
}

/// Clips, updates all parameters and forgets the gradients; (norm before clipping, learning rate).
///
/// A norm that is not finite leaves the parameters and moments as they are. It is that of this rank's gradients unless it is
/// given.
pub(super) fn update_step<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    options: &Options,
    at: Moment,
    norm: Option<f32>,
) -> Result<(f32, f64)> {
    let rate = learning_rate(options, at.step, at.total);
    let kind = if norm.is_some() { "optimizer.given" } else { "optimizer" };
    let norm = session.read::<f32>(Signature::new(kind, []), |side: &Side<X>| {
        let _phase = phase("optimizer");
        let state = side.state.as_ref();
        let rule = AdamW {
            beta1: options.adam_beta1 as f32,
            beta2: options.adam_beta2 as f32,
            eps: options.adam_epsilon as f32,
            weight_decay: options.weight_decay as f32,
            max_grad_norm: options.max_grad_norm as f32,
            hf: options.optim == Optimizer::AdamwHf,
        };
        let rates = rule.rates(side.device(), rate as f32, at.updates + 1)?;
        let norm = norm.map(|norm| Tensor::upload(side.device(), [1], &[norm])).transpose()?;
        state.gradients.borrow_mut().finish()?;
        let norm = norm.map_or_else(|| gradient_norm(&state.g), Ok)?;
        let of_part = |slab: &Tensor| slab.slice(state.part.start, [state.part.len()]);
        let parameters = &side.loaded.parameters;
        let (p, g) = (of_part(&parameters.slab)?, of_part(&state.g)?);
        let copy = parameters.working.as_ref().map(of_part).transpose()?;
        let slabs = State {
            p: &p,
            m: &state.m,
            v: &state.v,
            copy: copy.as_ref(),
            g: &g,
            segments: &state.segments,
            norm: &norm,
            rates: &rates,
        };
        adamw(slabs, rule)?;
        state.gradients.borrow_mut().reset();
        Ok(norm)
    })?[0];
    Ok((norm, rate))
}
