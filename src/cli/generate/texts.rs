//! Documents in, predictions out.

use super::super::choices::{self, at_most};
use super::super::energy::{self, Predicting};
use super::super::global::Global;
use super::super::ranks::Together;
use super::super::{output as outputs, progress::Progress};
use super::Args;
use super::documents::{self, Form};
use super::output::Growing;
use crate::collective::Group;
use crate::data::{Document, Example};
use crate::device::Precision;
use crate::energy::{Activity, Work};
use crate::error::Error;
use crate::evaluate::{LogitError, logit_error};
use crate::generate::{self, GenerateOptions, generate_texts};
use crate::hub::Name;
use crate::models;
use crate::models::session::Session;
use crate::nn::Weights;
use crate::text::Spaces;
use crate::train::{Corpus, Cut, GlobalAttention, Lengths, agree_on_weights};
use crate::units::{Seconds, counted};
use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One line of the output.
#[derive(Serialize)]
struct Prediction {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<Value>,
    prediction: String,
}

/// What `--json` prints; the predictions are here unless a file has them.
#[derive(Serialize)]
struct Report {
    model: Name,
    device: String,
    precision: Precision,
    weights: Weights,
    documents: usize,
    global_attention: GlobalAttention,
    /// What did not fit `--max-source-length`.
    cut: Cut,
    decoding: GenerateOptions,
    /// What 8 bits change, where weights are kept in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    logit_error: Option<LogitError>,
    seconds: f64,
    samples_per_second: f64,
    energy: energy::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    ranks: Option<Together>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<Prediction>>,
}

/// Where predictions go.
enum Sink {
    /// On a rank beside the first, which has them all.
    Nowhere,
    File(Growing),
    Stdout(Form),
    Kept(Vec<Prediction>),
}

pub fn run(args: &Args, global: &Global, group: &Group) -> anyhow::Result<()> {
    let input = args.input.as_deref().unwrap_or(Path::new("-"));
    if let Some(path) = args.output.as_ref().filter(|_| group.is_first()) {
        outputs::check_apart(input, path)?;
        outputs::check_file(path)?;
    }
    let model_dir = choices::model_dir(&args.model, global)?;
    let tokenizer = choices::tokenizer(args.tokenizer.as_ref(), &model_dir)?;
    let (documents, form) = documents::read(input, args.text_column.as_deref(), group)?;
    let device = global.open_device()?;
    let mut energy = Predicting::start(&device, Activity::Generation)?;
    let options = args.keeping.options(&args.choices);
    let loaded = models::load(&model_dir, &device, options)?;
    let limits = loaded.model.limits();
    let decoding =
        args.decoding.options(&model_dir, &limits, Some(&tokenizer), args.num_return_sequences, global)?;
    let lengths = Lengths {
        source: at_most(args.max_source_length, usize::MAX, limits.max_source),
        target: limits.max_target,
    };
    let attention = args.choices.global_attention.clone();
    energy.reads();
    let examples = examples(&documents);
    let corpus = Corpus::encode(&tokenizer, &examples, lengths, limits, attention)?;
    let cut = corpus.cut();
    let said = [args.choices.global_attention.idle(&limits), cut.text()];
    said.into_iter().flatten().for_each(|what| global.note(what));
    energy.rests();
    let mut session = Session::new(loaded, options, generate::state)?;
    let work = format!(
        "{:?} {:?} {:?} {} {:?}",
        decoding, lengths, corpus.global_attention, args.batch_size, options
    );
    group.agree_on_work(&work, device.uuid().as_deref())?;
    agree_on_weights(&session.real().loaded.parameters, group, "weights")?;
    let mut sink = match &args.output {
        _ if !group.is_first() => Sink::Nowhere,
        Some(path) => Sink::File(Growing::create(path)?),
        None if global.json => Sink::Kept(Vec::new()),
        None => Sink::Stdout(form),
    };

    energy.predicts();
    let start = Instant::now();
    let count = documents.len();
    let mut progress = Progress::new(global, count as u64, "generation");
    let all: Vec<usize> = (0..count).collect();
    let mut documents = documents.into_iter();
    let batches: Vec<&[usize]> = all.chunks(args.batch_size.get()).collect();
    for turn in batches.chunks(group.size()) {
        group.at("document", turn[0][0] as u64);
        let mut texts = Vec::new();
        if let Some(&which) = turn.get(group.rank()) {
            let batch = decoding.from_row(which[0]);
            let source = corpus.source(which)?;
            texts = generate_texts(&mut session, &tokenizer, &source, &batch, Spaces::AsModel)?;
        }
        let texts = group.gather_texts(texts)?;
        let each = decoding.num_return_sequences;
        // In this order: zip asks its first iterator first, and an asked document would be lost.
        for (predictions, document) in texts.chunks(each).zip(documents.by_ref()) {
            for prediction in predictions {
                let (id, pid) = (document.id.clone(), document.pid.clone());
                sink.take(Prediction { id, pid, prediction: prediction.clone() })?;
            }
        }
        progress.step(turn.concat().len() as u64, "");
    }
    let seconds = start.elapsed().as_secs_f64();
    let tokens = corpus.examples.iter().map(|example| example.input.len() as u64).sum();
    let work = Work { samples: count as u64, tokens };
    let energy = energy.report(work, Seconds(seconds), &device, group)?;
    let ranks = Together::of(group, energy.devices.clone());
    progress.finish(format_args!("{} in {seconds:.1} s", counted(count, "document")));

    // Its lines are the result.
    let is_said = matches!(sink, Sink::Stdout(_));
    let predictions = match sink {
        Sink::Nowhere => return Ok(()),
        Sink::Stdout(_) => None,
        Sink::File(growing) => {
            growing.finish()?;
            None
        }
        Sink::Kept(predictions) => Some(predictions),
    };
    let first = &all[..args.batch_size.get().min(count)];
    let logit_error = logit_error(session, &model_dir, options, || corpus.source(first))?;
    if is_said {
        logit_error.iter().for_each(|error| global.note(error));
        energy.note(global);
        ranks.iter().for_each(|ranks| global.note(ranks.text()));
        return Ok(());
    }
    let report = Report {
        model: args.model.clone(),
        device: device.name(),
        precision: global.precision,
        weights: options.weights,
        documents: count,
        global_attention: corpus.global_attention,
        cut,
        decoding,
        logit_error,
        seconds,
        samples_per_second: count as f64 / seconds,
        energy,
        ranks,
        output: args.output.clone(),
        predictions,
    };
    let output = args.output.as_deref().unwrap_or(Path::new("")).display();
    let mut text = LogitError::below(format!("{count} predictions: {output}"), report.logit_error.as_ref());
    text += &format!("\n{}", report.energy.text());
    if let Some(ranks) = &report.ranks {
        text += &format!("\n{}", ranks.text());
    }
    global.print(&report, text)
}

/// Documents as examples without references.
fn examples(documents: &[Document]) -> Vec<Example> {
    let example = |document: &Document| Example {
        id: String::new(),
        pid: String::new(),
        input: document.text.clone(),
        references: Vec::new(),
    };
    documents.iter().map(example).collect()
}

impl Sink {
    fn take(&mut self, prediction: Prediction) -> anyhow::Result<()> {
        let line = match self {
            Sink::Nowhere => return Ok(()),
            Sink::Kept(all) => {
                all.push(prediction);
                return Ok(());
            }
            Sink::Stdout(Form::Whole) => prediction.prediction,
            _ => serde_json::to_string(&prediction)
                .map_err(|e| Error::internal(format!("a prediction is not JSON: {e}")))?,
        };
        match self {
            Sink::File(growing) => Ok(growing.line(&line)?),
            _ => {
                let mut out = io::stdout().lock();
                writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
            }
        }
    }
}
