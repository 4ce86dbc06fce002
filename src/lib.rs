//! wattention fine-tunes and runs LED and BigBird-Pegasus, and knows what every phase costs in time, bytes and joules.
//!
//! The crate is the `wattention` program's library. A model is a directory in Hugging Face layout ([`models`]); three
//! tiny ones are inside ([`hub`]). It runs on a [`device::Device`] through a [`models::session::Session`], which plans
//! the memory of each shape of step once.
//!
//! # Load a model and generate
//!
//! ```
//! use wattention::data::Example;
//! use wattention::device::Device;
//! use wattention::generate::{self, GenerateOptions, generate};
//! use wattention::models::{self, session::Session};
//! use wattention::text::{Spaces, Tokenizer};
//! use wattention::train::{Corpus, GlobalAttention, Lengths};
//!
//! # fn main() -> wattention::error::Result<()> {
//! let dir = wattention::hub::Name::from("tiny-led").open()?;
//! let tokenizer = Tokenizer::load(&dir)?;
//! let loaded = models::load(&dir, &Device::cpu(), Default::default())?;
//! let limits = loaded.model.limits();
//!
//! let input = "The committee met on Monday.".to_string();
//! let document = Example { id: "1".into(), pid: "1".into(), input, references: Vec::new() };
//! let lengths = Lengths { source: 64, target: limits.max_target };
//! let corpus = Corpus::encode(&tokenizer, &[document], lengths, limits, GlobalAttention::First)?;
//!
//! let mut session = Session::new(loaded, Default::default(), generate::state)?;
//! let options = GenerateOptions { max_new_tokens: 8, num_beams: 2, ..GenerateOptions::new(&limits) };
//! let answers = generate(&mut session, &corpus.source(&[0])?, &options)?;
//! let ids: Vec<u32> = answers[0].iter().map(|&id| id as u32).collect();
//! println!("{}", tokenizer.decode(&ids, Spaces::CleanedUp)?);
//! # Ok(())
//! # }
//! ```
//!
//! # One training step
//!
//! [`train::Trainer`] is a whole run with its data, schedule, evaluations and checkpoints (`examples/finetune.rs`). These
//! are its parts: the gradients of a batch, and the optimizer's update.
//!
//! ```
//! use wattention::device::Device;
//! use wattention::models::{self, LossRule, session::Session};
//! use wattention::tape::Randomness;
//! use wattention::train::{micro_step, optimizer_step, synthetic::synthetic_batch, train_state};
//!
//! # fn main() -> wattention::error::Result<()> {
//! let dir = wattention::hub::Name::from("tiny-led").open()?;
//! let loaded = models::load(&dir, &Device::cpu(), Default::default())?;
//! let (source, target) = synthetic_batch(&loaded.model.limits(), 2, 64, 16, 1)?;
//! let mut session = Session::new(loaded, Default::default(), train_state)?;
//!
//! let rule = LossRule { normaliser: target.labels.len() as f32, smoothing: 0.1 };
//! let loss = micro_step(&mut session, &source, &target, rule, Randomness { seed: 42, step: 0 })?;
//! optimizer_step(&mut session, &Default::default(), 0, 1)?;
//! assert!(loss.is_finite());
//! # Ok(())
//! # }
//! ```
//!
//! # Plan a step without running it
//!
//! ```
//! use wattention::device::Precision;
//! use wattention::train::synthetic::{Mode, Stepper, synthetic_batch};
//!
//! # fn main() -> wattention::error::Result<()> {
//! let config = wattention::hub::Name::from("tiny-led").open()?.join("config.json");
//! let mut stepper = Stepper::dry_run(&config, Precision::Bf16, Default::default(), Mode::Train)?;
//! let (source, target) = synthetic_batch(&stepper.loaded().model.limits(), 8, 4096, 128, 0)?;
//! stepper.run(&source, &target)?;
//! for (_, recording) in stepper.recordings() {
//!     println!("{} bytes, {} launches", recording.layout.peak(), recording.launches.len());
//! }
//! assert!(stepper.planned().persistent > 0);
//! # Ok(())
//! # }
//! ```
//!
//! The command line is described by `wattention --help` and by the pages in `docs`.

pub mod bench;
pub mod cases;
#[doc(hidden)]
pub mod cli;
pub mod collective;
pub mod data;
pub mod device;
pub mod disturbance;
pub mod energy;
pub mod error;
pub mod evaluate;
pub mod files;
pub mod generate;
pub mod hub;
pub mod limits;
pub mod markup;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod noise;
pub mod ops;
pub mod plot;
pub mod profile;
pub mod reading;
pub mod run;
pub mod settings;
pub mod shape;
pub mod stats;
pub mod study;
pub mod table;
pub mod tape;
pub mod tensor;
pub mod text;
pub mod trace;
pub mod train;
pub mod units;
pub mod weights;
pub mod workload;

// Files of `tests/support` call the crate by its name, as tests do.
#[cfg(test)]
extern crate self as wattention;

/// What tests here share with those in `tests`.
#[cfg(test)]
#[path = "../tests/support"]
pub mod support {
    pub mod attention;
    pub mod compare;
    pub mod csv;
}
