//! Models drawn at random, beside transformers.

use std::path::Path;
use std::process::Command;

#[test]
fn dense_models_drawn_at_random_compute_what_transformers_does() {
    let Some(python) = std::env::var_os("WATTENTION_PYTHON") else {
        println!("skipped: WATTENTION_PYTHON names no Python with transformers");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/random_parity.py");
    let mut check = Command::new(python);
    check.arg(script).args(["--binary", env!("CARGO_BIN_EXE_wattention"), "--count", "3", "--seed", "7"]);
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3, "a line for each family");
}
