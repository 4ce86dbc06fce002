//! The training settings of a cell with the batch that it has, which may be the largest that fits.

use super::{Material, Part};
use crate::error::{Error, Result};
use crate::study::forecast::needs;
use crate::study::grid::BatchSize;
use crate::train::{Options, largest_batch};
use crate::units::Bytes;

/// The plan's settings, or those with the largest batch that its memory, or else what is free, holds.
pub fn choose(material: &Material, train: &Part, validation: &Part) -> Result<Options> {
    let run = material.run;
    let options = run.plan.train.clone();
    if let BatchSize::Of(_) = run.plan.batch_size {
        return Ok(options);
    }
    let free = run.device.free().map(|bytes| Bytes(bytes as u64));
    let Some(budget) = run.plan.memory.map(|memory| memory.0).or(free) else {
        return Err(Error::usage(
            "nobody knows how much memory is free here: give the study's `memory` with the batch size \"largest\"",
        ));
    };
    let with = |size| Options { per_device_train_batch_size: size, ..options.clone() };
    let config = material.model.join("config.json");
    let planned = |size| {
        let needed =
            needs(&config, run.plan, material.options, &train.corpus, &validation.corpus, &with(size))?;
        Ok(((), needed.total))
    };
    match largest_batch(train.examples.len(), budget, planned)?.fits {
        Some(fits) => Ok(with(fits.batch)),
        None => Err(Error::DoesNotFit(format!(
            "{}: not even a batch of 1 fits into {budget}; shorten the inputs or choose a smaller model",
            run.plan.name
        ))),
    }
}
