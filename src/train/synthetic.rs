//! Random batches, and the parts of a training step that are measured and planned on them.

use super::options::Options;
use super::overlap::last_micro_step;
use super::ranks::{gather_weights, shared_norm, sum_gradients, sum_losses};
use super::shard::Sharing;
use super::step::{
    TrainState, forget_gradients, loss_step, optimizer_step_by, ranked_train_state, train_state,
};
use crate::collective::Group;
use crate::device::plan::Recording;
use crate::device::{Device, Precision, Used};
use crate::error::{Error, Result};
use crate::models::batch::{Source, SourceRows, Target};
use crate::models::session::{Session, Side, Signature};
use crate::models::{self, Loaded, LossRule, ModelLimits};
use crate::tape::{Randomness, Tape};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::rc::Rc;

/// How much of a training step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The encoder in evaluation mode.
    Encoder,
    /// Encoder, decoder and loss in evaluation mode.
    Forward,
    /// Forward with dropout, and all gradients.
    ForwardBackward,
    /// Forward, backward, clipping and the optimizer.
    Train,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::Encoder, Mode::Forward, Mode::ForwardBackward, Mode::Train];

    /// Whether there is a backward pass.
    pub fn has_gradients(self) -> bool {
        matches!(self, Mode::ForwardBackward | Mode::Train)
    }

    pub fn name(self) -> &'static str {
        match self {
            Mode::Encoder => "encoder",
            Mode::Forward => "forward",
            Mode::ForwardBackward => "forward-backward",
            Mode::Train => "train",
        }
    }
}

/// B x S random tokens in, the first of each row global, and B x T random labels.
pub fn synthetic_batch(
    limits: &ModelLimits,
    batch: usize,
    source_len: usize,
    target_len: usize,
    seed: u64,
) -> Result<(Source, Target)> {
    let mut rng = rand_mt::Mt64::new(seed);
    let mut ids =
        |n: usize| -> Vec<i64> { (0..n).map(|_| (rng.next_u64() % limits.vocab as u64) as i64).collect() };
    let (tokens, labels) = (ids(batch * source_len), ids(batch * target_len));
    let global: Vec<i64> = (0..tokens.len()).map(|at| (at % source_len == 0) as i64).collect();
    let rows = SourceRows { batch, ids: &tokens, attention_mask: None, global_attention_mask: Some(&global) };
    Ok((Source::new(limits, rows)?, Target::from_labels(limits, batch, &labels)?))
}

/// A model with the state that a mode needs, and no more: forward modes hold no gradients or moments.
pub struct Stepper {
    mode: Mode,
    session: Either,
    options: Options,
    steps: u64,
    group: Rc<Group>,
}

enum Either {
    Forward(Box<Session<()>>),
    Train(Box<Session<TrainState>>),
}

impl Stepper {
    pub fn new(loaded: Loaded, options: models::ModelOptions, mode: Mode) -> Result<Self> {
        Self::among(loaded, options, mode, Sharing::default(), &Rc::new(Group::alone()))
    }

    /// One of the ranks of `group`, which sum their gradients: each has a micro-batch of its own of the same size.
    pub fn among(
        loaded: Loaded,
        options: models::ModelOptions,
        mode: Mode,
        sharing: Sharing,
        group: &Rc<Group>,
    ) -> Result<Self> {
        if group.is_alone() && !sharing.is_default() {
            return Err(Error::usage(
                "--zero-stage and --communication-data-type are for several ranks, and this is one: give --devices N, or \
                 leave them out",
            ));
        }
        let layout = sharing.layout(loaded.parameters.device(), group);
        let session = match mode {
            Mode::Encoder | Mode::Forward => {
                Either::Forward(Box::new(Session::new(loaded, options, |_| Ok(()))?))
            }
            Mode::ForwardBackward | Mode::Train => {
                let state = |loaded: &Loaded| ranked_train_state(loaded, layout);
                Either::Train(Box::new(Session::new(loaded, options, state)?))
            }
        };
        let mut this = Self::over(session, mode);
        this.options.communication_data_type = sharing.communication_data_type;
        this.group = group.clone();
        match this.session {
            Either::Train(_) => this.device().meet(group).map(|()| this),
            Either::Forward(_) => Ok(this),
        }
    }

    /// A stepper that only plans the model of the configuration file `config`.
    pub fn dry_run(
        config: &Path,
        precision: Precision,
        options: models::ModelOptions,
        mode: Mode,
    ) -> Result<Self> {
        let session = match mode {
            Mode::Encoder | Mode::Forward => {
                Either::Forward(Box::new(Session::dry_run(config, precision, options, |_| Ok(()))?))
            }
            Mode::ForwardBackward | Mode::Train => {
                Either::Train(Box::new(Session::dry_run(config, precision, options, train_state)?))
            }
        };
        Ok(Self::over(session, mode))
    }

    fn over(session: Either, mode: Mode) -> Self {
        Stepper { mode, session, options: Options::default(), steps: 0, group: Rc::new(Group::alone()) }
    }

    /// Does the mode's work once; the loss, 0 where there is none.
    pub fn run(&mut self, source: &Source, target: &Target) -> Result<f32> {
        let tokens = target.labels.len() * self.group.size();
        let rule = LossRule { normaliser: tokens as f32, smoothing: 0.0 };
        let step = self.steps;
        self.steps += 1;
        let session = match &mut self.session {
            Either::Forward(session) if self.mode == Mode::Encoder => {
                encode_step(session, source)?;
                return Ok(0.0);
            }
            Either::Forward(session) => return loss_step(session, source, target, rule),
            Either::Train(session) => session,
        };
        let randomness = Randomness { seed: self.options.seed, step };
        let loss = last_micro_step(session, source, target, rule, randomness, &self.group)?;
        let loss = sum_losses(&[loss], &self.group);
        sum_gradients(session, &self.group, self.options.communication_data_type)?;
        match self.mode {
            Mode::Train => {
                // The schedule stands still: a run of any length does the same work.
                let norm = shared_norm(session, &self.group)?;
                optimizer_step_by(session, &self.options, 0, 1, norm)?;
                gather_weights(session, &self.group)?;
            }
            _ => forget_gradients(session),
        }
        Ok(loss)
    }

    pub fn loaded(&self) -> &Loaded {
        match &self.session {
            Either::Forward(session) => &session.real().loaded,
            Either::Train(session) => &session.real().loaded,
        }
    }

    pub fn device(&self) -> &Device {
        self.loaded().parameters.device()
    }

    /// Bytes the plan foresees for the steps run so far.
    pub fn planned(&self) -> Used {
        match &self.session {
            Either::Forward(session) => session.planned(),
            Either::Train(session) => session.planned(),
        }
    }

    /// The plan of every step run so far, by name and shapes, in no order.
    pub fn recordings(&self) -> Vec<(&Signature, &Recording)> {
        match &self.session {
            Either::Forward(session) => session.recordings().collect(),
            Either::Train(session) => session.recordings().collect(),
        }
    }
}

fn encode_step<X>(session: &mut Session<X>, source: &Source) -> Result<()> {
    let signature = Signature::new("encode", source.signature());
    session.step(signature, |side: &Side<X>| {
        let on_device = source.upload(side.device())?;
        side.loaded.model.encode(&Tape::off(), &on_device)?;
        Ok(())
    })?;
    session.real().device().synchronize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/led_plain/config.json")
    }

    #[test]
    fn a_dry_run_foresees_what_the_device_then_uses() {
        for mode in Mode::ALL {
            let options = models::ModelOptions::default();
            let mut dry = Stepper::dry_run(&config(), Precision::Fp32, options, mode).unwrap();
            let limits = dry.loaded().model.limits();
            let (source, target) = synthetic_batch(&limits, 2, 40, 7, 1).unwrap();
            dry.run(&source, &target).unwrap();
            let loaded = models::random(&config(), &Device::cpu(), options, 1).unwrap();
            let mut real = Stepper::new(loaded, options, mode).unwrap();
            let loss = real.run(&source, &target).unwrap();
            assert!(loss.is_finite());
            assert_eq!(loss > 0.0, mode != Mode::Encoder);
            assert_eq!(dry.planned(), real.device().used(), "{}", mode.name());
        }
    }

    #[test]
    fn forward_holds_the_weights_alone_and_training_four_slabs() {
        let persistent = |mode| {
            let stepper =
                Stepper::dry_run(&config(), Precision::Fp32, models::ModelOptions::default(), mode).unwrap();
            let weights = stepper.loaded().parameters.slab.len() * 4;
            (stepper.planned().persistent, weights)
        };
        let (held, weights) = persistent(Mode::Forward);
        assert_eq!(held, weights);
        let (held, weights) = persistent(Mode::Train);
        assert!(held > 4 * weights);
    }
}
