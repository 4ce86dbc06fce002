//! Event files as TensorBoard reads them: scalars under the tags of HF's trainer.
//!
//! A record is its length, a checksum of that, the event and a checksum of it (TFRecord). An event is a protocol
//! buffer of tensorflow/core/util/event.proto, of which three fields and a summary of scalars are written.

use crate::error::{Error, Result};
use crate::files;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the names of event files begin.
const PREFIX: &str = "events.out.tfevents.";

/// One event file.
pub(super) struct Board {
    path: PathBuf,
    file: File,
}

impl Board {
    /// A new file in `dir`, beside those of earlier runs.
    pub fn open(dir: &Path) -> Result<Self> {
        files::create_dir(dir)?;
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "localhost".into());
        let name = format!("{PREFIX}{}.{}.{}.0", now() as u64, host.trim(), std::process::id());
        let path = dir.join(name);
        let file = File::create(&path).map_err(|e| Error::output(&path, e))?;
        let mut board = Board { path, file };
        board.record(&version(now()))?;
        Ok(board)
    }

    /// Removes the event files of earlier runs.
    pub fn clear(dir: &Path) -> Result<()> {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                fs::remove_file(entry.path()).map_err(|e| Error::output(entry.path(), e))?;
            }
        }
        Ok(())
    }

    /// The numbers of a line of `metrics.jsonl`, which has a `step`.
    pub fn add(&mut self, line: &impl Serialize) -> Result<()> {
        let value =
            serde_json::to_value(line).map_err(|e| Error::internal(format!("an event is not JSON: {e}")))?;
        let Value::Object(line) = value else {
            return Ok(());
        };
        let step = line.get("step").and_then(Value::as_u64).unwrap_or(0);
        self.record(&scalars(now(), step, &tagged(&line)))
    }

    fn record(&mut self, event: &[u8]) -> Result<()> {
        // One unbuffered write: a reader that follows the file sees whole records.
        self.file.write_all(&framed(event)).map_err(|e| Error::output(&self.path, e))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Tags and values (HF `rewrite_logs`).
fn tagged(line: &Map<String, Value>) -> Vec<(String, f32)> {
    let numbers = line.iter().filter(|(key, _)| *key != "step");
    let tag = |key: &str| match key.strip_prefix("eval_") {
        Some(name) => format!("eval/{name}"),
        None => format!("train/{key}"),
    };
    numbers.filter_map(|(key, value)| Some((tag(key), value.as_f64()? as f32))).collect()
}

fn framed(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), event, &masked(event)].concat()
}

/// The checksum as TFRecord stores it: a checksum of data that holds checksums would else be weak.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// The Castagnoli checksum, bit by bit (RFC 3720, appendix B.4): events are few and short.
fn crc32c(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    });
    !crc
}

/// Field numbers and wire types of event.proto and summary.proto: 0 varint, 1 eight bytes, 2 a length and bytes,
/// 5 four bytes.
fn version(time: f64) -> Vec<u8> {
    [wall_time(time), bytes(3, b"brain.Event:2")].concat()
}

fn scalars(time: f64, step: u64, values: &[(String, f32)]) -> Vec<u8> {
    let summary: Vec<u8> = values
        .iter()
        .flat_map(|(tag, value)| {
            bytes(1, &[bytes(1, tag.as_bytes()), [&[2 << 3 | 5][..], &value.to_le_bytes()].concat()].concat())
        })
        .collect();
    [wall_time(time), [vec![2 << 3], varint(step)].concat(), bytes(5, &summary)].concat()
}

fn wall_time(time: f64) -> Vec<u8> {
    [&[1 << 3 | 1][..], &time.to_le_bytes()].concat()
}

fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2][..], &varint(content.len() as u64), content].concat()
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// Written by RecordWriter and Event of the Python package tensorboard 2.20.
    const GOLDEN: &str = "1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe9\
        3d000000000000006049f1ec0900006040fc54d94110ac022a2f0a110a0a747261696e2f6c6f737315000020400a1a0a13747261\
        696e2f6c6561726e696e675f7261746515acc5a73739e51116";

    #[test]
    fn records_are_those_of_tensorboard() {
        let line = json!({"loss": 2.5, "learning_rate": 2e-5, "note": "text", "step": 300});
        let Value::Object(line) = line else { panic!() };
        let first = framed(&version(1_700_000_000.25));
        let second = framed(&scalars(1_700_000_001.5, 300, &tagged(&line)));
        let hex: String = [first, second].concat().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    #[test]
    fn tags_are_those_of_hf() {
        let line =
            json!({"eval_rougeL": 1.0, "train_runtime": 2.0, "epoch": 0.5, "step": 1, "grad_norm": null});
        let Value::Object(line) = line else { panic!() };
        let tags: Vec<String> = tagged(&line).into_iter().map(|(tag, _)| tag).collect();
        assert_eq!(tags, ["eval/rougeL", "train/train_runtime", "train/epoch"]);
    }
}
