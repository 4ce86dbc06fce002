//! `forward`: one batch through a model, from a safetensors file to a safetensors file.

use super::choices;
use super::global::Global;
use super::output;
use super::values::fraction;
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::hub::Name;
use crate::models::batch::{DeviceBatch, Source};
use crate::models::{self, Loaded, LossRule, ModelOptions, RandomBlocks};
use crate::nn::Parameters;
use crate::settings::named;
use crate::shape::DType;
use crate::tape::{Randomness, Tape};
use crate::tensor::Tensor;
use crate::weights::{self, Named, Values};
use anyhow::Context;
use serde::Serialize;
use std::path::PathBuf;

pub(super) mod inputs;

use inputs::{Batch, Inputs};

/// Compute logits, loss and gradients of one batch, from a safetensors file to a safetensors file
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(long, value_name = "DIR_OR_NAME", help = choices::models())]
    model: Name,

    /// The batch (i64): input_ids, attention_mask and global_attention_mask [B, S], labels or decoder_input_ids [B, T]
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,

    /// Where to write logits [B, T, V], encoder_last_hidden_state [B, S, C], loss [1] and grad.NAME of every tensor (f32)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// Write the gradient of the loss for every parameter, too (needs labels)
    #[arg(long)]
    grads: bool,

    /// Training mode: dropout by the config and --seed, BigBird's random blocks drawn
    #[arg(long)]
    train: bool,

    /// BigBird's random blocks outside of training
    #[arg(long, value_name = "HOW", default_value = "eval-zero", value_parser = named::<RandomBlocks>())]
    random_blocks: RandomBlocks,

    /// Weight of the uniform distribution in the loss
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = fraction, allow_negative_numbers = true)]
    label_smoothing: f32,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    device: String,
    precision: Precision,
    /// `[B, S]`, before padding.
    source: [usize; 2],
    /// `[B, T]`.
    target: [usize; 2],
    loss: Option<f32>,
    /// Target tokens that the loss is the mean of.
    labels: usize,
    gradients: usize,
    output: String,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let inputs = Inputs::read(&args.inputs, global)?;
    check_labels(&args, &inputs)?;
    output::check_apart(&args.inputs, &args.output)?;
    output::check_file(&args.output)?;

    let device = global.open_device()?;
    let options = ModelOptions { random_blocks: args.random_blocks, ..ModelOptions::default() };
    let loaded = models::load(&choices::model_dir(&args.model, global)?, &device, options)?;
    global.detail(format_args!("{}: {} trainable parameters", args.model, loaded.parameters.trainable()));
    let limits = loaded.model.limits();
    if inputs.has_global_attention() && !limits.has_global_attention {
        global.warn("this model has no global attention; global_attention_mask is not used");
    }
    let batch = inputs.batch(&limits).with_context(|| args.inputs.display().to_string())?;

    let answer = compute(&args, global, &loaded, &batch)?;
    let named: Vec<Named> = answer.tensors.iter().map(Written::named).collect();
    weights::write_file(&args.output, &named)?;

    let report = Report {
        model: args.model.to_string(),
        device: device.name(),
        precision: global.precision,
        source: [batch.source.batch, batch.source.len],
        target: [batch.target.batch, batch.target.len],
        loss: answer.loss,
        labels: batch.target.labels.len(),
        gradients: answer.gradients,
        output: args.output.display().to_string(),
    };
    global.print(&report, report.text())
}

impl Report {
    fn text(&self) -> String {
        let ([b, s], [_, t]) = (self.source, self.target);
        let loss =
            self.loss.map_or(String::new(), |loss| format!(", loss {loss} over {} labels", self.labels));
        let gradients = match self.gradients {
            0 => String::new(),
            n => format!(", {n} gradients"),
        };
        format!("{b} x {s} tokens in, {b} x {t} out{loss}{gradients}: {}", self.output)
    }
}

fn check_labels(args: &Args, inputs: &Inputs) -> Result<()> {
    let flag = match (args.grads, args.label_smoothing > 0.0) {
        _ if inputs.has_labels() => return Ok(()),
        (true, _) => "--grads",
        (_, true) => "--label-smoothing",
        _ => return Ok(()),
    };
    Err(Error::usage(format!(
        "{flag} needs a loss, and {} has no labels; add the tensor \"labels\" [B, T]",
        args.inputs.display()
    )))
}

/// A tensor of the output file, on the host.
struct Written {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Written {
    fn new(name: &str, shape: &[usize], values: Vec<f32>) -> Self {
        Written { name: name.to_string(), shape: shape.to_vec(), values }
    }

    fn named(&self) -> Named<'_> {
        Named { name: &self.name, shape: &self.shape, values: Values::F32(&self.values) }
    }
}

/// Everything that goes to the output file.
struct Answer {
    tensors: Vec<Written>,
    loss: Option<f32>,
    /// How many of the tensors are gradients.
    gradients: usize,
}

fn compute(args: &Args, global: &Global, loaded: &Loaded, batch: &Batch) -> Result<Answer> {
    let (model, parameters) = (&*loaded.model, &loaded.parameters);
    let tape = match (args.train, args.grads) {
        (true, _) => Tape::training(parameters.device(), Randomness { seed: global.seed, step: 0 })?,
        (false, true) => Tape::gradients(),
        (false, false) => Tape::off(),
    };
    let labels = batch.target.labels.len();
    let rule = LossRule { normaliser: labels as f32, smoothing: args.label_smoothing };
    let on_device = DeviceBatch::upload(parameters.device(), &batch.source, &batch.target, rule)?;
    let states = model.states(&tape, &on_device.source, &on_device.target.ids)?;
    let logits = model.logits_of(&Tape::off(), &states.decoder)?;
    let loss = match labels {
        0 => None,
        _ => Some(model.loss_of(&tape, &states.decoder, &on_device.target)?),
    };
    let mut answer = Answer {
        tensors: vec![
            Written::new("logits", logits.shape().dims(), logits.read_floats()?),
            unpadded(&states.encoder, &batch.source)?,
        ],
        loss: None,
        gradients: 0,
    };
    if let Some(loss) = loss {
        let value: Vec<f32> = loss.read()?;
        answer.loss = value.first().copied();
        answer.tensors.push(Written::new("loss", &[1], value));
        if args.grads {
            let gradients = gradients(parameters, tape, &loss)?;
            answer.gradients = gradients.len();
            answer.tensors.extend(gradients);
        }
    }
    Ok(answer)
}

/// Encoder states `[B, S, C]` without the tokens that fill up the last block.
fn unpadded(memory: &Tensor, source: &Source) -> Result<Written> {
    let c = memory.shape().last();
    let mut states = memory.read_floats()?;
    let (from, to) = (source.padded * c, source.len * c);
    for b in 1..source.batch {
        states.copy_within(b * from..b * from + to, b * to);
    }
    states.truncate(source.batch * to);
    let shape = [source.batch, source.len, c];
    Ok(Written::new("encoder_last_hidden_state", &shape, states))
}

/// Gradients of every trainable parameter, under `grad.` and its HF name.
fn gradients(parameters: &Parameters, tape: Tape, loss: &Tensor) -> Result<Vec<Written>> {
    let slab = Tensor::persistent(parameters.device(), parameters.slab.shape(), DType::F32)?;
    let mut gradients = parameters.gradients(&slab)?;
    tape.backward(loss, 1.0, &mut gradients)?;
    gradients.finish()?;
    parameters
        .entries
        .iter()
        .filter(|entry| entry.trainable)
        .map(|entry| {
            let values = parameters.read(&slab, entry)?;
            let name = format!("grad.{}", entry.name);
            Ok(Written::new(&name, entry.shape.dims(), values))
        })
        .collect()
}
