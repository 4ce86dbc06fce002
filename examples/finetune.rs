//! Fine-tunes the embedded tiny LED on ten QMSum meetings, resumes from a checkpoint, and summarises one.
//!
//! `cargo run --release --example finetune`

use wattention::device::Device;
use wattention::energy::{NoSensor, Sampler};
use wattention::error::Result;
use wattention::generate::GenerateOptions;
use wattention::metrics::Protocol;
use wattention::run::{self, Existing, Means, Origin, Run, RunDir, Settings};
use wattention::train::{Control, Event, Observer, Options};

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

impl run::Observer for Printer {}

fn main() -> Result<()> {
    let origin = Origin::model("tiny-led")?;
    let limits = origin.limits()?;
    let training = Options {
        learning_rate: 1e-3,
        max_steps: 6,
        per_device_train_batch_size: 2,
        max_source_length: 512,
        max_target_length: 64,
        ..Options::default()
    };
    let settings = Settings {
        max_train_samples: Some(10),
        max_eval_samples: Some(1),
        decoding: GenerateOptions { max_new_tokens: 32, ..GenerateOptions::new(&limits) },
        control: Control { save_steps: 2, save_total_limit: 2, ..Control::default() },
        ..Settings::new("qmsum-slice", Protocol::Scrolls, training, &limits)
    };
    // A second start of this example finds the checkpoint of the last step, and has nothing left to train.
    let root = std::env::temp_dir().join("wattention-example");
    let dir = RunDir::check(&root, Existing::Continue, &origin.folders())?;
    let (device, sampler) = (Device::cpu(), Sampler::start(Box::new(NoSensor::new("not asked for".into())))?);
    let means = Means::new(&device, &sampler);

    let mut run = Run::open(origin, settings, dir, means, &mut Printer)?;
    let outcome = run.train(&mut Printer)?;
    let steps = outcome.summary.steps;
    println!("{steps} steps, mean loss {:.3}, in {}", outcome.summary.train_loss, root.display());
    let (evaluated, scored) = run.predict(outcome.summary.eval_loss, steps, &mut Printer)?;
    println!("ROUGE-L {:.2}: {}", evaluated.eval_rouge_l, scored.evaluation.predictions[0]);
    Ok(())
}
