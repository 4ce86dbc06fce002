//! Files that are not what their name or header says.

use crate::weights::{assert_says, failure, file, one, write};
use std::path::Path;
use wattention::weights::read_file;

/// A file whose header names `entries`, each (name, shape, begin, end) of `F32`.
fn header(entries: &[(&str, &str, usize, usize)], data: usize) -> Vec<u8> {
    let entries: Vec<String> = entries
        .iter()
        .map(|(name, shape, begin, end)| {
            format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
        })
        .collect();
    file(format!("{{{}}}", entries.join(",")), vec![0; data])
}

/// Every way a file can be broken, and words of the message.
fn broken() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let deep = "[".repeat(200_000);
    let whole = one("F32", &[4], &[0; 16]);
    let half = whole[..whole.len() - 7].to_vec();
    vec![
        ("empty", vec![], "empty"),
        ("seven bytes", vec![1; 7], "7 bytes"),
        ("only a length", 2u64.to_le_bytes().to_vec(), "8 bytes"),
        ("endless header", [&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "not a safetensors file"),
        ("100 MB header", [&100_000_001u64.to_le_bytes()[..], b"{}"].concat(), "not a safetensors file"),
        ("header past the end", [&3u64.to_le_bytes()[..], b"{}"].concat(), "only the start of one"),
        ("no header", file("", ""), "EOF"),
        ("not UTF-8", file(b"{\"\xFF\":1}", ""), "utf-8"),
        ("not JSON", file("hello", ""), "expected value"),
        ("a list", file("[]", ""), "an object with a key for each tensor"),
        ("two objects", file("{}{}", ""), "trailing characters"),
        ("deep nesting", file(&deep, ""), "an object"),
        ("deep entry", file(format!(r#"{{"x":{deep}"#), ""), "expected value"),
        ("deep metadata", file(format!(r#"{{"__metadata__":{deep}"#), ""), "EOF"),
        ("no offsets", file(r#"{"x":{"dtype":"F32","shape":[]}}"#, ""), "data_offsets"),
        ("overlap", header(&[("a", "[2]", 0, 8), ("b", "[2]", 4, 12)], 12), "`b`"),
        ("the same range", header(&[("a", "[2]", 0, 8), ("b", "[2]", 0, 8)], 8), "invalid offset"),
        ("hole", header(&[("a", "[2]", 0, 8), ("b", "[2]", 12, 20)], 20), "`b`"),
        ("hole in front", header(&[("a", "[2]", 4, 12)], 12), "`a`"),
        ("backwards", header(&[("a", "[2]", 8, 0)], 8), "`a`"),
        ("shape overflow", header(&[("a", "[4294967296,4294967296,4]", 0, 0)], 0), "overflow"),
        ("size overflow", header(&[("a", "[9223372036854775807]", 0, 4)], 4), "overflow"),
        ("negative dimension", header(&[("a", "[-1]", 0, 4)], 4), "-1"),
        ("other size", header(&[("a", "[3]", 0, 8)], 8), "invalid shape"),
        ("unknown dtype", one("F31", &[4], &[0; 16]), "F31"),
        ("twice", header(&[("a", "[1]", 0, 4), ("a", "[1]", 4, 8)], 8), "\"a\" is there twice"),
        ("twice the same", header(&[("a", "[1]", 0, 4), ("a", "[1]", 0, 4)], 4), "\"a\" is there twice"),
        ("trailing byte", [&whole[..], b"!"].concat(), "describes"),
        ("truncated", half, "truncated"),
        (
            "git-lfs",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".to_vec(),
            "git lfs pull",
        ),
        ("HTML", b"\n<!DOCTYPE html><html><body>404</body></html>".to_vec(), "HTML"),
        ("PyTorch", b"PK\x03\x04archive/data.pkl and so on".to_vec(), "name it pytorch_model.bin"),
    ]
}

#[test]
fn every_broken_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (case, bytes, says) in broken() {
        let path = write(&dir, "model.safetensors", bytes);
        let message = match read_file(&path) {
            Ok(_) => panic!("{case} was read"),
            Err(error) => {
                assert_eq!(error.exit_code(), 65, "{case}: {error}");
                error.to_string()
            }
        };
        assert_says(&message, &["model.safetensors", says]);
        assert!(message.len() < 1000, "{case}: {} bytes", message.len());
    }
}

#[test]
fn a_header_length_that_begins_like_a_page_is_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let spaces = " ".repeat(usize::from(b'<') - 2);
    let path = write(&dir, "x", file(format!("{{}}{spaces}"), ""));
    assert_eq!(std::fs::read(&path).unwrap()[0], b'<');
    assert!(read_file(&path).unwrap().names().is_empty());
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "x", one("F32", &[4], &[0; 16]));
    let tensors = read_file(&path).unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(bytes - 4).unwrap();
    assert_says(&failure(tensors.f32("x"), 65), &["\"x\"", "shrank"]);
}

#[test]
fn what_is_no_file_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    assert_says(&failure(read_file(dir.path()), 65), &["not a regular file"]);
    let device = Path::new("/dev/zero");
    assert_says(&failure(read_file(device), 65), &["not a regular file"]);
    let absent = dir.path().join("absent");
    assert_says(&failure(read_file(&absent), 66), &["absent", "No such file"]);
}

#[test]
fn names_cannot_drive_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let escape = r#"{"\u001b[2J":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}"#;
    let path = write(&dir, "x", file(escape, [0; 8]));
    let message = failure(read_file(&path).unwrap().f32("\u{1b}[2J"), 65);
    assert!(!message.contains('\u{1b}'), "{message:?}");
}
