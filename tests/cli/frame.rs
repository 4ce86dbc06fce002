//! What holds for every command: help, global flags, streams and exit codes.

use super::{command, model, ran, wattention};
use std::process::Stdio;

#[test]
fn help_and_version_go_to_stdout() {
    for line in ["--help", "--version", "forward --help", "help data"] {
        let done = wattention(line);
        done.succeeds();
        assert!(!done.out.is_empty() && done.err.is_empty(), "{line}");
    }
    let version = concat!("wattention ", env!("CARGO_PKG_VERSION"));
    assert_eq!(wattention("-V").out.trim(), version);
    let long = wattention("--version").out;
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines[0], version);
    for (line, name) in lines[1..].iter().zip(["commit", "target", "processor", "kernels", "simulator"]) {
        assert_eq!(line.split_whitespace().next(), Some(name), "{long}");
    }
    let here = wattention("doctor --json").json()["processor"]["instructions"].clone();
    let used = here.as_array().unwrap().iter().filter(|one| one["used"] == true);
    let names: Vec<&str> = used.map(|one| one["name"].as_str().unwrap()).collect();
    let wanted = if names.is_empty() { "baseline".into() } else { names.join(", ") };
    assert_eq!(lines[3].split_once(' ').unwrap().1.trim(), wanted);
}

#[test]
fn help_lists_every_command_under_a_job() {
    let help = wattention("--help").out;
    let place = |part: &str| help.find(part).unwrap_or_else(|| panic!("no {part:?} in {help}"));
    assert!(place("Choose a model") < place("\n  study "));
    assert!(place("\n  study ") < place("Train and use") && place("Train and use") < place("\n  finetune "));
    assert!(place("\n  completions ") < place("--device"));
    assert!(!help.contains('\u{1b}'), "colours without a terminal");
}

#[test]
fn completions_know_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let done = wattention(&format!("completions {shell}"));
        done.succeeds();
        for word in ["finetune", "max-source-length"] {
            assert!(done.out.contains(word), "{shell}: no {word}");
        }
    }
    wattention("completions tcsh").fails(2, &["'tcsh'", "bash"]);
    wattention("completions man").fails(2, &["--output-dir"]);
    wattention("completions bash --output-dir x").fails(2, &["--output-dir"]);
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    ran(command().args(["completions", "man", "--output-dir"]).arg(dir.path())).succeeds();
    let pages = super::names_in(dir.path());
    for page in ["wattention.1", "wattention-finetune.1", "wattention-bench-attention.1"] {
        assert!(pages.iter().any(|name| name == page), "no {page} in {pages:?}");
    }
    let page = std::fs::read_to_string(dir.path().join("wattention-finetune.1")).unwrap();
    assert!(page.contains("max\\-source\\-length"), "no flags in {page}");
}

#[test]
fn flags_stand_under_their_own_heading() {
    let help = wattention("profile evaluate --help").out;
    let [measuring, heading, decoding] =
        ["--warmup <", "Decoding (", "--num-beams <"].map(|part| help.find(part).expect(part));
    assert!(measuring < heading && heading < decoding, "{help}");
}

#[test]
fn no_command_is_answered_with_help() {
    let done = wattention("");
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""));
    assert!(done.err.contains("Usage: wattention"), "{}", done.err);
}

#[test]
fn misspellings_get_a_suggestion() {
    wattention("forwrd").fails(2, &["'forwrd'", "'forward'"]);
    wattention("forward --modle x").fails(2, &["'--modle'", "'--model'"]);
    wattention("data import qmsun --from a --to b").fails(2, &["'qmsun'", "'qmsum'"]);
}

#[test]
fn values_of_flags_are_checked_before_any_work() {
    for (flags, says) in [
        ("--device gpu", "cpu, cuda, cuda:N, sim and plan"),
        ("--device cuda:-1", "--device"),
        ("--precision fp64", "fp32, tf32, tf32x3 or bf16"),
        ("--precision BF16", "fp32, tf32, tf32x3 or bf16"),
        ("--seed -1", "--seed"),
        ("--seed x", "--seed"),
        ("--threads 0", "--threads"),
        ("--threads -2", "--threads"),
        ("--threads 1000000", "1..=1024"),
        ("--label-smoothing -0.1", "below 1"),
        ("--quiet --verbose", "--verbose"),
        ("--label-smoothing 1", "below 1"),
        ("--label-smoothing NaN", "below 1"),
        ("--random-blocks none", "eval-zero"),
    ] {
        let line = format!("forward --model m --inputs i --output o {flags}");
        wattention(&line).fails(2, &[says]);
    }
    wattention("forward --inputs i --output o").fails(2, &["--model"]);
}

#[test]
fn a_device_that_is_not_here_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let led = model("led_plain");
    ran(command()
        .args(["forward", "--device", "cuda:99", "--model"])
        .arg(&led)
        .arg("--inputs")
        .arg(led.join("inputs.safetensors"))
        .arg("--output")
        .arg(dir.path().join("x")))
    .fails(69, &["cuda:99"]);
}

#[test]
fn the_chosen_device_is_said_unless_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let led = model("led_plain");
    let forward = |flags: &[&str]| {
        let done = ran(command()
            .args(flags)
            .args(["forward", "--model"])
            .arg(&led)
            .arg("--inputs")
            .arg(led.join("inputs.safetensors"))
            .arg("--output")
            .arg(dir.path().join("x")));
        done.succeeds();
        done
    };
    assert!(forward(&[]).err.starts_with("device: "));
    assert_eq!(forward(&["--quiet"]).err, "");
    assert_eq!(forward(&["--device", "cpu"]).err, "");
    assert!(forward(&["-v"]).err.contains("parameters"));
    // Global flags count before the command as they do behind it.
    assert_eq!(forward(&["--json", "-q"]).json()["device"], "cpu");
}

#[test]
fn json_is_one_object_and_nothing_else() {
    let done = wattention("data stats --dataset qmsum-slice --json");
    done.json();
    assert_eq!(done.out.lines().count(), 1);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    for line in ["data stats --dataset qmsum-slice", "--help"] {
        let mut child = command()
            .args(line.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert!(output.stderr.is_empty(), "{line}: {:?}", output.stderr);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_behind_stdout_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command()
        .args(["data", "stats", "--dataset", "qmsum-slice"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(74));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.starts_with("error: cannot write to standard output: "), "{err}");
}

#[test]
fn names_of_files_cannot_drive_the_terminal() {
    let done = ran(command().args(["data", "stats", "--dataset", "\u{1b}[2J\nx"]));
    done.fails(66, &["\\u{1b}"]);
    assert_eq!(done.err.lines().count(), 1);
}
