//! The largest batch that a memory budget holds.

use super::estimate::{Estimate, Shapes};
use serde::Serialize;
use wattention::error::{Error, Result};
use wattention::units::Bytes;

#[derive(Debug, Serialize)]
pub struct Fit {
    pub budget: Bytes,
    pub batch_size: usize,
    pub total: Bytes,
    /// The smallest batch that does not fit; none when indices end before memory does.
    pub next: Option<Next>,
}

#[derive(Debug, Serialize)]
pub struct Next {
    pub batch_size: usize,
    pub total: Bytes,
}

/// Doubles the batch until it is too large, then halves the interval.
pub fn largest(shapes: &Shapes, budget: Bytes) -> Result<(Estimate, Fit)> {
    let mut fits = shapes.estimate(1)?;
    if fits.memory.total.0 > budget.0 {
        return Err(Error::DoesNotFit(format!(
            "a batch of 1 needs {}, more than {budget}: choose shorter lengths, a smaller model or a lighter --mode",
            fits.memory.total
        )));
    }
    let most = shapes.largest_batch();
    let mut next: Option<Next> = None;
    loop {
        let low = fits.batch_size;
        let batch = match &next {
            Some(next) => low + (next.batch_size - low) / 2,
            None => (2 * low).min(most),
        };
        if batch == low {
            break;
        }
        let estimate = shapes.estimate(batch)?;
        match estimate.memory.total.0 > budget.0 {
            false => fits = estimate,
            true => {
                next = Some(Next { batch_size: batch, total: estimate.memory.total });
            }
        }
    }
    let fit = Fit { budget, batch_size: fits.batch_size, total: fits.memory.total, next };
    Ok((fits, fit))
}

impl Fit {
    pub fn text(&self) -> String {
        let Fit { budget, batch_size, total, next } = self;
        let next = next
            .as_ref()
            .map_or(String::new(), |next| format!("; {} would need {}", next.batch_size, next.total));
        format!("largest batch within {budget}: {batch_size}, which needs {total}{next}")
    }
}
