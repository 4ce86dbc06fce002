//! What memory a cell may need, as people write it.

use crate::units::Bytes;
use serde::{Deserialize, Serialize};

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
