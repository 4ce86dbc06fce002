//! A batch on the host, checked against a model's limits before anything is launched.

use super::{LossRule, ModelLimits};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Label value that takes no part in the loss (torch `ignore_index`).
pub const IGNORED: i64 = -100;

/// What an encoder reads, row-major `[B, S]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub batch: usize,
    /// S, as given.
    pub len: usize,
    /// S after padding to what the encoder works in (whole blocks).
    pub padded: usize,
    /// `[B, padded]`.
    pub ids: Vec<i32>,
    /// `[B, padded]`: 0 masked, 1 local, 2 global.
    pub key_state: Vec<i32>,
    /// `[B, globals]`: positions of each sample's global tokens ascending, -1 beyond them.
    pub global_index: Vec<i32>,
    /// G, the most global tokens of any sample.
    pub globals: usize,
}

/// What a decoder reads and is measured against, row-major `[B, T]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub batch: usize,
    pub len: usize,
    /// `[B, T]`.
    pub decoder_ids: Vec<i32>,
    /// The labels that count, in row order.
    pub labels: Vec<i32>,
    /// The rows of `[B * T]` that have them.
    pub label_rows: Vec<i32>,
}

impl ModelLimits {
    /// What the decoder reads before the first of a sample's labels.
    fn first_of(&self, labels: &[i64]) -> i64 {
        // As HF counts: a label in place of the pad token is none.
        let real = labels.iter().filter(|&&label| label != IGNORED && label != self.pad as i64).count();
        match (self.target_begins_with_last_label, real) {
            (true, 1..) => match labels[real - 1] {
                IGNORED => self.pad as i64,
                label => label,
            },
            _ => self.decoder_start as i64,
        }
    }
}

/// A source as given: rows of ids with optional masks, all `[B, S]`.
pub struct SourceRows<'a> {
    pub batch: usize,
    pub ids: &'a [i64],
    pub attention_mask: Option<&'a [i64]>,
    pub global_attention_mask: Option<&'a [i64]>,
}

impl Source {
    /// Merges the masks as HF LED does: a global flag on a masked token is lost.
    pub fn new(limits: &ModelLimits, rows: SourceRows) -> Result<Self> {
        let SourceRows { batch, ids, .. } = rows;
        if batch == 0 || ids.is_empty() || !ids.len().is_multiple_of(batch) {
            return Err(Error::data("input_ids", "must be a non-empty [B, S] array"));
        }
        let len = ids.len() / batch;
        for (name, mask) in
            [("attention_mask", rows.attention_mask), ("global_attention_mask", rows.global_attention_mask)]
        {
            let Some(mask) = mask else { continue };
            if mask.len() != ids.len() {
                return Err(Error::data(name, format!("must have the shape of input_ids, [{batch}, {len}]")));
            }
            if let Some(bad) = mask.iter().find(|&&v| v != 0 && v != 1) {
                return Err(Error::data(name, format!("holds {bad}; only 0 and 1 mean something")));
            }
        }
        if len > limits.max_source {
            return Err(Error::data(
                "input_ids",
                format!(
                    "{len} tokens exceed the encoder's {} positions; {}",
                    limits.max_source,
                    limits.remedy()
                ),
            ));
        }
        check_ids("input_ids", ids, limits.vocab)?;
        let padded = len.next_multiple_of(limits.source_multiple);
        let mut source = Source {
            batch,
            len,
            padded,
            ids: vec![limits.pad; batch * padded],
            key_state: vec![0; batch * padded],
            global_index: Vec::new(),
            globals: 0,
        };
        let mut positions: Vec<Vec<i32>> = vec![Vec::new(); batch];
        for (b, positions) in positions.iter_mut().enumerate() {
            for s in 0..len {
                let from = b * len + s;
                let to = b * padded + s;
                source.ids[to] = ids[from] as i32;
                let real = rows.attention_mask.is_none_or(|mask| mask[from] == 1);
                let global = rows.global_attention_mask.is_some_and(|mask| mask[from] == 1);
                source.key_state[to] = match (real, global && limits.has_global_attention) {
                    (false, _) => 0,
                    (true, false) => 1,
                    (true, true) => 2,
                };
                if source.key_state[to] == 2 {
                    positions.push(s as i32);
                }
            }
        }
        source.globals = positions.iter().map(Vec::len).max().unwrap_or(0);
        for mut row in positions {
            row.resize(source.globals, -1);
            source.global_index.extend(row);
        }
        Ok(source)
    }

    /// Makes room for `globals` global tokens of each sample, where there is less; the new places are empty.
    pub fn widen_globals(&mut self, globals: usize) {
        if globals > self.globals {
            let rows: Vec<&[i32]> = match self.globals {
                0 => vec![&[]; self.batch],
                before => self.global_index.chunks(before).collect(),
            };
            let widened = rows.iter().flat_map(|row| {
                let empty = std::iter::repeat_n(-1, globals - row.len());
                row.iter().copied().chain(empty)
            });
            self.global_index = widened.collect();
            self.globals = globals;
        }
    }

    /// Row numbers of the global tokens in `[B * padded]`, -1 where a sample has fewer.
    pub fn global_rows(&self) -> Vec<i32> {
        self.global_index
            .iter()
            .enumerate()
            .map(|(i, &s)| match s {
                ..0 => -1,
                _ => (i / self.globals * self.padded) as i32 + s,
            })
            .collect()
    }

    /// What the shapes of a step over this source depend on.
    pub fn signature(&self) -> [usize; 4] {
        [self.batch, self.len, self.padded, self.globals]
    }

    pub fn upload(&self, device: &Device) -> Result<DeviceSource> {
        let shape = [self.batch, self.padded];
        let globals = [self.batch, self.globals];
        Ok(DeviceSource {
            ids: Tensor::upload(device, shape, &self.ids)?,
            key_state: Tensor::upload(device, shape, &self.key_state)?,
            global_index: Tensor::upload(device, globals, &self.global_index)?,
            global_rows: Tensor::upload(device, [self.batch * self.globals], &self.global_rows())?,
            len: self.len,
        })
    }
}

impl Target {
    /// From labels `[B, T]`: shifted right with the start token in front, ignored ones fed as pad.
    pub fn from_labels(limits: &ModelLimits, batch: usize, labels: &[i64]) -> Result<Self> {
        if batch == 0 || labels.is_empty() || !labels.len().is_multiple_of(batch) {
            return Err(Error::data("labels", "must be a non-empty [B, T] array"));
        }
        let len = labels.len() / batch;
        let kept: Vec<i64> = labels.iter().copied().filter(|&l| l != IGNORED).collect();
        check_ids("labels", &kept, limits.vocab)?;
        let mut decoder_ids = Vec::with_capacity(labels.len());
        let mut label_rows = Vec::with_capacity(kept.len());
        for (row, sample) in labels.chunks(len).enumerate() {
            let before = std::iter::once(limits.first_of(sample)).chain(sample.iter().copied());
            decoder_ids.extend(before.take(len).map(|id| match id {
                IGNORED => limits.pad,
                id => id as i32,
            }));
            let counted = sample.iter().enumerate().filter(|&(_, &l)| l != IGNORED);
            label_rows.extend(counted.map(|(t, _)| (row * len + t) as i32));
        }
        let target = Target {
            batch,
            len,
            decoder_ids,
            labels: kept.into_iter().map(|l| l as i32).collect(),
            label_rows,
        };
        target.check("labels", limits)
    }

    /// From decoder ids `[B, T]`, with nothing to measure against.
    pub fn from_ids(limits: &ModelLimits, batch: usize, ids: &[i64]) -> Result<Self> {
        if batch == 0 || ids.is_empty() || !ids.len().is_multiple_of(batch) {
            return Err(Error::data("decoder_input_ids", "must be a non-empty [B, T] array"));
        }
        check_ids("decoder_input_ids", ids, limits.vocab)?;
        let target = Target {
            batch,
            len: ids.len() / batch,
            decoder_ids: ids.iter().map(|&id| id as i32).collect(),
            labels: Vec::new(),
            label_rows: Vec::new(),
        };
        target.check("decoder_input_ids", limits)
    }

    fn check(self, name: &str, limits: &ModelLimits) -> Result<Self> {
        match self.len > limits.max_target {
            false => Ok(self),
            true => Err(Error::data(
                name,
                format!(
                    "{} tokens exceed the decoder's {} positions; truncate the target",
                    self.len, limits.max_target
                ),
            )),
        }
    }

    /// What the shapes of a step over this target depend on.
    pub fn signature(&self) -> [usize; 3] {
        [self.batch, self.len, self.labels.len()]
    }

    /// What the decoder reads, `[B, T]`.
    pub fn upload_ids(&self, device: &Device) -> Result<Tensor> {
        Tensor::upload(device, [self.batch, self.len], &self.decoder_ids)
    }

    /// With what its loss is averaged and softened by.
    pub fn upload(&self, device: &Device, rule: LossRule) -> Result<DeviceTarget> {
        let labelled = [self.labels.len()];
        Ok(DeviceTarget {
            ids: self.upload_ids(device)?,
            labels: Tensor::upload(device, labelled, &self.labels)?,
            label_rows: Tensor::upload(device, labelled, &self.label_rows)?,
            normaliser: Tensor::upload(device, [1], &[rule.normaliser])?,
            smoothing: rule.smoothing,
        })
    }
}

/// A [`Source`] within a step.
#[derive(Clone)]
pub struct DeviceSource {
    /// `[B, S]`, S padded.
    pub ids: Tensor,
    /// `[B, S]`.
    pub key_state: Tensor,
    /// `[B, G]`.
    pub global_index: Tensor,
    /// `[B * G]`.
    pub global_rows: Tensor,
    /// Tokens of each row before padding.
    pub len: usize,
}

/// A [`Target`] within a step.
pub struct DeviceTarget {
    /// `[B, T]`.
    pub ids: Tensor,
    /// `[M]`.
    pub labels: Tensor,
    /// `[M]`.
    pub label_rows: Tensor,
    /// `[1]` f32.
    pub normaliser: Tensor,
    pub smoothing: f32,
}

/// A source and what it is to be turned into, within a step.
pub struct DeviceBatch {
    pub source: DeviceSource,
    pub target: DeviceTarget,
}

impl DeviceBatch {
    /// With what the target's loss is averaged and softened by.
    pub fn upload(device: &Device, source: &Source, target: &Target, rule: LossRule) -> Result<Self> {
        Ok(DeviceBatch { source: source.upload(device)?, target: target.upload(device, rule)? })
    }
}

fn check_ids(name: &str, ids: &[i64], vocab: usize) -> Result<()> {
    match ids.iter().position(|&id| id < 0 || id as usize >= vocab) {
        None => Ok(()),
        Some(at) => Err(Error::data(
            name,
            format!(
                "token id {} at element {at} is outside the vocabulary of {vocab}; the tokenizer does not belong to this model",
                ids[at]
            ),
        )),
    }
}
