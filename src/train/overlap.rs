//! Gradients that ranks on GPUs sum while the backward pass goes on.

use super::step::{TrainState, forward_backward_by, micro_step, micro_step_by};
use crate::collective::{Backend, Group};
use crate::error::Result;
use crate::models::LossRule;
use crate::models::batch::{Source, Target};
use crate::models::session::{Session, Side};
use crate::tape::Randomness;

/// Adds the gradients of a rank's last micro-batch before they are summed over `group`, as [`micro_step`] does, and begins
/// to sum them meanwhile where GPUs do that among themselves.
pub(super) fn last_micro_step<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    source: &Source,
    target: &Target,
    rule: LossRule,
    randomness: Randomness,
    group: &Group,
) -> Result<f32> {
    if session.real().device().backend(group) == Backend::Host {
        return micro_step(session, source, target, rule, randomness);
    }
    micro_step_by(session, source, target, ["train.sum", "train.add.sum"], |side: &Side<X>, step| {
        let state = side.state.as_ref();
        let (sums, slab) = (state.sums(), state.gradients());
        forward_backward_by(side, source, target, rule, randomness, |tape, loss, gradients| {
            gradients.watch(sums.known(step), sums.buckets(), Box::new(sums.act(slab)))?;
            tape.backward(loss, 1.0, gradients)?;
            sums.note(step, gradients.watched());
            Ok(())
        })
    })
}
