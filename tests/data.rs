//! Reading datasets: the QMSum importer, SCROLLS folders and zips, and what is wrong with bad ones.

use std::fs;
use std::io::Write;
use std::path::Path;

use wattention::data::folder::Existing;
use wattention::data::qmsum::{self, Imported};
use wattention::data::{self, Dataset, Kind, Record, Split};
use wattention::error::{Error, Result};
use wattention::metrics::{Headline, Protocol};
use zip::write::SimpleFileOptions;

fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn open(path: impl AsRef<Path>) -> Result<Dataset> {
    data::open(path.as_ref().to_str().unwrap())
}

fn records(dataset: &Dataset, split: Split) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    dataset.visit(split, &mut |record| {
        records.push(record);
        Ok(())
    })?;
    Ok(records)
}

fn meeting(general: usize, specific: usize) -> String {
    let queries = |label: &str, count: usize| -> Vec<_> {
        (0..count)
            .map(|i| serde_json::json!({"query": format!("{label} {i} ?"), "answer": format!("answer {i}")}))
            .collect()
    };
    serde_json::json!({
        "topic_list": [],
        "general_query_list": queries("general", general),
        "specific_query_list": queries("specific", specific),
        "meeting_transcripts": [
            {"speaker": "Chair", "content": "Good {vocalsound} morning ."},
            {"speaker": "Guest", "content": "{disfmarker}"},
        ],
    })
    .to_string()
}

/// Three meetings, seven queries; `b` is written before `a`.
fn release(root: &Path) {
    write(root.join("train/b.json"), meeting(1, 2));
    write(root.join("train/a.json"), meeting(0, 1));
    write(root.join("train/notes.txt"), "not a meeting");
    write(root.join("val/c.json"), meeting(1, 0));
    write(root.join("test/d.json"), meeting(2, 0));
}

const SEVEN: Imported = Imported { train: 4, validation: 1, test: 2 };

#[test]
fn the_importer_writes_scrolls_form_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("release"), dir.path().join("out/qmsum"));
    release(&from);
    assert_eq!(qmsum::import(&from, &to, Existing::Refuse).unwrap(), SEVEN);

    let dataset = open(&to).unwrap();
    assert_eq!((dataset.name.as_str(), dataset.kind), ("qmsum", Kind::Summarisation));
    let train = records(&dataset, Split::Train).unwrap();
    let ids: Vec<&str> = train.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["a-specific-0", "b-general-0", "b-specific-0", "b-specific-1"]);
    assert_eq!(train[1].input, "general 0 ?\n\nChair: Good morning .");
    assert_eq!(train[1].output.as_deref(), Some("answer 0"));
    let left: Vec<_> = fs::read_dir(&to).unwrap().collect();
    assert_eq!(left.len(), 3, "a temporary file was left: {left:?}");
}

#[test]
fn the_importer_takes_a_checkout_of_the_release() {
    let dir = tempfile::tempdir().unwrap();
    release(&dir.path().join("QMSum/data/ALL"));
    let to = dir.path().join("out");
    assert_eq!(qmsum::import(&dir.path().join("QMSum"), &to, Existing::Refuse).unwrap(), SEVEN);
}

#[test]
fn the_importer_does_not_overwrite_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out");
    release(dir.path());
    write(to.join("validation.jsonl"), "mine");
    let error = qmsum::import(dir.path(), &to, Existing::Refuse).unwrap_err();
    assert_eq!(error.exit_code(), 74);
    assert!(error.to_string().contains("validation.jsonl"), "{error}");
    assert_eq!(fs::read_to_string(to.join("validation.jsonl")).unwrap(), "mine");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1, "a part of the import was left");

    qmsum::import(dir.path(), &to, Existing::Replace).unwrap();
    assert_eq!(records(&open(&to).unwrap(), Split::Validation).unwrap().len(), 1);
}

#[test]
fn a_bad_release_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out");
    let missing = qmsum::import(&dir.path().join("nowhere"), &to, Existing::Refuse).unwrap_err();
    assert_eq!(missing.exit_code(), 66);

    release(dir.path());
    let broken = meeting(1, 0).replace("\"speaker\":\"Guest\"", "\"name\":\"Guest\"");
    write(dir.path().join("val/c.json"), broken);
    let error = qmsum::import(dir.path(), &to, Existing::Refuse).unwrap_err();
    assert_eq!(error.exit_code(), 65);
    let message = error.to_string();
    assert!(message.contains("c.json: meeting_transcripts[1].speaker"), "{message}");

    fs::remove_dir_all(dir.path().join("test")).unwrap();
    write(dir.path().join("val/c.json"), meeting(1, 0));
    assert_eq!(qmsum::import(dir.path(), &to, Existing::Refuse).unwrap_err().exit_code(), 66);
    assert!(!to.exists());
}

fn line(id: &str, pid: &str, output: &str) -> String {
    format!(r#"{{"id":"{id}","pid":"{pid}","input":"question\n\ntext","output":{output}}}"#)
}

#[test]
fn references_of_one_id_are_grouped_for_scrolls_only() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("qasper");
    let lines = [line("q2", "1", "\"yes\""), line("q1", "2", "\"no\""), line("q2", "3", "\"maybe\"")];
    write(folder.join("validation.jsonl"), lines.join("\n"));
    let dataset = open(&folder).unwrap();
    assert_eq!((dataset.kind, dataset.headline), (Kind::QuestionAnswering, Headline::F1));
    let grouped = dataset.examples(Split::Validation, Protocol::Scrolls).unwrap();
    assert_eq!(grouped.len(), 2);
    assert_eq!(grouped[0].id, "q2");
    assert_eq!(grouped[0].references, ["yes", "maybe"]);
    assert_eq!(dataset.examples(Split::Validation, Protocol::Paper).unwrap().len(), 3);
}

#[test]
fn only_the_test_split_has_null_outputs() {
    let dir = tempfile::tempdir().unwrap();
    for split in Split::ALL {
        write(dir.path().join(split.file_name()), line("a", "b", "null"));
    }
    let dataset = open(dir.path()).unwrap();
    let test = dataset.examples(Split::Test, Protocol::Scrolls).unwrap();
    assert!(test[0].references.is_empty());
    let error = dataset.examples(Split::Validation, Protocol::Scrolls).unwrap_err();
    assert!(error.to_string().contains("validation.jsonl:1: "), "{error}");
}

#[test]
fn faults_in_a_folder_name_file_and_line() {
    let good = line("a", "b", "\"x\"");
    for (bad, expected) in [
        ("{\"id\": \"a\", \"pid\"".to_string(), "column"),
        ("{\"id\":\"a\",\"pid\":\"b\",\"output\":\"x\"}".to_string(), "the input is missing"),
        (good.replace("question\\n\\ntext", " "), "is empty"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("train.jsonl"), format!("{good}\n{good}\n{bad}\n"));
        let error = records(&open(dir.path()).unwrap(), Split::Train).unwrap_err();
        assert_eq!(error.exit_code(), 65);
        let message = error.to_string();
        assert!(message.contains("train.jsonl:3: "), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_missing_split_says_which_file_to_put_where() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("train.jsonl"), line("a", "b", "\"x\""));
    let dataset = open(dir.path()).unwrap();
    let error = records(&dataset, Split::Validation).unwrap_err();
    let Error::Missing { path, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(path, &dir.path().join("validation.jsonl"));

    let empty = tempfile::tempdir().unwrap();
    assert_eq!(open(empty.path()).unwrap_err().exit_code(), 66);
}

#[test]
fn the_embedded_slice_needs_no_file() {
    let dataset = open("qmsum-slice").unwrap();
    let count = |split| dataset.examples(split, Protocol::Scrolls).unwrap().len();
    assert_eq!((count(Split::Train), count(Split::Validation)), (135, 31));
}

/// A zip whose entries are `(name, content)`, deflated.
fn zip_with(path: &Path, entries: &[(&str, &[u8])]) {
    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, content) in entries {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        archive.start_file(*name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn a_published_zip_is_read_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qasper.zip");
    let (train, other) = (line("a", "b", "\"x\""), line("wrong", "w", "\"x\""));
    zip_with(
        &path,
        &[
            ("other/train.jsonl", other.as_bytes()),
            ("qasper/train.jsonl", train.as_bytes()),
            ("__MACOSX/qasper/._train.jsonl", b"junk"),
        ],
    );
    let dataset = open(&path).unwrap();
    assert_eq!((dataset.name.as_str(), dataset.headline), ("qasper", Headline::F1));
    assert_eq!(records(&dataset, Split::Train).unwrap()[0].id, "a");
    let missing = records(&dataset, Split::Test).unwrap_err();
    assert_eq!(missing.exit_code(), 66);
    assert!(missing.to_string().contains("qasper.zip/qasper/test.jsonl"), "{missing}");
    // The name alone finds the zip next to it.
    assert_eq!(open(dir.path().join("qasper")).unwrap().name, "qasper");
}

#[test]
fn faults_in_a_zip_name_entry_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmsum.zip");
    let bad = format!("{}\n{{", line("a", "b", "\"x\""));
    zip_with(&path, &[("qmsum/train.jsonl", bad.as_bytes())]);
    let error = records(&open(&path).unwrap(), Split::Train).unwrap_err();
    assert!(error.to_string().contains("qmsum.zip/qmsum/train.jsonl:2: "), "{error}");
}

/// The same records under every name and in every form that tools write.
#[test]
fn splits_as_other_tools_write_them() {
    let lines = r#"{"id": 1, "document": "one", "summary": "a", "score": NaN}
{"id": 2, "document": "two", "summary": "b"}"#;
    let list = format!("[{}]", lines.replace('\n', ","));
    let table = "id,document,summary\n1,one,a\n2,two,b\n";
    let wide: Vec<u8> =
        [0xFF, 0xFE].into_iter().chain(lines.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let marked = format!("\u{feff}{lines}");
    let dir = tempfile::tempdir().unwrap();
    for (index, (name, content)) in [
        ("train.jsonl", lines.as_bytes()),
        ("TRAIN.JSONL", lines.as_bytes()),
        ("train.ndjson", marked.as_bytes()),
        ("training.json", list.as_bytes()),
        ("train.json", lines.as_bytes()),
        ("Train.csv", table.as_bytes()),
        ("train.jsonl", &wide),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = dir.path().join(format!("folder-{index}"));
        write(folder.join(name), content);
        let archive = dir.path().join(format!("zip-{index}.zip"));
        let inside = ["./zip-6/", "zip-6\\", "", "scrolls/zip-6/", "./", "deep/er/", "a b/"][index];
        zip_with(&archive, &[(&format!("{inside}{name}"), content), ("./", b""), ("zip/readme.md", b"")]);
        for path in [&folder, &archive] {
            let found = records(&open(path).unwrap(), Split::Train).unwrap();
            let found: Vec<_> =
                found.iter().map(|r| (r.id.as_str(), r.input.as_str(), r.output.as_deref())).collect();
            assert_eq!(found, [("1", "one", Some("a")), ("2", "two", Some("b"))], "{path:?} {name}");
        }
    }
}

#[test]
fn wrong_records_are_passed_over_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"doc\": \"one\", \"tldr\": \"a\"}\n{\"doc\": 3}\n{\"doc\": \"two\", \"tldr\": \"b\"}\n";
    write(dir.path().join("train.jsonl"), lines);
    let reading = |skip| data::RecordFormat {
        text_column: Some("doc".into()),
        summary_column: Some("tldr".into()),
        skip_bad_records: skip,
    };
    let at = dir.path().to_str().unwrap();
    let dataset = data::open_as(at, reading(1)).unwrap();
    assert_eq!(records(&dataset, Split::Train).unwrap().len(), 2);
    let [skipped] = &dataset.skipped(Split::Train)[..] else { panic!() };
    assert!(skipped.contains("train.jsonl:2: the doc is a number"), "{skipped}");
    let error = records(&data::open_as(at, reading(0)).unwrap(), Split::Train).unwrap_err();
    assert!(error.to_string().contains("train.jsonl:2: "), "{error}");
    let error = records(&open(at).unwrap(), Split::Train).unwrap_err().to_string();
    assert!(error.contains("has doc, tldr") && error.contains("--text-column"), "{error}");
    assert_eq!(data::open_as("qmsum-slice", reading(0)).unwrap_err().exit_code(), 2);
    let file = dir.path().join("train.jsonl");
    let error = open(&file).unwrap_err();
    assert!(error.to_string().contains(&format!("give the folder of the splits, {at}")), "{error}");
}

#[test]
fn hostile_zips_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = line("a", "b", "\"x\"");
    let path = dir.path().join("x.zip");
    for name in ["../train.jsonl", "/etc/train.jsonl", "x\\..\\train.jsonl"] {
        zip_with(&path, &[(name, good.as_bytes()), ("x/train.jsonl", good.as_bytes())]);
        let error = records(&open(&path).unwrap(), Split::Train).unwrap_err();
        assert_eq!(error.exit_code(), 65, "{name}: {error}");
    }

    // 32 MiB of spaces deflate a thousandfold.
    zip_with(&path, &[("x/train.jsonl", &vec![b' '; 32 << 20])]);
    let error = records(&open(&path).unwrap(), Split::Train).unwrap_err();
    assert!(error.to_string().contains("zip bomb"), "{error}");

    // Damage inside the data: the sum of the entry no longer holds.
    zip_with(&path, &[("x/train.jsonl", good.as_bytes())]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[55] ^= 0x55;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(records(&open(&path).unwrap(), Split::Train).unwrap_err().exit_code(), 65);

    // Cut short: no directory at the end.
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(records(&open(&path).unwrap(), Split::Train).unwrap_err().exit_code(), 65);

    for content in ["", "PK", "no zip at all"] {
        fs::write(&path, content).unwrap();
        assert_eq!(open(&path).unwrap_err().exit_code(), 65, "{content:?}");
    }
}
