//! What a Pegasus' folder may leave out: positions, which are sinusoids, and how many ids come before the pieces.

use crate::support::golden::{self, Array};
use std::collections::BTreeMap;
use std::path::Path;
use wattention::device::Device;
use wattention::error::Result;
use wattention::models::{self, Loaded, ModelOptions};
use wattention::text::Tokenizer;
use wattention::weights::{Named, Values, write_file};

const TABLES: [&str; 2] = ["model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"];

/// The golden `name` with what `change` makes of its tensors.
fn changed(name: &str, change: impl Fn(&mut BTreeMap<String, Array>)) -> Result<Loaded> {
    let (from, dir) = (golden::root().join(name), tempfile::tempdir().unwrap());
    std::fs::copy(from.join("config.json"), dir.path().join("config.json")).unwrap();
    let mut tensors = golden::read(&from.join("model.safetensors"));
    change(&mut tensors);
    let values: Vec<Vec<f32>> =
        tensors.values().map(|array| array.values.iter().map(|&v| v as f32).collect()).collect();
    let named: Vec<Named> = tensors
        .iter()
        .zip(&values)
        .map(|((name, array), values)| Named { name, shape: &array.shape, values: Values::F32(values) })
        .collect();
    write_file(&dir.path().join("model.safetensors"), &named).unwrap();
    load(dir.path())
}

fn load(dir: &Path) -> Result<Loaded> {
    models::load(dir, &Device::cpu(), ModelOptions::default())
}

#[test]
fn a_checkpoint_without_positions_gets_those_of_transformers() {
    // The golden's tables are those that transformers made, of an even and an odd width.
    for name in ["pegasus_plain", "pegasus_odd_width"] {
        let without =
            changed(name, |tensors| TABLES.iter().for_each(|table| drop(tensors.remove(*table)))).unwrap();
        let whole = load(&golden::root().join(name)).unwrap();
        let bits = |loaded: &Loaded| -> Vec<u32> {
            loaded.weights().unwrap().slab.iter().map(|value| value.to_bits()).collect()
        };
        assert!(bits(&without) == bits(&whole), "{name}: the positions differ");
        for entry in whole.parameters.entries.iter().filter(|entry| TABLES.contains(&&*entry.name)) {
            assert!(!entry.trainable && entry.of(&whole.weights().unwrap().slab).iter().any(|&v| v != 0.0));
        }
    }
}

#[test]
fn a_table_that_was_cut_short_is_refused_by_name() {
    let cut = |tensors: &mut BTreeMap<String, Array>| {
        let table = tensors.get_mut(TABLES[0]).unwrap();
        table.shape[0] = 40;
        table.values.truncate(40 * table.shape[1]);
    };
    let error = changed("pegasus_plain", cut).err().unwrap();
    assert_eq!(error.exit_code(), 65);
    for part in [TABLES[0], "[64, 32]", "[40, 32]"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn ids_are_those_of_a_plain_pegasus_where_no_offset_is_named() {
    let named = golden::root().join("hub_tokenizers/pegasus");
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(named.join("spiece.model"), dir.path().join("spiece.model")).unwrap();
    let config = golden::root().join("pegasus_plain/config.json");
    std::fs::copy(config, dir.path().join("config.json")).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"model_max_length": 512}"#).unwrap();
    // The ids that transformers 5.17 gives for this folder.
    let want = [240, 223, 197, 204, 113, 114, 114, 287, 113, 162, 303, 128, 230, 137, 133, 136, 130, 1];
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("The committee met on Tuesday.", 64).unwrap(), want);
}
