//! Settings of decoding on the command line: a model's file, the flags over it, and what each command does with both.

use super::finetune::talkative;
use super::{Ran, command, configure, golden, model, model_copy, ran};
use std::fs;
use std::path::Path;

/// Greedy answers of a model that babbles, with this `generation_config.json`.
fn generate(model: &Path, settings: &str, flags: &[&str]) -> Ran {
    fs::write(model.join("generation_config.json"), settings).unwrap();
    let input = model.join("in.txt");
    fs::write(&input, "Nobody knows.").unwrap();
    let mut command = command();
    command.args(["generate", "--device", "cpu", "--json", "--max-new-tokens", "8", "--model"]).arg(model);
    ran(command.arg("--input").arg(input).args(flags))
}

#[test]
fn what_the_model_cannot_be_given_is_refused_by_file_key_and_flag() {
    let model = talkative();
    let refused = |settings: &str, flags: &[&str], code: i32, parts: &[&str]| {
        generate(model.path(), settings, flags).fails(code, parts);
    };
    refused(
        r#"{"penalty_alpha": 0.6}"#,
        &[],
        65,
        &["generation_config.json", "penalty_alpha is 0.6", "--ignore-settings penalty_alpha"],
    );
    refused(r#"{"repetition_penalty": -1}"#, &[], 65, &["repetition_penalty is -1", "--repetition-penalty"]);
    refused("{}", &["--ignore-settings", "penalty_alfa"], 2, &["--ignore-settings", "penalty_alfa"]);
    refused("{}", &["--bad-words-ids", "7"], 2, &["--bad-words-ids", "list of lists"]);
    refused("{}", &["--repetition-penalty", "0"], 2, &["--repetition-penalty", "above 0"]);
    generate(model.path(), r#"{"penalty_alpha": 0.6}"#, &["--ignore-settings", "penalty_alpha"]).succeeds();
    generate(model.path(), r#"{"repetition_penalty": -1}"#, &["--repetition-penalty", "1.5"]).succeeds();
}

#[test]
fn a_key_that_nobody_knows_is_warned_of() {
    let model = talkative();
    let done = generate(model.path(), r#"{"my_own_key": 3}"#, &["-q"]);
    done.succeeds();
    assert!(done.err.contains("warning: ") && done.err.contains("my_own_key"), "{}", done.err);
}

#[test]
fn flags_change_what_is_said_and_are_in_the_result() {
    let model = talkative();
    let said = |flags: &[&str]| {
        let report = generate(model.path(), "{}", flags).json();
        (report["decoding"].clone(), report["predictions"][0]["prediction"].as_str().unwrap().to_string())
    };
    let (decoding, plain) = said(&[]);
    assert_eq!(decoding["repetition_penalty"], 1.0);
    let first: String = plain.chars().take(2).collect();
    let (decoding, stopped) = said(&["--stop-strings", &first]);
    assert_eq!(decoding["stop_strings"][0], first.as_str());
    assert!(stopped.len() <= plain.len() && stopped.starts_with(&first), "{stopped:?} of {plain:?}");
    let (decoding, short) = said(&["--max-time", "0"]);
    assert_eq!(decoding["max_time"], 0.0);
    assert!(short.len() < plain.len(), "{short:?} of {plain:?}");
    let (decoding, _) =
        said(&["--num-beams", "2", "--do-sample", "--suppress-tokens", "5,6", "--min-p", "0.1"]);
    assert_eq!((&decoding["suppress_tokens"][1], &decoding["min_p"]), (&6.into(), &0.1.into()));
}

/// The paper's protocol generates nothing, so nothing about generation is asked for.
#[test]
fn a_protocol_that_generates_nothing_reads_no_settings() {
    let model = talkative();
    fs::write(model.path().join("generation_config.json"), r#"{"penalty_alpha": 0.6, "max_length": 9000}"#)
        .unwrap();
    let evaluate = |protocol: &str| {
        let flags = "--dataset qmsum-slice --max-samples 2 --max-source-length 64 --max-target-length 8";
        let mut command = command();
        command.args(["evaluate", "--device", "cpu", "--json", "--protocol", protocol, "--model"]);
        ran(command.arg(model.path()).args(flags.split_whitespace()))
    };
    evaluate("paper").succeeds();
    evaluate("scrolls").fails(65, &["generation_config.json", "penalty_alpha"]);
}

/// As the Trainer writes a config: an id that the model does not have, and lists of one.
#[test]
fn ids_of_a_config_can_be_null_or_lists() {
    let dir = model_copy("led_plain");
    for (key, value) in [
        ("bos_token_id", "null"),
        ("eos_token_id", "[2]"),
        ("decoder_start_token_id", "[2]"),
        ("sep_token_id", "[]"),
    ] {
        configure(dir.path(), key, value);
    }
    let (inputs, output) = (dir.path().join("inputs.safetensors"), dir.path().join("y.safetensors"));
    let mut command = command();
    command.args(["generate", "--device", "cpu", "--max-new-tokens", "12", "--model"]).arg(dir.path());
    ran(command.arg("--inputs").arg(inputs).arg("--output").arg(&output)).succeeds();
    let expected = &golden::read(&model("led_plain").join("expected.safetensors"))["greedy_tokens"];
    assert_eq!(golden::read(&output)["sequences"].integers(), expected.integers());
}
