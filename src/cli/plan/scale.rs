//! The step on many GPUs: what is predicted of data parallel training.

use super::estimate::Estimate;
use crate::collective::CommunicationType;
use crate::collective::scale::{Interconnect, Scaled, Step, scaled, sizes};
use crate::error::{Error, Result};
use crate::table::{Column, Table, width, wrapped};
use crate::train::synthetic::Mode;
use crate::units::{Format, Quantity, percent};
use serde::Serialize;

/// Below this share of the speed that as many single GPUs have, more of them are hardly worth their energy.
const BREAKS: f64 = 0.9;

#[derive(Debug, Serialize)]
pub struct Scale {
    pub interconnect: Interconnect,
    /// The type in which gradients are exchanged.
    pub communication_data_type: CommunicationType,
    pub assumptions: String,
    /// The smallest of `sizes` below 90 % of efficiency.
    pub breaks_at: Option<usize>,
    pub sizes: Vec<Scaled>,
}

impl Scale {
    /// The curve of `estimate`, of a training step on a described GPU, up to `most` of them.
    pub fn of(
        estimate: &Estimate,
        between: Interconnect,
        communication: CommunicationType,
        most: usize,
    ) -> Result<Self> {
        let Some(predicted) = estimate.predicted.as_ref().filter(|_| estimate.mode == Mode::Train) else {
            return Err(Error::usage(
                "--world-size predicts training steps of a GPU: give --gpu, and --mode train",
            ));
        };
        let step = Step {
            all: predicted.least,
            backward: predicted.least_backward,
            gradients: estimate.parameters,
            communication,
            batch: estimate.batch_size,
        };
        let sizes: Vec<Scaled> =
            sizes(most).into_iter().map(|size| scaled(step, &predicted.gpu, between, size)).collect();
        Ok(Scale {
            interconnect: between,
            communication_data_type: communication,
            assumptions: between.assumptions(&predicted.gpu, communication),
            breaks_at: sizes.iter().find(|size| size.efficiency < BREAKS).map(|size| size.world_size),
            sizes,
        })
    }

    pub fn text(&self) -> String {
        const TIME: Format = Format::Each(Quantity::Time);
        let columns = [
            Column::size("GPUs", |of: &Scaled| of.world_size),
            Column::number("exchange", TIME, |of: &Scaled| of.exchange.0),
            Column::number("not hidden", TIME, |of: &Scaled| of.exposed.0),
            Column::number("step", TIME, |of: &Scaled| of.step.0),
            Column::size("efficiency", |of: &Scaled| percent(100.0 * of.efficiency)),
            Column::number("examples/s", Format::Plain, |of: &Scaled| of.samples_per_second),
        ];
        let table = Table::new(&columns, &self.sizes).text(width());
        let breaks = match self.breaks_at {
            Some(size) => format!("Below 90 % of efficiency from {size} GPUs on."),
            None => "90 % of efficiency or more at all sizes.".into(),
        };
        [
            table,
            wrapped(&breaks, width(), 2),
            wrapped(&format!("Predicted. {}", self.assumptions), width(), 2),
        ]
        .join("\n")
    }
}
