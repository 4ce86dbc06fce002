//! Fine-tunes the embedded tiny LED on ten QMSum meetings, goes on from a checkpoint, and summarises one.
//!
//! `cargo run --release --example finetune`

use std::path::Path;
use wattention::data::{self, Split};
use wattention::device::Device;
use wattention::error::Result;
use wattention::evaluate::work;
use wattention::generate::{GenerateOptions, generate};
use wattention::metrics::Protocol;
use wattention::models;
use wattention::models::session::Session;
use wattention::text::{Spaces, Tokenizer};
use wattention::train::checkpoint::{Saver, Settings, newest};
use wattention::train::{Control, Corpus, Event, GlobalAttention, Lengths, Observer, Options, Trainer};

/// Prints losses as they come.
struct Printer;

impl Observer for Printer {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step { step, total, report, .. } => {
                println!("step {step} of {total}: loss {:.3}", report.loss)
            }
            other => println!("{other:?}"),
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led");
    let run = std::env::temp_dir().join("wattention-example");
    let tokenizer = Tokenizer::load(&model)?;
    let loaded = models::load(&model, &Device::cpu(), models::Options::default())?;

    let examples = data::open("qmsum-slice")?.examples(Split::Train, Protocol::Paper)?;
    let lengths = Lengths { source: 512, target: 64 };
    let limits = loaded.model.limits();
    let corpus = Corpus::encode(&tokenizer, &examples[..10], lengths, limits, GlobalAttention::First)?;

    let options = Options {
        learning_rate: 1e-3,
        max_steps: 6,
        per_device_train_batch_size: 2,
        max_source_length: lengths.source,
        max_target_length: lengths.target,
        ..Options::default()
    };
    let control = Control { save_steps: 2, save_total_limit: 2, ..Control::default() };
    let settings = Settings::of(&loaded, &corpus, None, &options, &control)?;
    let mut session = Session::new(loaded, models::Options::default(), work)?;

    // A second start of this example finds the checkpoint of the last step, and has nothing left to do.
    let from = newest(&run)?.checkpoint;
    let saver = Saver::new(&run, settings.clone(), "cpu".into(), Vec::new(), control.save_total_limit);
    let mut trainer = Trainer::new(&mut session, &corpus, &options, &control)?.save_with(saver);
    if let Some(checkpoint) = &from {
        settings.check(&checkpoint.manifest.settings, "the checkpoint")?;
        trainer = trainer.restore(checkpoint)?;
    }
    let summary = trainer.run(&mut Printer)?;
    println!("{} steps, mean loss {:.3}, in {}", summary.steps, summary.train_loss, run.display());

    let source = corpus.source(&[0])?;
    let tokens = generate(&mut session, &source, GenerateOptions { max_new_tokens: 32 })?;
    let ids: Vec<u32> = tokens[0].iter().map(|&id| id as u32).collect();
    println!("{}", tokenizer.decode(&ids, Spaces::CleanedUp)?);
    Ok(())
}
