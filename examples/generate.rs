//! Beam search and sampling with one of the tiny models that are in the repository.
//!
//! ```sh
//! cargo run --release --example generate                 # a meeting of the embedded dataset
//! cargo run --release --example generate -- report.txt   # a document of yours
//! ```
//!
//! The model is tiny, and so is what it has to say; any directory that `save_pretrained` wrote works as well.

use std::path::Path;
use wattention::data::{self, Example, Split};
use wattention::device::Device;
use wattention::error::{Error, Result};
use wattention::generate::{self, GenerateOptions, generate_texts};
use wattention::metrics::Protocol;
use wattention::models::session::Session;
use wattention::models::{self, ModelOptions};
use wattention::text::{Spaces, Tokenizer};
use wattention::train::{Corpus, GlobalAttention, Lengths};

fn main() -> Result<()> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny-led");
    let tokenizer = Tokenizer::load(&model)?;
    let loaded = models::load(&model, &Device::cpu(), ModelOptions::default())?;
    let limits = loaded.model.limits();

    let documents = match std::env::args().nth(1) {
        Some(path) => {
            let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, &e))?;
            vec![Example { id: path.clone(), pid: path, input: text, references: Vec::new() }]
        }
        None => data::open("qmsum-slice")?.examples(Split::Validation, Protocol::Scrolls)?[..1].to_vec(),
    };
    let lengths = Lengths { source: 1024, target: limits.max_target };
    let corpus = Corpus::encode(&tokenizer, &documents, lengths, limits, GlobalAttention::First)?;
    let source = corpus.source(&[0])?;

    let greedy = GenerateOptions { max_new_tokens: 40, ..GenerateOptions::new(&limits) };
    let beams =
        GenerateOptions { num_beams: 4, no_repeat_ngram_size: 3, length_penalty: 2.0, ..greedy.clone() };
    let drawn = GenerateOptions {
        do_sample: true,
        temperature: 0.9,
        top_p: 0.95,
        seed: 1,
        num_return_sequences: 2,
        ..greedy.clone()
    };

    let mut session = Session::new(loaded, ModelOptions::default(), generate::state)?;
    for (name, options) in [("greedy", greedy), ("4 beams", beams), ("drawn", drawn)] {
        for text in generate_texts(&mut session, &tokenizer, &source, &options, Spaces::CleanedUp)? {
            println!("{name}: {}", text.trim());
        }
    }
    Ok(())
}
