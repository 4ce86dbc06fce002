//! Files of torch.save that are damaged, or made to harm whoever opens them.

use crate::support::torch_file::{Pickle, archive, floats, zip_of};
use crate::weights::{assert_says, failure, write};
use std::path::Path;
use wattention::weights::read_torch_file;
use zip::CompressionMethod;

/// A file whose only record is this pickle.
fn pickled(pickle: Vec<u8>) -> Vec<u8> {
    archive(&[("data.pkl", &pickle)])
}

/// A file that calls `module.name` with one argument.
fn calls(module: &str, name: &str) -> Vec<u8> {
    pickled(Pickle::new().global(module, name).text("true").raw([0x85, b'R', b'.']).0)
}

/// A file of one tensor `x` with 16 bytes of storage.
fn viewed(class: &str, length: i64, view: (i64, &[i64], &[i64])) -> Vec<u8> {
    let pickle = Pickle::new().dict().text("x").tensor(class, "0", length, view).end();
    archive(&[("data.pkl", &pickle), ("data/0", &[0; 16])])
}

/// What calls code, or would on Python's own unpickler.
fn dangerous() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let stacked = Pickle::new().text("posix").text("system").raw([0x93]).text("true").raw([0x85, b'R', b'.']);
    let instance = Pickle::new().raw("(").text("true").raw("iposix\nsystem\n.");
    vec![
        ("os.system", calls("os", "system"), "os.system"),
        ("posix.system", calls("posix", "system"), "posix.system"),
        ("eval", calls("builtins", "eval"), "builtins.eval"),
        ("getattr", calls("builtins", "getattr"), "builtins.getattr"),
        ("old builtins", calls("__builtin__", "exec"), "__builtin__.exec"),
        ("runpy", calls("runpy", "_run_code"), "runpy._run_code"),
        ("torch.load", calls("torch.serialization", "load"), "torch.serialization.load"),
        ("torch.hub", calls("torch", "hub.load"), "torch.hub.load"),
        ("named on the stack", pickled(stacked.0), "posix.system"),
        ("INST", pickled(instance.0), "0x69"),
        ("EXT1", pickled(Pickle::new().raw([0x82, 1, b'.']).0), "0x82"),
        ("PERSID", pickled(Pickle::new().raw("Pkey\n.").0), "0x50"),
    ]
}

#[test]
fn what_would_run_code_is_named_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (case, bytes, says) in dangerous() {
        let path = write(&dir, "pytorch_model.bin", bytes);
        let message = failure(read_torch_file(&path), 65);
        assert!(message.contains(says), "{case}: {message}");
    }
}

/// Files that do not hold what they say, and words of the message.
fn lying() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let one = (0, &[4][..], &[1][..]);
    let empty = || Pickle::new().dict();
    let twice = empty().text("x").tensor("FloatStorage", "0", 4, one).text("x");
    let twice = twice.tensor("FloatStorage", "0", 4, one).end();
    let nested = empty().text("x").raw(")").raw([0x85].repeat(1_000_000)).end();
    let doubled = empty().text("x").raw("]").raw([b'q', 0].as_slice());
    let doubled = doubled.raw(b"(h\0h\0h\0h\0e".repeat(100_000)).end();
    let many = empty().raw(")0".repeat(5_000_000)).end();
    let no_zip = |bytes: &[u8]| bytes.to_vec();
    vec![
        ("length", viewed("FloatStorage", 5, one), "5 elements of F32"),
        ("length below", viewed("FloatStorage", 3, (0, &[3], &[1])), "3 elements of F32"),
        ("negative length", viewed("FloatStorage", -1, one), "-1 elements"),
        ("length overflow", viewed("DoubleStorage", i64::MAX, one), "elements of F64"),
        ("past the end", viewed("FloatStorage", 4, (1, &[4], &[1])), "leave its storage"),
        ("stride past the end", viewed("FloatStorage", 4, (0, &[2, 2], &[3, 1])), "leave its storage"),
        ("offset of nothing", viewed("FloatStorage", 4, (5, &[0], &[1])), "leave its storage"),
        ("negative stride", viewed("FloatStorage", 4, (3, &[4], &[-1])), "stride of -1"),
        ("negative size", viewed("FloatStorage", 4, (0, &[-4], &[1])), "a size or a stride of -4"),
        ("negative offset", viewed("FloatStorage", 4, (-1, &[1], &[1])), "begins at -1"),
        ("stride overflow", viewed("FloatStorage", 4, (0, &[3], &[i64::MAX])), "leave its storage"),
        ("offset overflow", viewed("FloatStorage", 4, (i64::MAX, &[4], &[1])), "leave its storage"),
        ("size overflow", viewed("FloatStorage", 4, (0, &[i64::MAX, 4], &[0, 1])), "leave its storage"),
        (
            "size overflow to nothing",
            viewed("FloatStorage", 4, (0, &[i64::MAX, 4, 0], &[1; 3])),
            "leave its storage",
        ),
        ("dimensions", viewed("FloatStorage", 4, (0, &[1; 65], &[1; 65])), "65 dimensions"),
        ("repeated", viewed("FloatStorage", 4, (0, &[1 << 40], &[0])), "repeats elements"),
        ("fewer strides", viewed("FloatStorage", 4, (0, &[2, 2], &[1])), "with strides"),
        ("unknown class", viewed("QInt8Storage", 4, one), "torch.QInt8Storage"),
        ("no storage", pickled(empty().text("x").tensor("FloatStorage", "0", 4, one).end()), "no data/0"),
        ("twice", archive(&[("data.pkl", &twice), ("data/0", &[0; 16])]), "\"x\" is there twice"),
        ("no tensor", pickled(empty().text("epoch").int(3).end()), "\"epoch\" is a number"),
        ("no name", pickled(empty().int(3).int(3).end()), "a key is a number"),
        ("no dictionary", pickled(Pickle::new().int(3).raw(".").0), "it holds a number"),
        ("huge integer", pickled(Pickle::new().raw([0x8b, 0xff, 0xff, 0xff, 0x7f]).0), "too long"),
        ("huge text", pickled(Pickle::new().raw(b"X\xff\xff\xff\x7f").0), "too long"),
        ("endless class", pickled(Pickle::new().raw("c").raw("x".repeat(10_000)).0), "does not end"),
        ("deep nesting", pickled(nested), "\"x\" is a list"),
        ("a list in itself", pickled(doubled), "\"x\" is a list"),
        ("many values", pickled(many), "values are too many"),
        ("no memo", pickled(Pickle::new().raw("h\u{7}.").0), "never kept"),
        ("no mark", pickled(Pickle::new().raw("t.").0), "a mark that is not there"),
        ("no value", pickled(Pickle::new().raw(".").0), "a value that is not there"),
        ("behind a mark", pickled(Pickle::new().raw("N(a.").0), "a value that is not there"),
        ("half a pair", pickled(empty().text("x").end()), "to nothing"),
        ("text protocol", pickled(vec![0x80, 0, b'.']), "protocol 0"),
        ("cut off", pickled(vec![0x80, 2, b'X', 9]), "ends in the middle"),
        ("empty pickle", pickled(vec![]), "ends in the middle"),
        ("no pickle", archive(&[("data/0", b"")]), "no data.pkl"),
        (
            "two pickles",
            zip_of(&[("a/data.pkl", b""), ("b/data.pkl", b"")], CompressionMethod::Stored),
            "more than one",
        ),
        ("traversal", zip_of(&[("../data.pkl", b"")], CompressionMethod::Stored), "out of the archive"),
        ("absolute", zip_of(&[("/etc/data.pkl", b"")], CompressionMethod::Stored), "out of the archive"),
        ("bomb", zip_of(&[("a/data.pkl", &[0; 1 << 20])], CompressionMethod::Deflated), "compressed"),
        ("long pickle", pickled(vec![b'N'; (16 << 20) + 1]), "too many for a description"),
        ("big-endian", archive(&[("data.pkl", &empty().end()), ("byteorder", b"big")]), "big-endian"),
        ("empty", no_zip(b""), "empty"),
        ("git-lfs", no_zip(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
        ("HTML", no_zip(b"<!DOCTYPE html><html>404</html>"), "HTML"),
        (
            "before 1.6",
            no_zip(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."),
            "weights_only=True",
        ),
        ("bare pickle", no_zip(b"\x80\x04N."), "without the archive"),
        ("tar", [&[b'x'; 257][..], b"ustar\x00"].concat(), "tar archive"),
        ("something", no_zip(b"GGUF"), "not a PyTorch file"),
        ("only the start", no_zip(b"PK\x03\x04"), "broken zip archive"),
    ]
}

#[test]
fn what_is_not_as_it_says_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (case, bytes, says) in lying() {
        let path = write(&dir, "pytorch_model.bin", bytes);
        let message = match read_torch_file(&path) {
            Ok(_) => panic!("{case} was read"),
            Err(error) => {
                assert_eq!(error.exit_code(), 65, "{case}: {error}");
                error.to_string()
            }
        };
        assert!(message.contains("pytorch_model.bin: ") && message.contains(says), "{case}: {message}");
        assert!(message.len() < 1000, "{case}: {} bytes", message.len());
    }
}

#[test]
fn records_that_lie_over_each_other_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = [7u8; 64];
    let bytes =
        archive(&[("data.pkl", &Pickle::new().dict().end()), ("data/0", &first), ("data/1", &[8; 64])]);
    let find = |name: &[u8]| bytes.windows(name.len()).rposition(|window| window == name).unwrap();
    // In the central directory the place of a local header stands 4 bytes before the name.
    let (zero, one) = (find(b"archive/data/0"), find(b"archive/data/1"));
    let mut lied = bytes.clone();
    let place = bytes[zero - 4..zero].to_vec();
    lied[one - 4..one].copy_from_slice(&place);
    let path = write(&dir, "pytorch_model.bin", lied);
    assert_says(&failure(read_torch_file(&path), 65), &["lies over another"]);
}

/// Everything that reads a file, to the last value.
fn read_all(path: &Path) -> bool {
    let Ok(tensors) = read_torch_file(path) else {
        return false;
    };
    tensors.names().iter().all(|name| tensors.f32(name).is_ok() || tensors.i64(name).is_ok())
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = floats(&[2, 2], &[1, 2], 0, &[1.0, 2.0, 3.0, 4.0]);
    for length in 0..whole.len() {
        let path = write(&dir, "pytorch_model.bin", &whole[..length]);
        assert!(!read_all(&path), "{length} of {} bytes", whole.len());
    }
    assert!(read_all(&write(&dir, "pytorch_model.bin", &whole)));
}

/// Neither a panic nor an endless read, whatever three bytes say.
#[test]
fn flipped_bytes_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/torch/old_zip.bin");
    let whole = std::fs::read(golden).unwrap();
    let mut rng = rand_mt::Mt64::new(11);
    let mut refused = 0;
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            let at = rng.next_u64() as usize % bytes.len();
            bytes[at] = rng.next_u64() as u8;
        }
        refused += u32::from(!read_all(&write(&dir, "x.bin", bytes)));
    }
    // Values and padding may be anything; names, sizes and places may not.
    assert!((1000..2000).contains(&refused), "{refused} of 2000 were refused");
}
