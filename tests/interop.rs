//! A saved model is the model: reloaded here, and loaded by transformers where that is installed.

use crate::support::batch::open as golden_batch;
use crate::support::golden::{self, relative_l2};
use crate::support::interop::{self, Saved};
use std::path::Path;
use wattention::device::Device;
use wattention::models::{self, Loaded, ModelOptions};
use wattention::tape::Tape;
use wattention::weights::{Named, Values, write_file};

fn load(dir: &Path) -> Loaded {
    models::load(dir, &Device::cpu(), ModelOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// Logits `[B, T, V]` of a golden case's batch, with their shape.
fn logits(loaded: &Loaded, name: &str) -> (Vec<usize>, Vec<f32>) {
    let golden = golden_batch(name, &*loaded.model);
    let device = loaded.parameters.device();
    let source = golden.source.upload(device).unwrap();
    let ids = golden.target.upload_ids(device).unwrap();
    let logits = loaded.model.logits(&Tape::off(), &source, &ids).unwrap();
    (logits.shape().dims().to_vec(), logits.read().unwrap())
}

#[test]
fn saving_and_loading_changes_nothing() {
    for name in golden::cases() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let original = load(&golden::root().join(&name));
        original.save(first.path()).unwrap();
        let reloaded = load(first.path());
        reloaded.save(second.path()).unwrap();
        for file in ["config.json", "model.safetensors"] {
            let bytes = |dir: &Path| std::fs::read(dir.join(file)).unwrap();
            assert!(bytes(first.path()) == bytes(second.path()), "{name}: {file} differs");
        }
        let (shape, values) = logits(&reloaded, &name);
        assert_eq!(logits(&original, &name), (shape, values.clone()), "{name}");
        let answers = golden::read(&golden::root().join(&name).join("expected.safetensors"));
        let error = relative_l2(&values, &answers["logits"].values);
        assert!(error <= 1e-5, "{name}: reloaded logits are off by {error}");
        // Against the checkpoint that transformers wrote, value by value.
        let theirs = golden::read(&golden::root().join(&name).join("model.safetensors"));
        for (tensor, array) in golden::read(&first.path().join("model.safetensors")) {
            match theirs.get(&tensor) {
                Some(want) => assert_eq!(array.values, want.values, "{name}: {tensor}"),
                None => panic!("{name}: transformers has no {tensor}"),
            }
        }
    }
}

#[test]
fn transformers_computes_the_same_from_a_saved_model() {
    let Some(python) = interop::python() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut saved = Vec::new();
    for name in ["led_plain", "bigbird_full_fallback", "bart_plain", "pegasus_plain", "mbart_plain"] {
        let dir = root.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let golden = golden::root().join(name);
        let config = golden.join("config.json");
        // Fresh weights: nothing of transformers' own checkpoint is left to be read.
        let loaded = models::random(&config, &Device::cpu(), ModelOptions::default(), 3).unwrap();
        loaded.save(&dir).unwrap();
        let (shape, values) = logits(&loaded, name);
        let expected = dir.join("expected.safetensors");
        let named = Named { name: "logits", shape: &shape, values: Values::F32(&values) };
        write_file(&expected, &[named]).unwrap();
        let batch = Some([golden.join("inputs.safetensors"), expected]);
        saved.push(Saved { model: dir, batch, texts: None });
    }
    interop::check(&python, &saved);
}
