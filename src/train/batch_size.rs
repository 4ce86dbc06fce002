//! How many examples a training step takes: a number, or as many as memory holds.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// Examples of one training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum BatchSize {
    Of(usize),
    /// The most that the memory holds.
    Largest,
}

impl TryFrom<Value> for BatchSize {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match (&value, value.as_u64()) {
            (_, Some(size)) if size > 0 => Ok(BatchSize::Of(size as usize)),
            (Value::String(word), _) if ["largest", "auto"].contains(&&**word) => Ok(BatchSize::Largest),
            _ => Err(format!("a batch size is a number from 1 or \"largest\", not {value}")),
        }
    }
}

impl From<BatchSize> for Value {
    fn from(batch: BatchSize) -> Value {
        match batch {
            BatchSize::Of(size) => size.into(),
            BatchSize::Largest => "largest".into(),
        }
    }
}

impl fmt::Display for BatchSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchSize::Of(size) => write!(f, "{size}"),
            BatchSize::Largest => f.write_str("largest"),
        }
    }
}

/// As flags give it; a number that no run can have is left to the check of the settings.
impl FromStr for BatchSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "largest" => Ok(BatchSize::Largest),
            _ => text.parse().map(BatchSize::Of).map_err(|_| "give a number, or auto".into()),
        }
    }
}
