//! Where a step's arithmetic first leaves the finite numbers.

use super::step::{TrainState, forget_gradients, forward_backward};
use crate::error::Result;
use crate::models::LossRule;
use crate::models::batch::{Source, Target};
use crate::models::session::Session;
use crate::tape::Randomness;
use crate::tensor::watch;
use crate::trace::Pass;

/// Repeats a micro-batch launch by launch and names the first tensor that is not finite, if there is one.
///
/// Collected gradients are lost.
pub fn diagnose<X: AsRef<TrainState>>(
    session: &Session<X>,
    source: &Source,
    target: &Target,
    rule: LossRule,
    randomness: Randomness,
) -> Result<Option<String>> {
    let side = session.real();
    let parameters = &side.loaded.parameters;
    let slab = parameters.slab.read::<f32>()?;
    for entry in &parameters.entries {
        if let Some(value) = entry.of(&slab).iter().find(|value| !value.is_finite()) {
            return Ok(Some(format!("{value} in the weight {}", entry.name)));
        }
    }
    forget_gradients(session);
    let (outcome, found) =
        watch::first_nonfinite(|| forward_backward(side, source, target, rule, randomness));
    outcome?;
    let gradients = side.state.as_ref().gradients().read::<f32>()?;
    forget_gradients(session);
    if let Some(found) = found {
        let pass = match found.phase.pass {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        };
        return Ok(Some(format!(
            "{} in {} of {}, {} {pass}",
            found.value, found.output, found.kernel, found.phase.label
        )));
    }
    // Every gradient is finite, and their norm was not: it left what f32 holds, or they add up beyond it.
    let largest = parameters.entries.iter().filter(|entry| entry.trainable).max_by(|a, b| {
        let norm = |entry: &&crate::nn::Entry| -> f64 {
            entry.of(&gradients).iter().map(|&g| (g as f64).powi(2)).sum()
        };
        norm(a).total_cmp(&norm(b))
    });
    Ok(largest.map(|entry| format!("the norm itself; the largest gradient is that of {}", entry.name)))
}
