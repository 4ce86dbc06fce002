//! A case's inputs on a device, and its passes over them.

use super::{Case, random, upload};
use crate::device::{Device, Precision};
use crate::error::Result;
use crate::ops::{self, Gradient};
use crate::shape::DType;
use crate::tape::{Gradients, Tape};
use crate::tensor::{Node, Tensor};
use half::bf16;

/// A case with its inputs on a device.
pub struct Trial<'a> {
    case: &'a Case,
    device: Device,
    format: Precision,
    differentiable: bool,
    pub leaves: Vec<Tensor>,
    /// f32 gradients of the leaves that are weights.
    buffers: Vec<Option<Tensor>>,
}

impl<'a> Trial<'a> {
    /// `format` is how the values are rounded, whatever the device stores them in.
    pub fn new(case: &'a Case, device: &Device, format: Precision) -> Result<Self> {
        let differentiable =
            ops::ALL.iter().any(|op| op.name == case.op && matches!(op.gradient, Gradient::Recorded));
        let mut trial = Trial {
            case,
            device: device.clone(),
            format,
            differentiable,
            leaves: Vec::with_capacity(case.inputs.len()),
            buffers: Vec::with_capacity(case.inputs.len()),
        };
        for (i, input) in case.inputs.iter().enumerate() {
            let leaf = upload(device, input.shape, &trial.rounded(input.values(i)))?;
            trial.leaves.push(leaf.with_node(differentiable.then(Node::fresh)));
            trial.buffers.push(match differentiable && input.parameter {
                true => Some(Tensor::persistent(device, input.shape, DType::F32)?),
                false => None,
            });
        }
        Ok(trial)
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    fn rounded(&self, values: Vec<f32>) -> Vec<f32> {
        match self.format.storage() {
            DType::BF16 => values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
            _ => values,
        }
    }

    /// The outputs, and the tape to their inputs.
    pub fn forward(&self) -> Result<(Tape, Vec<Tensor>)> {
        let tape = if self.differentiable { Tape::gradients() } else { Tape::off() };
        let outputs = (self.case.forward)(&tape, &self.leaves)?;
        Ok((tape, outputs))
    }

    /// Random gradients of the outputs.
    pub fn upstream(&self, outputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let differentiable = outputs.iter().filter(|y| y.node().is_some()).enumerate();
        let gradient = |(i, y): (usize, &Tensor)| {
            let values = self.rounded(random(1000 + i as u64, y.len()));
            match y.dtype() {
                DType::BF16 => upload(&self.device, y.shape(), &values),
                _ => Tensor::upload(&self.device, y.shape(), &values),
            }
        };
        differentiable.map(gradient).collect()
    }

    /// Fresh gradients, those of weights in the trial's buffers.
    pub fn gradients(&self) -> Result<Gradients> {
        let mut gradients = Gradients::new();
        for (leaf, buffer) in self.leaves.iter().zip(&self.buffers) {
            if let Some(buffer) = buffer {
                gradients.register(leaf, buffer.clone())?;
            }
        }
        Ok(gradients)
    }

    /// Adds the gradients of the leaves, given those of the outputs; whether there are any.
    pub fn backward(
        &self,
        tape: Tape,
        outputs: Vec<Tensor>,
        upstream: Vec<Tensor>,
        gradients: &mut Gradients,
    ) -> Result<bool> {
        let outputs: Vec<Tensor> = outputs.into_iter().filter(|y| y.node().is_some()).collect();
        if outputs.is_empty() {
            return Ok(false);
        }
        let loss = Tensor::upload(&self.device, [1], &[0.0f32])?;
        let every: Vec<&Tensor> = outputs.iter().collect();
        let given: Vec<(Tensor, Tensor)> = outputs.iter().cloned().zip(upstream).collect();
        let loss = tape.record(&every, loss, move |_, gradients| {
            given.into_iter().try_for_each(|(y, dy)| gradients.add(&y, dy))
        });
        drop(outputs);
        tape.backward(&loss, 1.0, gradients)?;
        Ok(true)
    }
}
