//! Decoding on the `cuda` executor with stand-ins for the GPU, against the simulator.

use super::{GenerateOptions, generate, state};
use crate::device::cuda::stand_in;
use crate::device::{Device, Precision};
use crate::models::ModelLimits;
use crate::models::batch::{Source, SourceRows};
use crate::models::config::Common;
use crate::models::session::Session;
use crate::models::{self, ModelOptions};
use std::path::Path;
use std::rc::Rc;

/// Greedy, over a vocabulary of 10 whose last token ends a text.
pub fn options() -> GenerateOptions {
    let limits = ModelLimits {
        vocab: 10,
        pad: 0,
        bos: 0,
        eos: 9,
        decoder_start: 2,
        ..Common::default().limits([16; 2])
    };
    GenerateOptions::new(&limits)
}

const NEW_TOKENS: usize = 6;

/// What a random model says to two inputs.
fn tokens(device: &Device) -> Vec<Vec<i32>> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/led_plain/config.json");
    let text = std::fs::read_to_string(config).unwrap();
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    // Large weights, so that the tokens differ.
    std::fs::write(&file, text.replace("\"init_std\": 0.02", "\"init_std\": 0.5")).unwrap();
    let loaded = models::random(file.path(), device, ModelOptions::default(), 5).unwrap();
    let limits = loaded.model.limits();
    let ids: Vec<i64> = (0..60).map(|i| 3 + i * 7 % 90).collect();
    let rows = SourceRows { batch: 2, ids: &ids, attention_mask: None, global_attention_mask: None };
    let source = Source::new(&limits, rows).unwrap();
    let mut session = Session::new(loaded, ModelOptions::default(), state).unwrap();
    let options =
        GenerateOptions { max_new_tokens: NEW_TOKENS, num_beams: 2, ..GenerateOptions::new(&limits) };
    // The second time all of it is replayed.
    let first = generate(&mut session, &source, &options).unwrap();
    let second = generate(&mut session, &source, &options).unwrap();
    assert_eq!(first, second);
    first
}

#[test]
fn decoding_through_the_driver_is_decoding() {
    if let Some(why) = stand_in::missing().unwrap() {
        return println!("skipped: {why}");
    }
    let cuda = Rc::new(stand_in::open(Precision::Fp32, true).unwrap());
    let got = tokens(&Device::new(cuda.clone()));
    assert_eq!(got, tokens(&Device::open("sim", Precision::Fp32).unwrap()));
    let counts = cuda.graph_counts();
    assert_eq!((counts.recorded, counts.diverged), (2, 0), "the encoder's and the decoder's step");
    assert!(counts.replayed >= counts.direct, "{counts:?}");
    assert_eq!(counts.changed, 0, "positions and places are in memory");
}
