//! What is read is what was stored, of every type.

use crate::weights::{GOLDEN, assert_says, bits, failure, named, one, write};
use std::path::Path;
use wattention::weights::{Dtype, Named, Values, read_file, write_file};

/// Reads `x` of a file with this dtype as float32.
fn floats(dtype: &str, data: &[u8], count: usize) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "x.safetensors", one(dtype, &[count], data));
    read_file(&path).unwrap().f32("x").unwrap()
}

#[test]
fn halves_are_exact() {
    let stored = [0x3C00u16, 0xC000, 0x7BFF, 0x0001, 0x3555, 0x8000, 0x7C00];
    let expected = [1.0, -2.0, 65504.0, 2f32.powi(-24), 0.333_251_95, -0.0, f32::INFINITY];
    let read = floats("F16", &stored.map(u16::to_le_bytes).concat(), 7);
    assert_eq!(bits(&read), bits(&expected));
}

#[test]
fn brain_floats_are_the_upper_half_of_floats() {
    let stored = [0x3F80u16, 0xC000, 0x4049, 0x0001, 0x7F7F, 0x8000, 0xFF80];
    let expected = stored.map(|half| f32::from_bits(u32::from(half) << 16));
    assert_eq!(expected[2], 3.140625);
    let read = floats("BF16", &stored.map(u16::to_le_bytes).concat(), 7);
    assert_eq!(bits(&read), bits(&expected));
}

#[test]
fn doubles_are_rounded_to_nearest_even() {
    let step = 2f64.powi(-24);
    let stored = [0.1, 1.0 + step, 1.0 + 3.0 * step, -1e-60, f64::NEG_INFINITY];
    let expected = [0.1f32, 1.0, 1.0 + 2f32.powi(-22), -0.0, f32::NEG_INFINITY];
    let read = floats("F64", &stored.map(f64::to_le_bytes).concat(), 5);
    assert_eq!(bits(&read), bits(&expected));
}

#[test]
fn tensors_longer_than_one_read_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let count = 300_001;
    let halves: Vec<u8> = (0..count).flat_map(|i| ((i % 0x7C00) as u16).to_le_bytes()).collect();
    let path = write(&dir, "half", one("F16", &[count], &halves));
    let read = read_file(&path).unwrap().f32("x").unwrap();
    assert_eq!(read.len(), count);
    for (i, value) in read.iter().enumerate() {
        let half = half::f16::from_bits((i % 0x7C00) as u16);
        assert_eq!(value.to_bits(), half.to_f32().to_bits(), "element {i}");
    }

    let first: Vec<f32> = (0..count).map(|i| i as f32).collect();
    let second: Vec<i64> = (0..count as i64).map(|i| i << 33).collect();
    let path = dir.path().join("both");
    let wide = Named { name: "wide", shape: &[count], values: Values::I64(&second) };
    write_file(&path, &[named("float", &[count], &first), wide]).unwrap();
    let tensors = read_file(&path).unwrap();
    assert_eq!(bits(&tensors.f32("float").unwrap()), bits(&first));
    assert_eq!(tensors.i64("wide").unwrap(), second);
}

#[test]
fn every_bit_survives_a_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.safetensors");
    let floats = [f32::NAN, -0.0, f32::MIN_POSITIVE / 2.0, -f32::INFINITY, 0.1, 3e38];
    let tokens = [i64::MIN, -100, 0, i64::MAX];
    let ids = Named { name: "ids", shape: &[2, 2], values: Values::I64(&tokens) };
    let tensors = [
        named("logits", &[1, 2, 3], &floats),
        ids,
        named("loss", &[], &floats[4..5]),
        named("none", &[0, 7], &[]),
    ];
    write_file(&path, &tensors).unwrap();
    let read = read_file(&path).unwrap();
    assert_eq!(bits(&read.f32("logits").unwrap()), bits(&floats));
    assert_eq!(read.shape("logits").unwrap(), [1, 2, 3]);
    assert_eq!(read.i64("ids").unwrap(), tokens);
    assert_eq!(read.dtype("ids").unwrap(), Dtype::I64);
    assert_eq!(read.f32("loss").unwrap(), [0.1]);
    assert_eq!(read.shape("loss").unwrap(), [0usize; 0]);
    assert!(read.f32("none").unwrap().is_empty());
    assert_eq!(read.names(), ["ids", "logits", "loss", "none"]);
}

#[test]
fn integers_are_widened() {
    let dir = tempfile::tempdir().unwrap();
    let narrow = [i32::MIN, -1, 7].map(i32::to_le_bytes).concat();
    let path = write(&dir, "narrow", one("I32", &[3], &narrow));
    let expected = [i64::from(i32::MIN), -1, 7];
    assert_eq!(read_file(&path).unwrap().i64("x").unwrap(), expected);
    for dtype in ["U8", "BOOL"] {
        let path = write(&dir, dtype, one(dtype, &[3], &[0, 1, 1]));
        assert_eq!(read_file(&path).unwrap().i64("x").unwrap(), [0, 1, 1]);
    }
}

#[test]
fn a_wrong_name_or_type_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "x", one("I64", &[1], &[0; 8]));
    let tensors = read_file(&path).unwrap();
    assert_says(&failure(tensors.f32("x"), 65), &["\"x\"", "I64", "BF16"]);
    assert_says(&failure(tensors.i64("y"), 65), &["\"y\""]);
    let path = write(&dir, "y", one("F32", &[1], &[0; 4]));
    let tensors = read_file(&path).unwrap();
    assert_says(&failure(tensors.i64("x"), 65), &["\"x\"", "F32", "I64"]);
}

#[test]
fn a_file_of_transformers_is_read() {
    let tensors = read_file(Path::new(GOLDEN)).unwrap();
    assert_eq!(tensors.names().len(), 104);
    assert_eq!(tensors.shape("led.shared.weight").unwrap(), [99, 32]);
    // As the Python safetensors package reads them.
    let shared = tensors.f32("led.shared.weight").unwrap();
    assert_eq!(shared[5 * 32 + 7].to_bits(), 0xbf8f_5add);
    let fc1 = tensors.f32("led.encoder.layers.1.fc1.weight").unwrap();
    assert_eq!(fc1[39 * 32].to_bits(), 0xbee5_b3fc);
}
