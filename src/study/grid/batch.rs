//! How many examples a training step takes, and what memory that may need.

use crate::units::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

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
            (Value::String(word), _) if word == "largest" => Ok(BatchSize::Largest),
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

/// A size in bytes as people write it: `"48GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Memory(pub Bytes);

impl TryFrom<String> for Memory {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match Bytes::parse(&text) {
            Some(bytes) if bytes.0 > 0 => Ok(Memory(bytes)),
            _ => Err(format!("memory is a size such as \"48GiB\", not {text:?}")),
        }
    }
}

impl From<Memory> for String {
    fn from(memory: Memory) -> String {
        format!("{}", memory.0.0)
    }
}
