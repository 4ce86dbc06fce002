//! Tokens in, tokens out, as HF `generate` takes and gives them.

use super::super::choices;
use super::super::energy::{self, Predicting};
use super::super::forward::inputs::Inputs;
use super::super::global::Global;
use super::super::output;
use super::Args;
use crate::collective::Group;
use crate::device::Precision;
use crate::energy::{Activity, Work};
use crate::error::Error;
use crate::evaluate::{LogitError, logit_error};
use crate::generate::{self, GenerateOptions, generate};
use crate::hub::Name;
use crate::models;
use crate::models::session::Session;
use crate::nn::Weights;
use crate::weights::{self, Named, Values};
use anyhow::Context;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: Name,
    device: String,
    precision: Precision,
    weights: Weights,
    /// `[B, S]`, before padding.
    source: [usize; 2],
    /// `[B * num_return_sequences, L]`, the start token included.
    sequences: [usize; 2],
    decoding: GenerateOptions,
    /// What 8 bits change, where weights are kept in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    logit_error: Option<LogitError>,
    energy: energy::Report,
    output: PathBuf,
}

pub fn run(args: &Args, inputs: &Path, global: &Global) -> anyhow::Result<()> {
    let output = args.output.as_ref().ok_or_else(|| Error::usage("--inputs needs --output"))?;
    let batch = Inputs::read_source(inputs, global)?;
    output::check_apart(inputs, output)?;
    output::check_file(output)?;
    let device = global.open_device()?;
    let mut energy = Predicting::start(&device, Activity::Generation)?;
    let model_dir = choices::model_dir(&args.model, global)?;
    let options = args.keeping.options(&args.choices);
    let loaded = models::load(&model_dir, &device, options)?;
    let limits = loaded.model.limits();
    if batch.has_global_attention() && !limits.has_global_attention {
        global.warn("this model has no global attention; global_attention_mask is not used");
    }
    let source = batch.source(&limits).with_context(|| inputs.display().to_string())?;
    let decoding = args.decoding.options(&model_dir, &limits, None, args.num_return_sequences, global)?;
    let mut session = Session::new(loaded, options, generate::state)?;
    // Key state 0 is padding.
    let tokens = source.key_state.iter().filter(|state| **state != 0).count() as u64;
    let work = Work { samples: source.batch as u64, tokens };
    energy.predicts();
    let start = Instant::now();
    let rows = generate(&mut session, &source, &decoding)?;
    let runtime = start.elapsed().into();
    energy.rests();

    let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
    let values: Vec<i64> = rows.concat().into_iter().map(i64::from).collect();
    let sequences = Named { name: "sequences", shape: &shape, values: Values::I64(&values) };
    weights::write_file(output, &[sequences])?;
    let report = Report {
        model: args.model.clone(),
        device: device.name(),
        precision: global.precision,
        weights: options.weights,
        source: [source.batch, source.len],
        sequences: shape,
        decoding,
        logit_error: logit_error(session, &model_dir, options, || Ok(source.clone()))?,
        energy: energy.report(work, runtime, &device, &Group::alone())?,
        output: output.clone(),
    };
    let [b, l] = shape;
    let text = format!("{} x {} tokens in, {b} x {l} out: {}", source.batch, source.len, output.display());
    let text = LogitError::below(text, report.logit_error.as_ref()) + "\n" + &report.energy.text();
    global.print(&report, text)
}
