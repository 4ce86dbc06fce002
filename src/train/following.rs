//! How the ranks of a run stay one: all begin as the first does, and none comes apart from the others.

use super::events::Observer;
use super::ranks::{agree_on_weights, broadcast};
use super::state::TrainerState;
use super::step::TrainState;
use super::trainer::Trainer;
use crate::error::{Error, Result};

impl<X: AsRef<TrainState>> Trainer<'_, X> {
    /// Takes weights, moments and state from the first rank, which may have restored them from a checkpoint.
    pub fn follow_first(mut self) -> Result<Self> {
        if self.group.is_alone() {
            return Ok(self);
        }
        self.session.real().device().meet(&self.group)?;
        let mut text = to_json(&self.state)?;
        self.group.broadcast(&mut text);
        let of_first =
            |e: serde_json::Error| Error::internal(format!("the state of rank 0 is no state: {e}"));
        self.state = serde_json::from_slice(&text).map_err(of_first)?;
        self.take_weights()?;
        if self.state.global_step > 0 {
            let elements = self.session.real().loaded.parameters.slab.len();
            let mut moments = std::mem::take(&mut self.restored).unwrap_or_default();
            for values in &mut moments {
                values.resize(elements, 0.0);
                self.group.broadcast_values(values);
            }
            self.session.real().state.as_ref().take_moments(&moments)?;
        }
        self.check_weights()?;
        Ok(self)
    }

    /// Takes the weights of the first rank.
    pub(super) fn take_weights(&self) -> Result<()> {
        let parameters = &self.session.real().loaded.parameters;
        broadcast(&parameters.slab, &self.group)?;
        parameters.refresh()
    }

    /// Fails if the ranks' weights have come apart, which no step may do.
    pub(super) fn check_weights(&self) -> Result<()> {
        let name = format!("weights after step {}", self.state.global_step);
        agree_on_weights(&self.session.real().loaded.parameters, &self.group, &name)
    }

    /// The signal that asks any of the ranks to stop: on all ranks at the same step.
    pub(super) fn asked(&self, observer: &dyn Observer) -> Option<i32> {
        self.group.asked(observer.interrupted())
    }
}

fn to_json(state: &TrainerState) -> Result<Vec<u8>> {
    serde_json::to_vec(state).map_err(|e| Error::internal(format!("the state is not JSON: {e}")))
}
