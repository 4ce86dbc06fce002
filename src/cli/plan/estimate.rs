//! Memory and cost of one step, by phase.

use super::super::choices::{Truncation, check_batch, largest_batch};
use crate::device::{Cost, Precision};
use crate::error::Result;
use crate::limits;
use crate::models::{ModelLimits, ModelOptions};
use crate::table::{Column, Table, width};
use crate::trace::{Pass, Phase};
use crate::train::synthetic::{Mode, Stepper, synthetic_batch};
use crate::train::{Lengths, Parts, RankLayout};
use crate::units::{Bytes, Flops, Format, Joules, Quantity, Seconds};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A model, a mode and lengths: all that a batch size turns into a step.
pub struct Shapes<'a> {
    config: &'a Path,
    precision: Precision,
    options: ModelOptions,
    mode: Mode,
    lengths: Lengths,
    /// Limits of the GPU to predict for.
    gpu: Option<limits::Limits>,
    layout: RankLayout,
}

/// What a step needs and does.
#[derive(Debug, Serialize)]
pub struct Estimate {
    pub mode: Mode,
    pub batch_size: usize,
    pub max_source_length: usize,
    pub max_target_length: usize,
    pub parameters: usize,
    pub memory: Memory,
    pub work: Work,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Predicted>,
    /// Work by phase and pass, the most FLOPs first.
    pub phases: Vec<PhaseWork>,
}

/// What the step takes at best on a GPU: no launch is faster than the GPU's limits.
#[derive(Debug, Serialize)]
pub struct Predicted {
    pub gpu: String,
    #[serde(rename = "least_s")]
    pub least: Seconds,
    /// The part of it in the backward pass.
    #[serde(rename = "least_backward_s")]
    pub least_backward: Seconds,
    /// In that time at the power limit, which is the most.
    #[serde(rename = "energy_at_power_limit_j")]
    pub energy: Option<Joules>,
}

/// Bytes on the device.
#[derive(Debug, Serialize)]
pub struct Memory {
    #[serde(flatten)]
    pub parts: Parts,
    /// The step arena, of which every activation gets a part.
    pub arena: Bytes,
    /// The most bytes of the arena in use at once: no layout can need less.
    pub arena_live: Bytes,
    pub total: Bytes,
    /// What NCCL takes beside the total on each of several GPUs, which it does not say: an estimate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nccl_estimate: Option<Bytes>,
}

/// Launches and what they cost.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Work {
    pub launches: usize,
    pub flops: Flops,
    /// Read and written.
    pub bytes: Bytes,
    pub exponentials: u64,
}

#[derive(Debug, Serialize)]
pub struct PhaseWork {
    #[serde(flatten)]
    pub phase: Phase,
    #[serde(flatten)]
    pub work: Work,
}

impl Work {
    fn add(&mut self, cost: Cost) {
        self.launches += 1;
        self.flops += cost.flops;
        self.bytes += cost.bytes;
        self.exponentials += cost.exponentials;
    }
}

impl<'a> Shapes<'a> {
    pub fn new(
        config: &'a Path,
        precision: Precision,
        options: ModelOptions,
        mode: Mode,
        truncation: &Truncation,
    ) -> Result<Self> {
        let stepper = Stepper::dry_run(config, precision, options, Mode::Encoder)?;
        let limits = stepper.loaded().model.limits();
        let lengths = truncation.lengths(&limits);
        lengths.check(&limits)?;
        Ok(Shapes { config, precision, options, mode, lengths, gpu: None, layout: RankLayout::ALONE })
    }

    /// With a prediction for the GPU that has these limits.
    pub fn on(self, gpu: Option<limits::Limits>) -> Self {
        Shapes { gpu, ..self }
    }

    /// On one of several GPUs, which has this.
    pub fn among(self, layout: RankLayout) -> Self {
        Shapes { layout, ..self }
    }

    /// The most examples whose tokens a 32-bit index can count.
    pub fn largest_batch(&self) -> usize {
        largest_batch(self.lengths)
    }

    /// Plans one step of `batch` examples that use every token they may.
    pub fn estimate(&self, batch: usize) -> Result<Estimate> {
        check_batch(batch, self.lengths)?;
        let mut stepper = Stepper::dry_run(self.config, self.precision, self.options, self.mode)?;
        let limits: ModelLimits = stepper.loaded().model.limits();
        let Lengths { source, target } = self.lengths;
        let (sources, targets) = synthetic_batch(&limits, batch, source, target, 0)?;
        stepper.run(&sources, &targets)?;

        let mut work = Work::default();
        let mut by_phase: BTreeMap<Phase, Work> = BTreeMap::new();
        let (mut arena, mut live) = (0, 0);
        let (mut least, mut backward) = (Seconds(0.0), Seconds(0.0));
        for (_, recording) in stepper.recordings() {
            arena = arena.max(recording.layout.peak());
            live = live.max(recording.layout.live_peak());
            if let Some(gpu) = &self.gpu {
                least += gpu.least_of(&recording.launches, self.precision);
                let of_backward =
                    recording.launches.iter().filter(|launch| launch.phase.pass == Pass::Backward);
                backward += gpu.least_of(of_backward, self.precision);
            }
            for launch in &recording.launches {
                work.add(launch.cost);
                by_phase.entry(launch.phase).or_default().add(launch.cost);
            }
        }
        let mut phases: Vec<PhaseWork> =
            by_phase.into_iter().map(|(phase, work)| PhaseWork { phase, work }).collect();
        phases.sort_by_key(|p| std::cmp::Reverse(p.work.flops.0));
        Ok(Estimate {
            mode: self.mode,
            batch_size: batch,
            max_source_length: source,
            max_target_length: target,
            parameters: stepper.loaded().parameters.trainable(),
            memory: memory(&stepper, arena, live, self.layout),
            work,
            predicted: self.gpu.as_ref().map(|gpu| Predicted {
                gpu: gpu.device.clone(),
                least,
                least_backward: backward,
                energy: gpu.energy(least),
            }),
            phases,
        })
    }
}

fn memory(stepper: &Stepper, arena: usize, live: usize, layout: RankLayout) -> Memory {
    let persistent = stepper.planned().persistent + layout.copied(stepper.loaded().parameters.slab.len());
    let bytes = |n: usize| Bytes(n as u64);
    Memory {
        parts: Parts::new(stepper.loaded(), persistent, layout),
        arena: bytes(arena),
        arena_live: bytes(live),
        total: bytes(persistent + arena),
        nccl_estimate: (layout.nccl > 0).then_some(bytes(layout.nccl)),
    }
}

impl Memory {
    /// What must be free, an estimate of NCCL's part included.
    pub fn claim(&self) -> Bytes {
        self.total + self.nccl_estimate.unwrap_or_default()
    }
}

impl Estimate {
    pub fn text(&self) -> String {
        let Memory { parts, arena, arena_live, total, nccl_estimate } = &self.memory;
        let Parts { weights, gradients, optimizer, communication } = parts;
        let communication = match communication.0 {
            0 => String::new(),
            _ => format!("communication {communication}, "),
        };
        let nccl = nccl_estimate.map_or(String::new(), |nccl| {
            format!("NCCL takes about {nccl} more, an estimate (NCCL_BUFFSIZE, NCCL_MAX_NCHANNELS)\n")
        });
        let mut text = format!(
            "{} of {} x {} tokens in, {} out; {} parameters\n\
             memory {total}: weights {weights}, gradients {gradients}, optimizer {optimizer}, \
             {communication}arena {arena} ({arena_live} in use at most)\n{nccl}",
            self.mode.name(),
            self.batch_size,
            self.max_source_length,
            self.max_target_length,
            self.parameters,
        );
        if let Some(Predicted { gpu, least, energy, .. }) = &self.predicted {
            let energy =
                energy.map_or(String::new(), |energy| format!(", {energy} in that time at the power limit"));
            text += &format!("predicted: {least} at least at the limits of {gpu}{energy}\n");
        }
        let mut rows: Vec<(&str, &str, Work)> =
            self.phases.iter().map(|of| (of.phase.label, of.phase.pass.name(), of.work)).collect();
        rows.push(("all", "", self.work));
        let columns = [
            Column::words("phase", |row: &(&str, &str, Work)| row.0),
            Column::words("pass", |row: &(&str, &str, Work)| row.1),
            Column::number("launches", Format::Integer, |row: &(&str, &str, Work)| row.2.launches),
            Column::number("FLOPs", Format::Each(Quantity::Work), |row: &(&str, &str, Work)| row.2.flops.0),
            Column::number("traffic", Format::Each(Quantity::Memory), |row: &(&str, &str, Work)| {
                row.2.bytes.0
            }),
            Column::number("exponentials", Format::Integer, |row: &(&str, &str, Work)| row.2.exponentials)
                .rank(1),
        ];
        format!("{text}\n{}", Table::new(&columns, &rows).text(width()))
    }
}
