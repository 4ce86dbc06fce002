//! Files of torch.save: what is read is what torch reads.

use crate::support::torch_file::{Pickle, archive, floats};
use crate::weights::{assert_says, bits, failure, named, want, write};
use std::path::{Path, PathBuf};
use wattention::weights::{Wanted, load, load_each, read_file, read_torch_file, save};

/// `scripts/torch_files.py` says what lies here.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/torch").join(name)
}

#[test]
fn every_form_of_the_archive_holds_the_tensors_that_torch_reads() {
    let expected = read_file(&golden("expected.safetensors")).unwrap();
    for name in ["tensors.bin", "old_zip.bin", "protocol_5.bin"] {
        let read = read_torch_file(&golden(name)).unwrap();
        assert_eq!(read.names().len(), 19);
        for tensor in expected.names() {
            let what = format!("{name}: {tensor}");
            assert_eq!(read.dtype(&tensor).unwrap(), expected.dtype(&tensor).unwrap(), "{what}");
            assert_eq!(read.shape(&tensor).unwrap(), expected.shape(&tensor).unwrap(), "{what}");
            match expected.f32(&tensor) {
                Ok(values) => assert_eq!(bits(&read.f32(&tensor).unwrap()), bits(&values), "{what}"),
                Err(_) => assert_eq!(read.i64(&tensor).unwrap(), expected.i64(&tensor).unwrap(), "{what}"),
            }
        }
    }
}

#[test]
fn a_view_is_read_in_the_order_of_its_indices() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
    // [[a, b], [c, d]] of a 3 x 4 matrix, transposed, from row 1.
    let path = write(&dir, "x.bin", floats(&[2, 2], &[1, 4], 4, &values));
    assert_eq!(read_torch_file(&path).unwrap().f32("x").unwrap(), [4.0, 8.0, 5.0, 9.0]);
    let path = write(&dir, "x.bin", floats(&[], &[], 11, &values));
    assert_eq!(read_torch_file(&path).unwrap().f32("x").unwrap(), [11.0]);
    let path = write(&dir, "x.bin", floats(&[0, 4], &[4, 1], 12, &values));
    assert!(read_torch_file(&path).unwrap().f32("x").unwrap().is_empty());
}

#[test]
fn a_storage_of_bytes_without_a_type_is_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Pickle::new().dict().text("x").global("torch._utils", "_rebuild_tensor_v2").raw("((");
    let storage = storage.text("storage").global("torch.storage", "UntypedStorage").text("0").text("cpu");
    let pickle = storage.int(2).raw("tQ").int(0).ints(&[2]).ints(&[1]).raw([0x88]);
    let pickle = pickle.global("collections", "OrderedDict").raw(")RtR").end();
    let path = write(&dir, "x.bin", archive(&[("data.pkl", &pickle), ("data/0", &[7, 255])]));
    assert_eq!(read_torch_file(&path).unwrap().i64("x").unwrap(), [7, 255]);
}

fn loaded(dir: &Path, wanted: &[Wanted]) -> (Vec<Option<Vec<f32>>>, Vec<String>) {
    let mut values = vec![None; wanted.len()];
    let mut warnings = Vec::new();
    load_each(dir, wanted, &mut |w| warnings.push(w), &mut |at, v| {
        values[at] = Some(v);
        Ok(())
    })
    .unwrap();
    (values, warnings)
}

#[test]
fn tied_names_share_a_storage_or_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let view = |at| (at, &[2][..], &[1][..]);
    let data: Vec<u8> = [1.0f32, 2.0, 1.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let tied = [Wanted { aliases: vec!["head".into()], ..want("shared", &[2]) }];
    for (offset, warned) in [(0, 0), (2, 1)] {
        let pickle = Pickle::new().dict().text("shared").tensor("FloatStorage", "0", 4, view(0));
        let pickle = pickle.text("head").tensor("FloatStorage", "0", 4, view(offset)).end();
        write(&dir, "pytorch_model.bin", archive(&[("data.pkl", &pickle), ("data/0", &data)]));
        let (values, warnings) = loaded(dir.path(), &tied);
        assert_eq!(values, [Some(vec![1.0, 2.0])]);
        assert_eq!(warnings.len(), warned, "{warnings:?}");
    }
}

#[test]
fn safetensors_are_taken_before_torch_files() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "pytorch_model.bin", floats(&[1], &[1], 0, &[1.0]));
    assert_eq!(load(dir.path(), &[want("x", &[1])]).unwrap(), [Some(vec![1.0])]);
    save(dir.path(), &[named("x", &[1], &[2.0])]).unwrap();
    assert_eq!(load(dir.path(), &[want("x", &[1])]).unwrap(), [Some(vec![2.0])]);
}

#[test]
fn shards_are_one_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "pytorch_model-00001-of-00002.bin", floats(&[1], &[1], 0, &[1.0]));
    let pickle = Pickle::new().dict().text("y").tensor("HalfStorage", "0", 1, (0, &[], &[])).end();
    let half = archive(&[("data.pkl", &pickle), ("data/0", &[0, 0x3C])]);
    write(&dir, "pytorch_model-00002-of-00002.bin", half);
    let index = r#"{"metadata": {}, "weight_map": {"x": "pytorch_model-00001-of-00002.bin",
        "y": "pytorch_model-00002-of-00002.bin"}}"#;
    write(&dir, "pytorch_model.bin.index.json", index);
    let wanted = [want("y", &[]), want("x", &[1])];
    assert_eq!(load(dir.path(), &wanted).unwrap(), [Some(vec![1.0]), Some(vec![1.0])]);

    write(&dir, "pytorch_model.bin.index.json", r#"{"weight_map": {"x": "../x.bin"}}"#);
    assert_says(&failure(load(dir.path(), &wanted), 65), &["bin.index.json", "outside"]);
    write(&dir, "pytorch_model.bin.index.json", r#"{"weight_map": {"x": "absent.bin"}}"#);
    assert_says(&failure(load(dir.path(), &wanted), 66), &["absent.bin", "download it"]);
}
