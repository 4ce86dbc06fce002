//! The largest batch that a memory budget holds.

use super::estimate::{Estimate, Shapes};
use crate::error::{Error, Result};
use crate::train::largest_batch;
use crate::units::Bytes;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Fit {
    pub budget: Bytes,
    pub batch_size: usize,
    /// With the estimate of NCCL's part on several GPUs.
    pub total: Bytes,
    /// The smallest batch that does not fit; none when indices end before memory does.
    pub next: Option<Next>,
}

#[derive(Debug, Serialize)]
pub struct Next {
    pub batch_size: usize,
    pub total: Bytes,
}

/// The plan of the largest batch within `budget`.
pub fn largest(shapes: &Shapes, budget: Bytes) -> Result<(Estimate, Fit)> {
    let found = largest_batch(shapes.largest_batch(), budget, |batch| {
        let estimate = shapes.estimate(batch)?;
        let total = estimate.memory.claim();
        Ok((estimate, total))
    })?;
    let next = found.next.map(|next| Next { batch_size: next.batch, total: next.plan.memory.claim() });
    match (found.fits, next) {
        (Some(fits), next) => {
            let fit = Fit { budget, batch_size: fits.batch, total: fits.plan.memory.claim(), next };
            Ok((fits.plan, fit))
        }
        (None, Some(next)) => Err(Error::DoesNotFit(format!(
            "a batch of 1 needs {}, more than {budget}: choose shorter lengths, a smaller model or a lighter --mode",
            next.total
        ))),
        // Then the plan says what cannot be counted.
        (None, None) => shapes.estimate(1).and(Err(Error::internal("a batch of 1 is planned or refused"))),
    }
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
