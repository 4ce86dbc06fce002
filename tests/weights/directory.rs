//! Model directories: one file or shards, tied tensors, and what does not fit the model.

use crate::weights::{assert_says, bits, failure, file, named, one, want, write};
use std::os::unix::fs::symlink;
use std::path::Path;
use wattention::weights::{Wanted, load, load_each, save, write_file};

const INDEX: &str = "model.safetensors.index.json";

/// What is loaded for `wanted`, with the warnings.
fn load_all(dir: &Path, wanted: &[Wanted]) -> (Vec<Option<Vec<f32>>>, Vec<String>) {
    let mut values = vec![None; wanted.len()];
    let mut warnings = Vec::new();
    load_each(dir, wanted, &mut |w| warnings.push(w), &mut |at, v| {
        assert!(values[at].replace(v).is_none(), "{at} is placed twice");
        Ok(())
    })
    .unwrap();
    (values, warnings)
}

fn tied(aliases: &[&str]) -> Vec<Wanted> {
    let aliases = aliases.iter().map(|alias| alias.to_string()).collect();
    vec![Wanted { aliases, ..want("shared", &[2]) }]
}

#[test]
fn values_come_in_the_order_they_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [named("a", &[2], &[1.0, 2.0]), named("b", &[1, 1], &[3.0]), named("c", &[], &[4.0])];
    save(dir.path(), &tensors).unwrap();
    let optional = |name| Wanted { optional: true, ..want(name, &[]) };
    let wanted = [want("b", &[1, 1]), optional("d"), optional("c"), want("a", &[2])];
    let expected = [Some(vec![3.0]), None, Some(vec![4.0]), Some(vec![1.0, 2.0])];
    assert_eq!(load(dir.path(), &wanted).unwrap(), expected);
}

#[test]
fn a_tied_tensor_is_found_under_any_of_its_names() {
    let wanted = tied(&["head", "tokens"]);
    for name in ["shared", "head", "tokens"] {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &[named(name, &[2], &[1.0, -2.0])]).unwrap();
        let (values, warnings) = load_all(dir.path(), &wanted);
        assert_eq!(values, [Some(vec![1.0, -2.0])]);
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn tied_tensors_that_differ_are_reported_and_the_first_name_wins() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [
        named("a.head", &[2], &[0.0, 1.0]),
        named("b.tokens", &[2], &[-0.0, 1.0]),
        named("shared", &[2], &[0.0, 1.0]),
    ];
    save(dir.path(), &tensors).unwrap();
    let (values, warnings) = load_all(dir.path(), &tied(&["a.head", "b.tokens"]));
    assert_eq!(bits(values[0].as_ref().unwrap()), bits(&[0.0, 1.0]));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_says(&warnings[0], &["\"shared\"", "\"b.tokens\"", "differ"]);

    let mut other = tied(&["a.head", "shared"]);
    other[0].name = "b.tokens".to_string();
    let (values, warnings) = load_all(dir.path(), &other);
    assert_eq!(bits(values[0].as_ref().unwrap()), bits(&[-0.0, 1.0]));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn tied_tensors_of_two_dtypes_are_compared_by_value() {
    let dir = tempfile::tempdir().unwrap();
    let header = r#"{"shared":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                     "head":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]}}"#;
    let data = [0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0, 0x80, 0x3F, 0, 0xC0];
    write(&dir, "model.safetensors", file(header, data));
    let (values, warnings) = load_all(dir.path(), &tied(&["head"]));
    assert_eq!(values, [Some(vec![1.0, -2.0])]);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn everything_that_does_not_fit_is_one_error() {
    let dir = tempfile::tempdir().unwrap();
    let header = r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},
                     "b":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},
                     "extra":{"dtype":"F32","shape":[3],"data_offsets":[16,28]}}"#;
    write(&dir, "model.safetensors", file(header, [0; 28]));
    let mut wanted = vec![want("a", &[1, 2]), want("b", &[1])];
    wanted.extend((0..12).map(|i| want(&format!("m{i}"), &[7, i])));
    let message = failure(load(dir.path(), &wanted), 65);
    assert_says(
        &message,
        &[
            "12 missing",
            "\"m0\" [7, 0]",
            "\"m9\" [7, 9]",
            "and 2 more",
            "1 unused",
            "\"extra\" [3]",
            "\"a\": expected [1, 2], found [2, 1]",
            "\"b\": I64, expected one of F32",
            "config.json",
        ],
    );
    assert!(!message.contains("m10"), "{message}");
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        (one("F32", &[2], &[0, 0, 0, 0, 0, 0, 0xC0, 0x7F]), "element 1 is NaN"),
        (one("F16", &[2], &[0, 0xFC, 0, 0]), "element 0 is -inf"),
        (one("F64", &[1], &1e300f64.to_le_bytes()), "element 0 is inf"),
    ];
    for (bytes, says) in cases {
        let shape = if says.contains("0 is inf") { [1] } else { [2] };
        write(&dir, "model.safetensors", bytes);
        let message = failure(load(dir.path(), &[want("x", &shape)]), 65);
        assert_says(&message, &["\"x\"", says]);
    }
}

/// Shards `one` with `a` and `two` with `b`, and an index of `map`.
fn shards(dir: &Path, map: &str) {
    write_file(&dir.join("one.safetensors"), &[named("a", &[1], &[1.0])]).unwrap();
    write_file(&dir.join("two.safetensors"), &[named("b", &[1], &[2.0])]).unwrap();
    let index = format!(r#"{{"metadata":{{"total_size":8}},"weight_map":{{{map}}}}}"#);
    write(dir, INDEX, index);
}

fn both() -> [Wanted; 2] {
    [want("b", &[1]), want("a", &[1])]
}

#[test]
fn shards_are_one_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    shards(dir.path(), r#""a":"one.safetensors","b":"two.safetensors""#);
    let expected = [Some(vec![2.0]), Some(vec![1.0])];
    assert_eq!(load(dir.path(), &both()).unwrap(), expected);

    // As transformers does, a whole file is taken before an index.
    write(&dir, "model.safetensors", one("F32", &[1], &[0; 4]));
    let whole = load(dir.path(), &[want("x", &[1])]).unwrap();
    assert_eq!(whole, [Some(vec![0.0])]);
}

#[test]
fn an_index_that_lies_is_refused() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("model");
    std::fs::create_dir(&dir).unwrap();
    let secret = write(&outer, "secret.safetensors", one("F32", &[1], &[0; 4]));
    symlink(&secret, dir.join("link.safetensors")).unwrap();
    let absolute = format!(r#""x":{secret:?}"#);
    let cases = [
        (r#""x":"../secret.safetensors""#, 65, "outside"),
        (r#""x":"./one.safetensors""#, 65, "outside"),
        (r#""x":"..""#, 65, "outside"),
        (r#""x":"""#, 65, "outside"),
        (r#""x":"one.safetensors/""#, 65, "outside"),
        (&absolute, 65, "outside"),
        (r#""x":"link.safetensors""#, 65, "outside"),
        (r#""a":"three.safetensors""#, 66, "download it"),
        (r#""a":"one.safetensors","b":"one.safetensors""#, 65, "does not hold it"),
        (r#""a":"two.safetensors","b":"one.safetensors""#, 65, "does not hold it"),
        (r#""a":"one.safetensors","a":"two.safetensors""#, 65, "\"a\" is there twice"),
        (r#""a":1"#, 65, "integer"),
    ];
    for (map, exit_code, says) in cases {
        shards(&dir, map);
        let message = failure(load(&dir, &both()), exit_code);
        assert_says(&message, &[says]);
    }
    for (index, says) in [("version https://git-lfs", "git lfs pull"), ("{}", "weight_map")] {
        write(&dir, INDEX, index);
        assert_says(&failure(load(&dir, &both()), 65), &[INDEX, says]);
    }
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    shards(dir.path(), r#""a":"one.safetensors","b":"two.safetensors""#);
    let twice = [named("a", &[1], &[1.0]), named("b", &[1], &[2.0])];
    write_file(&dir.path().join("two.safetensors"), &twice).unwrap();
    let message = failure(load(dir.path(), &both()), 65);
    assert_says(&message, &["\"a\"", "one.safetensors", "two.safetensors"]);
}

#[test]
fn links_of_the_hub_cache_are_followed() {
    let cache = tempfile::tempdir().unwrap();
    let (blobs, dir) = (cache.path().join("blobs"), cache.path().join("snapshots/0a1b"));
    std::fs::create_dir(&blobs).unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    shards(&blobs, r#""a":"one.safetensors","b":"two.safetensors""#);
    for name in ["one.safetensors", "two.safetensors", INDEX] {
        symlink(format!("../../blobs/{name}"), dir.join(name)).unwrap();
    }
    let expected = [Some(vec![2.0]), Some(vec![1.0])];
    assert_eq!(load(&dir, &both()).unwrap(), expected);
}

#[test]
fn a_directory_without_weights_says_what_to_do() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("model");
    assert_says(&failure(load(&dir, &[]), 66), &["No such file"]);
    std::fs::create_dir(&dir).unwrap();
    let message = failure(load(&dir, &[]), 66);
    assert_says(&message, &["model.safetensors", "name a model directory"]);
    let weights = write(&dir, "weights.safetensors", "");
    assert_says(&failure(load(&weights, &[]), 66), &["not a directory"]);
    symlink("nowhere", dir.join("model.safetensors")).unwrap();
    let message = failure(load(&dir, &[]), 66);
    assert_says(&message, &["model.safetensors", "No such file"]);
}
