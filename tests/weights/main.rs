//! Checkpoints: values, directories, and files that are not what they seem.

mod directory;
mod hostile;
mod saving;
mod torch_hostile;
mod torch_values;
mod values;

use std::path::{Path, PathBuf};
use wattention::error::{Error, Result};
use wattention::weights::{Named, Values, Wanted};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/led_plain/model.safetensors");

/// A safetensors file from its header and its data, be they as wrong as they may.
fn file(header: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Vec<u8> {
    let (header, data) = (header.as_ref(), data.as_ref());
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// A file of one tensor named `x`.
fn one(dtype: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let end = data.len();
    let header = format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[0,{end}]}}}}"#);
    file(header, data)
}

fn write(dir: impl AsRef<Path>, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.as_ref().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn named<'a>(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> Named<'a> {
    Named { name, shape, values: Values::F32(values) }
}

fn want(name: &str, shape: &[usize]) -> Wanted {
    Wanted { name: name.to_string(), shape: shape.to_vec(), ..Wanted::default() }
}

/// The message of a failure with this exit code.
#[track_caller]
fn failure<T>(result: Result<T>, exit_code: i32) -> String {
    let error: Error = result.err().expect("this must not succeed");
    assert_eq!(error.exit_code(), exit_code, "{error}");
    error.to_string()
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
