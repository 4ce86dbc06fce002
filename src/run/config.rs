//! A run's `config.json`: what it was asked to do, what that came to, and on what.

use super::decoding;
use super::origin::absolute;
use super::{LeftOut, Run};
use crate::data::RecordFormat;
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::metrics::Protocol;
use crate::models::RandomBlocks;
use crate::tape::Recompute;
use crate::train::checkpoint;
use crate::train::{Control, GlobalAttention, Options};
use crate::units::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

#[derive(Serialize)]
pub(super) struct Config<'a> {
    command: Vec<String>,
    version: &'static str,
    device: String,
    /// What computes products of matrices; null where that is not chosen on the machine.
    products: Option<&'static str>,
    threads: usize,
    /// Ranks that the run's accumulation is counted over.
    ranks: usize,
    train_examples: usize,
    eval_examples: usize,
    left_out: LeftOut,
    parameters: usize,
    total_steps: u64,
    planned_bytes: Bytes,
    /// The checkpoint that the run resumes from.
    resumed_from: Option<PathBuf>,
    /// By the names of `finetune`'s flags: `finetune --config` reads them, from any folder, to the same run.
    arguments: Map<String, Value>,
    /// What a checkpoint is compared with before a run resumes from it.
    settings: &'a checkpoint::Settings,
}

/// The arguments that are not about the model.
#[derive(Serialize)]
struct Arguments<'a> {
    dataset: String,
    #[serde(flatten)]
    reading: &'a RecordFormat,
    device: &'a str,
    precision: Precision,
    protocol: Protocol,
    /// What the model's own file says is in `decoding`.
    ignore_settings: &'a str,
    #[serde(flatten)]
    decoding: Map<String, Value>,
    no_predict: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_train_samples: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_eval_samples: Option<usize>,
    global_attention: GlobalAttention,
    random_blocks: RandomBlocks,
    recompute: Recompute,
    energy_per_phase: bool,
    #[serde(flatten)]
    training: &'a Options,
    #[serde(flatten)]
    control: &'a Control,
}

impl Run<'_> {
    /// What decides the results, to be compared with a checkpoint's.
    pub(super) fn decided(&self) -> Result<checkpoint::Settings> {
        let validation = self.validation.as_ref().map(|part| &part.corpus);
        self.settings.decided(&self.session.real().loaded, &self.train.corpus, validation)
    }

    pub(super) fn config<'s>(
        &self,
        settings: &'s checkpoint::Settings,
        resumed_from: Option<PathBuf>,
    ) -> Result<Config<'s>> {
        Ok(Config {
            command: std::env::args().collect(),
            version: env!("CARGO_PKG_VERSION"),
            device: self.means.device.name(),
            products: self.means.device.products(),
            threads: rayon::current_num_threads(),
            ranks: self.settings.batch.ranks,
            train_examples: self.train.examples.len(),
            eval_examples: self.validation.as_ref().map_or(0, |part| part.examples.len()),
            left_out: self.left_out(),
            parameters: self.parameters(),
            total_steps: self.total_steps(),
            planned_bytes: self.needs.total,
            resumed_from,
            arguments: self.arguments()?,
            settings,
        })
    }

    fn arguments(&self) -> Result<Map<String, Value>> {
        let settings = &self.settings;
        let device = self.means.device.name();
        let arguments = Arguments {
            dataset: lasting_dataset(&settings.dataset)?,
            reading: &settings.reading,
            // A GPU's number; what it is called follows it.
            device: device.split(' ').next().unwrap_or(&device),
            precision: self.means.device.precision(),
            protocol: settings.protocol,
            ignore_settings: "all",
            decoding: decoding::said(&settings.decoding, &self.origin.limits()?),
            no_predict: !settings.predict,
            max_train_samples: settings.max_train_samples,
            max_eval_samples: settings.max_eval_samples,
            // As it was understood, which the tokenizer may have a part in.
            global_attention: self.global_attention().clone(),
            random_blocks: settings.random_blocks,
            recompute: settings.recompute,
            energy_per_phase: settings.energy_per_phase,
            training: &settings.training,
            control: &settings.control,
        };
        let mut all = self.origin.names()?;
        match serde_json::to_value(arguments) {
            Ok(Value::Object(fields)) => all.extend(fields),
            _ => return Err(Error::internal("a run's arguments are not JSON")),
        }
        if settings.batch.ranks > 1 {
            // The same for any number of ranks.
            all.shift_remove("gradient_accumulation_steps");
            let Options { per_device_train_batch_size, gradient_accumulation_steps, .. } = settings.training;
            let examples = per_device_train_batch_size * gradient_accumulation_steps;
            all.insert("global_batch_size".into(), examples.into());
        }
        Ok(all)
    }
}

/// The name of an embedded dataset as it is, that of any other as a path that holds in any folder.
fn lasting_dataset(name: &str) -> Result<String> {
    for path in [name.to_string(), format!("{name}.zip")] {
        if Path::new(&path).exists() {
            return Ok(absolute(Path::new(&path))?.to_string_lossy().into_owned());
        }
    }
    Ok(name.to_string())
}
