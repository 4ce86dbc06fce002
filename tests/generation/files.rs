//! Settings from files and flags: what is read, what is refused and what is warned of.

use super::open;
use crate::support::golden::root;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use wattention::generate::{
    EarlyStopping, GenerateOptions, HARMLESS, LENGTHS, REFUSED, SETTINGS, START, Settings,
};
use wattention::models::ModelLimits;

fn limits() -> ModelLimits {
    open("led_plain").real().loaded.model.limits()
}

fn options(text: &str) -> GenerateOptions {
    Settings::parse("x", text).unwrap().options(&limits(), 0).unwrap()
}

/// HF reads `generation_config.json`, and without one `config.json`, as models from before it have.
#[test]
fn settings_come_from_the_files_of_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "config.json",
        r#"{"num_beams": 4, "early_stopping": true, "length_penalty": 2.0, "max_length": 142, "d_model": 8}"#,
    );
    let limits = open("bigbird_block_sparse").real().loaded.model.limits();
    let options =
        |flags: Settings| flags.or(Settings::of_model(dir.path(), &[]).unwrap()).options(&limits, 0);
    let old = options(Settings::default()).unwrap();
    assert_eq!((old.num_beams, old.length_penalty, old.max_new_tokens), (4, 2.0, 141));
    assert_eq!(old.early_stopping, EarlyStopping::Yes);
    assert!(Settings::of_model(dir.path(), &[]).unwrap().warnings().is_empty(), "d_model is the model's");
    write(
        "generation_config.json",
        r#"{"num_beams": 5, "max_new_tokens": 9, "max_length": 7, "min_length": 4}"#,
    );
    let new = options(Settings::default()).unwrap();
    assert_eq!((new.num_beams, new.length_penalty), (5, 1.0));
    assert_eq!((new.max_new_tokens, new.min_new_tokens), (9, 3), "new tokens go before lengths");
    let mut flags = Settings::default();
    flags.set("max_length", 7.into());
    flags.set("num_beams", 1.into());
    let with_flags = options(flags).unwrap();
    assert_eq!((with_flags.max_new_tokens, with_flags.num_beams), (6, 1));
}

/// Every key of transformers' `GenerationConfig` has its one place, and there is no other key.
#[test]
fn every_key_of_transformers_is_a_setting_harmless_or_refused() {
    let text = std::fs::read_to_string(root().join("generation_keys.json")).unwrap();
    let theirs: Map<String, Value> = serde_json::from_str(&text).unwrap();
    let ours: Vec<&str> = SETTINGS
        .iter()
        .chain(&LENGTHS)
        .map(|setting| setting.key)
        .chain([START])
        .chain(HARMLESS.iter().map(|(key, _)| *key))
        .chain(REFUSED.iter().map(|refused| refused.key))
        .collect();
    let distinct: BTreeSet<&str> = ours.iter().copied().collect();
    assert_eq!(distinct.len(), ours.len(), "a key has two places");
    assert_eq!(distinct, theirs.keys().map(String::as_str).collect());
}

/// But for lengths, which HF counts with the start token, and ids, which the model has.
#[test]
fn defaults_are_those_of_transformers() {
    let text = std::fs::read_to_string(root().join("generation_keys.json")).unwrap();
    let theirs: Map<String, Value> = serde_json::from_str(&text).unwrap();
    let ours = serde_json::to_value(GenerateOptions::new(&limits())).unwrap();
    // What null stands for where HF has no default of its own.
    let unset = |key: &str| match key {
        "min_new_tokens" => json!(0),
        "renormalize_logits" => json!(false),
        "bad_words_ids"
        | "sequence_bias"
        | "suppress_tokens"
        | "begin_suppress_tokens"
        | "forced_eos_token_id"
        | "stop_strings" => json!([]),
        _ => Value::Null,
    };
    let differ = ["max_new_tokens", "decoder_start_token_id", "eos_token_id", "pad_token_id"];
    for key in SETTINGS.iter().map(|setting| setting.key).filter(|key| !differ.contains(key)) {
        let want = if theirs[key].is_null() { unset(key) } else { theirs[key].clone() };
        assert_eq!(ours[key], want, "{key}");
    }
}

#[test]
fn what_is_written_down_reads_back() {
    let mut first =
        options(r#"{"num_beams": 3, "bad_words_ids": [[5], [6, 7]], "sequence_bias": [[[4], 1.5]]}"#);
    first.exponential_decay_length_penalty = Some((3, 1.25));
    first.early_stopping = EarlyStopping::Never;
    let mut written = serde_json::to_value(&first).unwrap();
    written.as_object_mut().unwrap().remove("seed");
    assert_eq!(options(&written.to_string()), first);
}

/// As transformers' Trainer writes it: nulls, and lists of one id.
#[test]
fn ids_can_be_null_or_lists() {
    let ids = options(
        r#"{"bos_token_id": null, "eos_token_id": [2], "decoder_start_token_id": [2], "pad_token_id": 1,
            "forced_bos_token_id": null, "max_length": null, "early_stopping": null}"#,
    );
    assert_eq!((ids.decoder_start_token_id, &ids.eos_token_id[..], ids.pad_token_id), (2, &[2][..], 1));
    let from_bos = options(r#"{"bos_token_id": 0, "eos_token_id": [2, 3]}"#);
    assert_eq!((from_bos.decoder_start_token_id, from_bos.eos_token_id), (0, vec![2, 3]));
    assert_eq!(from_bos.pad_token_id, 2, "the first end, as in transformers");
    let no_end = Settings::parse("x", r#"{"bos_token_id": 0, "pad_token_id": 1}"#).unwrap();
    assert!(no_end.warnings()[0].contains("eos_token_id"), "{:?}", no_end.warnings());
    assert!(no_end.options(&limits(), 0).unwrap().eos_token_id.is_empty());
    assert!(options(r#"{"eos_token_id": null}"#).eos_token_id.is_empty());
}

#[test]
fn what_has_no_effect_is_not_looked_at() {
    let idle = options(r#"{"temperature": 0.0, "top_p": 7, "length_penalty": 1e999, "diversity_penalty": 0.5}"#.replace("1e999", "1").as_str());
    assert!(!idle.do_sample && idle.num_beams == 1);
}

#[test]
fn refusals_name_file_key_value_and_remedy() {
    for (text, parts) in [
        (r#"{"early_stopping": "always"}"#, &["early_stopping is \"always\"", "--early-stopping"][..]),
        (r#"{"num_beams": -2}"#, &["num_beams is -2", "--num-beams"]),
        (r#"{"num_beams": 0}"#, &["num_beams is 0", "--num-beams"]),
        (r#"{"max_new_tokens": 1023}"#, &["max_new_tokens is 1023", "24 positions", "--max-new-tokens"]),
        (r#"{"max_length": 1}"#, &["max_length is 1", "--max-length"]),
        (r#"{"max_length": 1024}"#, &["max_length is 1024", "--max-length"]),
        (r#"{"num_return_sequences": 2}"#, &["num_return_sequences is 2", "--num-return-sequences"]),
        (r#"{"do_sample": true, "temperature": 0.0}"#, &["temperature is 0.0", "above 0", "--temperature"]),
        (r#"{"do_sample": true, "top_p": 1.5}"#, &["top_p is 1.5", "--top-p"]),
        (r#"{"forced_bos_token_id": 99}"#, &["forced_bos_token_id is 99", "--forced-bos-token-id"]),
        (
            r#"{"decoder_start_token_id": [2, 3]}"#,
            &["decoder_start_token_id is [2,3]", "--decoder-start-token-id"],
        ),
        (r#"{"bos_token_id": "x"}"#, &["bos_token_id is \"x\"", "--decoder-start-token-id"]),
        (r#"{"bad_words_ids": [[]]}"#, &["bad_words_ids is [[]]", "--bad-words-ids"]),
        (
            r#"{"suppress_tokens": [7], "forced_eos_token_id": 7}"#,
            &["forced_eos_token_id is [7]", "suppress_tokens"],
        ),
        (
            r#"{"penalty_alpha": 0.6}"#,
            &["penalty_alpha is 0.6", "contrastive", "--ignore-settings penalty_alpha"],
        ),
        (r#"{"watermarking_config": {"bias": 2}}"#, &["watermarking_config is", "--ignore-settings"]),
        (r#"{"num_beam_groups": 2}"#, &["num_beam_groups is 2", "--ignore-settings"]),
        (r#"{"guidance_scale": 1.5}"#, &["guidance_scale is 1.5", "--ignore-settings"]),
        ("[]", &[]),
    ] {
        let read = Settings::parse("m/generation_config.json", text);
        let error = read.and_then(|settings| settings.options(&limits(), 0)).expect_err(text);
        assert_eq!(error.exit_code(), 65, "{text}");
        let message = error.to_string();
        assert!(message.starts_with("m/generation_config.json: "), "{message}");
        for part in parts {
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}

#[test]
fn a_flag_replaces_what_the_file_cannot_have() {
    let file = Settings::parse("x", r#"{"num_beams": -2, "max_length": 4000}"#).unwrap();
    let mut flags = Settings::default();
    flags.set("num_beams", 2.into());
    flags.set("max_new_tokens", 5.into());
    assert!(flags.is_flag("num_beams") && !flags.is_flag("max_length"));
    let options = flags.or(file).options(&limits(), 0).unwrap();
    assert_eq!((options.num_beams, options.max_new_tokens), (2, 5));
    let mut wrong = Settings::default();
    wrong.set("num_beams", 200.into());
    let error = wrong.options(&limits(), 0).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("--num-beams is 200")), (2, true));
}

#[test]
fn keys_can_be_left_out_and_unknown_ones_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("generation_config.json");
    std::fs::write(&path, r#"{"penalty_alpha": 0.6, "top_k": 4, "my_own": 1, "use_cache": true}"#).unwrap();
    assert!(Settings::of_model(dir.path(), &[]).is_err());
    let settings = Settings::of_model(dir.path(), &["penalty_alpha".into()]).unwrap();
    assert_eq!(settings.warnings().len(), 1);
    assert!(settings.warnings()[0].contains("my_own"));
    let error = Settings::of_model(dir.path(), &["penalty_alfa".into()]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
}
