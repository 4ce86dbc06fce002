//! Goldens' architectures with dropout, which the goldens themselves have not.

use std::path::Path;

/// The golden's architecture with dropout wherever it has a place, in a file.
pub fn with_dropout(name: &str) -> tempfile::NamedTempFile {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name).join("config.json");
    let text = std::fs::read_to_string(golden).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in ["dropout", "attention_dropout", "activation_dropout"] {
        config[key] = 0.1.into();
    }
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(&file, config.to_string()).unwrap();
    file
}
