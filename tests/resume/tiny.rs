//! A model and data small enough to be trained many times, and a record of what a run does.

use std::path::{Path, PathBuf};
use wattention::device::Device;
use wattention::error::Result;
use wattention::models::session::Session;
use wattention::models::{self, Loaded};
use wattention::train::checkpoint::{Checkpoint, Saver, Settings};
use wattention::train::{
    Control, Corpus, Encoded, Event, GlobalAttention, GlobalTokens, Observer, Options, Summary, TrainState,
    Trainer, train_state,
};

/// Heads of 8, a window of 8, dropout everywhere.
const CONFIG: &str = r#"{"model_type": "led", "d_model": 16, "vocab_size": 40, "init_std": 0.1,
"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
"encoder_attention_heads": 2, "decoder_attention_heads": 2, "attention_window": 8,
"max_encoder_position_embeddings": 32, "max_decoder_position_embeddings": 16,
"dropout": DROPOUT, "attention_dropout": DROPOUT, "activation_dropout": DROPOUT, "activation_function": "gelu",
"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}"#;

/// Blocks of one token: sources of more than 11 tokens attend to 3 random ones besides their neighbours.
pub const BIGBIRD: &str = r#"{"model_type": "bigbird_pegasus", "d_model": 16, "vocab_size": 40, "init_std": 0.1,
"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
"encoder_attention_heads": 2, "decoder_attention_heads": 2, "attention_type": "block_sparse", "block_size": 1,
"num_random_blocks": 3, "max_position_embeddings": 64, "scale_embedding": true, "use_bias": false,
"dropout": DROPOUT, "attention_dropout": 0.0, "activation_dropout": DROPOUT, "activation_function": "gelu_new",
"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 2}"#;

/// The LED.
pub fn model(device: &Device, dropout: f32) -> Loaded {
    model_of(CONFIG, device, dropout)
}

fn model_of(config: &str, device: &Device, dropout: f32) -> Loaded {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config.replace("DROPOUT", &dropout.to_string())).unwrap();
    models::random(file.path(), device, models::ModelOptions::default(), 5).unwrap()
}

/// `n` examples of 3 to 17 tokens and 2 to 8 labels.
pub fn corpus(loaded: &Loaded, n: usize) -> Corpus {
    let tokens = |from: usize, len: usize| {
        (0..len).map(|at| 3 + ((from * 7 + at * 5) % 37) as u32).collect::<Vec<u32>>()
    };
    Corpus {
        examples: (0..n)
            .map(|i| Encoded::new(tokens(i, 3 + i * 11 % 15), tokens(i + 3, 2 + i * 5 % 7)))
            .collect(),
        ids: (0..n).map(|i| format!("example-{i}")).collect(),
        limits: loaded.model.limits(),
        global_attention: GlobalAttention::First,
        global_tokens: GlobalTokens::First,
    }
}

/// 7 examples by 2 x 2 are epochs of two steps, the second of 3 examples.
pub fn options(max_steps: u64) -> Options {
    Options {
        learning_rate: 1e-2,
        max_steps,
        per_device_train_batch_size: 2,
        gradient_accumulation_steps: 2,
        eval_steps: 2,
        weight_decay: 0.01,
        ..Options::default()
    }
}

/// Everything a run said, with losses to the last bit, and when it is asked to stop.
#[derive(Default)]
pub struct Record {
    pub lines: Vec<(u64, String)>,
    pub stop_after: Option<u64>,
    pub done: u64,
}

impl Observer for Record {
    fn event(&mut self, event: &Event) -> Result<()> {
        let step = match event {
            Event::Step { step, .. } | Event::Skipped { step, .. } | Event::Evaluation { step, .. } => *step,
            Event::Checkpoint { .. } => return Ok(()),
        };
        if !matches!(event, Event::Evaluation { .. }) {
            self.done = step;
        }
        self.lines.push((step, format!("{event:?}")));
        Ok(())
    }

    fn interrupted(&self) -> Option<i32> {
        self.stop_after.filter(|&step| self.done >= step).map(|_| 15)
    }
}

/// What a run is made of.
pub struct Run {
    pub config: &'static str,
    pub device: Device,
    pub dropout: f32,
    pub examples: usize,
    pub options: Options,
    pub control: Control,
    pub dir: PathBuf,
}

impl Run {
    pub fn new(dir: &Path, options: Options, control: Control) -> Self {
        Run {
            config: CONFIG,
            device: Device::cpu(),
            dropout: 0.1,
            examples: 7,
            options,
            control,
            dir: dir.to_path_buf(),
        }
    }

    pub fn settings(&self) -> Settings {
        let loaded = model_of(self.config, &self.device, self.dropout);
        let train = corpus(&loaded, self.examples);
        Settings::of(&loaded, &train, Some(&train), &self.options, &self.control).unwrap()
    }

    /// Trains from the start or from `checkpoint`; the weights at the end, whatever the outcome.
    pub fn go(&self, checkpoint: Option<&Checkpoint>, record: &mut Record) -> (Result<Summary>, Vec<f32>) {
        self.go_with(checkpoint, record, |_| ())
    }

    /// As [`Run::go`], after `change` has changed the fresh model.
    pub fn go_with(
        &self,
        checkpoint: Option<&Checkpoint>,
        record: &mut Record,
        change: impl Fn(&Loaded),
    ) -> (Result<Summary>, Vec<f32>) {
        let settings = self.settings();
        let loaded = model_of(self.config, &self.device, self.dropout);
        change(&loaded);
        let (train, validation) = (corpus(&loaded, self.examples), corpus(&loaded, 3));
        let mut session: Session<TrainState> =
            Session::new(loaded, models::ModelOptions::default(), train_state).unwrap();
        let name = self.device.name();
        let saver = Saver::new(&self.dir, settings, name, Vec::new(), self.control.save_total_limit);
        let mut trainer = Trainer::new(&mut session, &train, &self.options, &self.control)
            .unwrap()
            .validate_on(&validation)
            .save_with(saver);
        if let Some(checkpoint) = checkpoint {
            trainer = trainer.restore(checkpoint).unwrap();
        }
        let summary = trainer.run(record);
        (summary, session.real().loaded.parameters.slab.read().unwrap())
    }

    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.dir.join(format!("checkpoint-{step}"))
    }

    /// Steps of the checkpoints there are.
    pub fn steps(&self) -> Vec<u64> {
        let names = std::fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut steps: Vec<u64> = names
            .filter_map(|name| name.to_str().unwrap().strip_prefix("checkpoint-").map(|n| n.parse().unwrap()))
            .collect();
        steps.sort();
        steps
    }
}

pub fn bits(weights: &[f32]) -> Vec<u32> {
    weights.iter().map(|weight| weight.to_bits()).collect()
}
