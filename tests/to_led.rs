//! A LED made of a BART against the BART, whose own answers are transformers'.

use crate::support::batch::open as golden_batch;
use crate::support::compare::assert_within;
use crate::support::golden::{self, relative_l2};
use crate::support::interop::{self, Saved};
use wattention::device::Device;
use wattention::models::batch::{Source, SourceRows, Target};
use wattention::models::{self, LedShape, Loaded, ModelOptions, to_led};
use wattention::tape::Tape;
use wattention::train::Lengths;
use wattention::weights::{Named, Values, write_file};

fn led(positions: usize, window: usize) -> Loaded {
    to_led(&golden::root().join("bart_plain"), LedShape { positions, window }).unwrap()
}

fn logits(loaded: &Loaded, source: &Source, target: &Target) -> Vec<f32> {
    let device = loaded.parameters.device();
    let (source, ids) = (source.upload(device).unwrap(), target.upload_ids(device).unwrap());
    loaded.model.logits(&Tape::off(), &source, &ids).unwrap().read().unwrap()
}

#[test]
fn a_window_that_spans_the_input_gives_the_logits_of_the_bart() {
    for positions in [64, 150] {
        let led = led(positions, 128);
        // The inputs of the BART's golden, which have no global tokens.
        let golden = golden_batch("bart_plain", &*led.model);
        assert_eq!(golden.source.globals, 0);
        let error =
            relative_l2(&logits(&led, &golden.source, &golden.target), &golden.expected["logits"].values);
        assert!(error <= 1e-5, "{positions} positions: logits are off by {error}");
    }
}

#[test]
fn a_narrow_window_gives_others() {
    let led = led(64, 4);
    let golden = golden_batch("bart_plain", &*led.model);
    let error = relative_l2(&logits(&led, &golden.source, &golden.target), &golden.expected["logits"].values);
    assert!(error > 1e-2, "37 tokens through a window of 4 give the same within {error}");
}

#[test]
fn positions_repeat_and_global_projections_begin_as_the_local_ones() {
    let led = led(150, 8);
    let bart = golden::read(&golden::root().join("bart_plain/model.safetensors"));
    let read = |name: &str| -> Vec<f32> {
        let entry = led.parameters.entries.iter().find(|entry| entry.name == name).unwrap();
        led.parameters.read(&led.parameters.slab, entry).unwrap()
    };
    let c = 32;
    let [encoder, decoder] =
        ["encoder", "decoder"].map(|side| &bart[&format!("model.{side}.embed_positions.weight")].values);
    let rows = read("led.encoder.embed_positions.weight");
    assert_eq!(rows.len(), 150 * c);
    for position in [0, 1, 63, 64, 127, 128, 149] {
        // BART's table has two rows in front that no position uses.
        let want: &[f64] = &encoder[(2 + position % 64) * c..][..c];
        assert_within("encoder position", &rows[position * c..][..c], want, 0.0);
    }
    assert_within("decoder positions", &read("led.decoder.embed_positions.weight"), &decoder[2 * c..], 0.0);
    for (name, source) in [
        ("longformer_self_attn.query", "q_proj"),
        ("longformer_self_attn.key_global", "k_proj"),
        ("longformer_self_attn.value_global", "v_proj"),
        ("output", "out_proj"),
    ] {
        let got = read(&format!("led.encoder.layers.1.self_attn.{name}.weight"));
        let want = &bart[&format!("model.encoder.layers.1.self_attn.{source}.weight")].values;
        assert_within(name, &got, want, 0.0);
    }
}

#[test]
fn what_no_led_can_be_made_of_is_refused() {
    let refusal = |name: &str, positions, window| {
        to_led(&golden::root().join(name), LedShape { positions, window }).err().unwrap()
    };
    for (name, positions, window, code, part) in [
        ("pegasus_plain", 128, 8, 65, "Pegasus"),
        ("mbart_plain", 128, 8, 65, "mBART"),
        ("bart_scaled", 128, 8, 65, "scale_embedding"),
        ("bart_plain", 63, 8, 2, "64"),
        ("bart_plain", 64, 7, 65, "attention_window"),
    ] {
        let error = refusal(name, positions, window);
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn transformers_computes_the_same_from_the_led() {
    let Some(python) = interop::python() else { return };
    let dir = tempfile::tempdir().unwrap();
    led(150, 8).save(dir.path()).unwrap();
    let loaded = models::load(dir.path(), &Device::cpu(), ModelOptions::default()).unwrap();
    let golden = golden_batch("bart_plain", &*loaded.model);
    let values = logits(&loaded, &golden.source, &golden.target);
    let shape = [golden.target.batch, golden.target.len, loaded.model.limits().vocab];
    let expected = dir.path().join("expected.safetensors");
    write_file(&expected, &[Named { name: "logits", shape: &shape, values: Values::F32(&values) }]).unwrap();
    let inputs = golden::root().join("bart_plain/inputs.safetensors");
    let model = dir.path().to_path_buf();
    interop::check(&python, &[Saved { model, batch: Some([inputs, expected]), texts: None }]);
}

#[test]
fn a_bart_that_is_asked_for_too_long_an_input_names_the_conversion() {
    let limits = models::limits(&golden::root().join("bart_plain/config.json")).unwrap();
    let ids = vec![5; 65];
    let rows = SourceRows { batch: 1, ids: &ids, attention_mask: None, global_attention_mask: None };
    let error = Source::new(&limits, rows).unwrap_err();
    assert_eq!(error.exit_code(), 65);
    assert!(error.to_string().contains("convert --to led"), "{error}");
    let error = Lengths { source: 65, target: 8 }.check(&limits).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("convert --to led"), "{error}");
}
