//! The tensors of a batch, read from a safetensors file.

use super::super::global::Global;
use crate::error::{Error, Result};
use crate::models::ModelLimits;
use crate::models::batch::{Source, SourceRows, Target};
use crate::weights::{Tensors, read_file};
use std::path::Path;

/// The tensors that are read, with what their dimensions are.
const KNOWN: [(&str, &str); 5] = [
    ("input_ids", "[B, S]"),
    ("attention_mask", "[B, S]"),
    ("global_attention_mask", "[B, S]"),
    ("labels", "[B, T]"),
    ("decoder_input_ids", "[B, T]"),
];

/// Integers by row.
struct Matrix {
    shape: [usize; 2],
    values: Vec<i64>,
}

/// A batch as the file has it.
pub struct Inputs {
    input_ids: Matrix,
    attention_mask: Option<Matrix>,
    global_attention_mask: Option<Matrix>,
    labels: Option<Matrix>,
    decoder_input_ids: Option<Matrix>,
}

/// A batch that a model takes.
pub struct Batch {
    pub source: Source,
    pub target: Target,
}

impl Inputs {
    /// What the encoder and the decoder read.
    pub fn read(path: &Path, global: &Global) -> Result<Self> {
        let inputs = Self::read_source(path, global)?;
        if inputs.labels.is_none() && inputs.decoder_input_ids.is_none() {
            return Err(Error::data(
                path.display(),
                "there is neither a tensor \"labels\" nor \"decoder_input_ids\"; add one, i64 [B, T]",
            ));
        }
        Ok(inputs)
    }

    /// What the encoder reads; tensors for the decoder may be absent.
    pub fn read_source(path: &Path, global: &Global) -> Result<Self> {
        let file = read_file(path)?;
        for name in file.names() {
            if !KNOWN.iter().any(|(known, _)| *known == name) {
                let path = path.display();
                global.warn(format_args!("{path}: tensor {name:?} is not used"));
            }
        }
        let [input_ids, attention_mask, global_attention_mask, labels, decoder_input_ids] =
            KNOWN.map(|(name, form)| matrix(&file, name, form));
        let missing = |what: &str| Error::data(path.display(), what);
        let inputs = Inputs {
            input_ids: input_ids?.ok_or_else(|| {
                missing("there is no tensor \"input_ids\"; add the tokens of the input, i64 [B, S]")
            })?,
            attention_mask: attention_mask?,
            global_attention_mask: global_attention_mask?,
            labels: labels?,
            decoder_input_ids: decoder_input_ids?,
        };
        inputs.check_shapes(path)?;
        Ok(inputs)
    }

    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    pub fn has_global_attention(&self) -> bool {
        self.global_attention_mask.is_some()
    }

    fn check_shapes(&self, path: &Path) -> Result<()> {
        let source = self.input_ids.shape;
        for (name, mask) in
            [("attention_mask", &self.attention_mask), ("global_attention_mask", &self.global_attention_mask)]
        {
            if let Some(mask) = mask
                && mask.shape != source
            {
                return Err(misshapen(path, name, mask.shape, "input_ids", source));
            }
        }
        for (name, target) in [("labels", &self.labels), ("decoder_input_ids", &self.decoder_input_ids)] {
            if let Some(target) = target
                && target.shape[0] != source[0]
            {
                return Err(misshapen(path, name, target.shape, "input_ids", source));
            }
        }
        match (&self.labels, &self.decoder_input_ids) {
            (Some(labels), Some(ids)) if labels.shape != ids.shape => {
                Err(misshapen(path, "decoder_input_ids", ids.shape, "labels", labels.shape))
            }
            _ => Ok(()),
        }
    }

    /// The encoder's part, checked against a model.
    pub fn source(&self, limits: &ModelLimits) -> Result<Source> {
        let rows = SourceRows {
            batch: self.input_ids.shape[0],
            ids: &self.input_ids.values,
            attention_mask: self.attention_mask.as_ref().map(|m| &*m.values),
            global_attention_mask: self.global_attention_mask.as_ref().map(|m| &*m.values),
        };
        Source::new(limits, rows)
    }

    /// Checks the batch against a model; ids of the decoder go before those that labels imply, as in HF.
    pub fn batch(&self, limits: &ModelLimits) -> Result<Batch> {
        let [batch, _] = self.input_ids.shape;
        let source = self.source(limits)?;
        let given = self.decoder_input_ids.as_ref();
        let given = given.map(|ids| Target::from_ids(limits, batch, &ids.values)).transpose()?;
        let measured = self.labels.as_ref();
        let measured = measured.map(|labels| labelled(limits, batch, &labels.values)).transpose()?;
        let target = match (given, measured) {
            (Some(given), Some(measured)) => Target { decoder_ids: given.decoder_ids, ..measured },
            (Some(target), None) | (None, Some(target)) => target,
            (None, None) => return Err(Error::internal("a batch without a target")),
        };
        Ok(Batch { source, target })
    }
}

fn labelled(limits: &ModelLimits, batch: usize, labels: &[i64]) -> Result<Target> {
    let target = Target::from_labels(limits, batch, labels)?;
    match target.labels.is_empty() {
        false => Ok(target),
        true => Err(Error::data(
            "labels",
            "all labels are ignored (-100), so there is no loss; give at least one token id",
        )),
    }
}

fn matrix(file: &Tensors, name: &str, form: &str) -> Result<Option<Matrix>> {
    if !file.contains(name) {
        return Ok(None);
    }
    let &[rows, columns] = file.shape(name)? else {
        let what = format!("tensor {name:?}: shape {:?}", file.shape(name)?);
        return Err(Error::data(file.path().display(), format!("{what}, expected {form}")));
    };
    Ok(Some(Matrix { shape: [rows, columns], values: file.i64(name)? }))
}

fn misshapen(path: &Path, name: &str, got: [usize; 2], other: &str, expected: [usize; 2]) -> Error {
    Error::data(
        path.display(),
        format!("tensor {name:?}: shape {got:?} does not go with the {expected:?} of {other:?}"),
    )
}
