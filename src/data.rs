//! Datasets: where they are, what they hold, how their examples are read.

mod columns;
pub mod embedded;
mod files;
pub mod folder;
mod jsonl;
mod lenient;
pub mod needle;
pub mod order;
pub mod qmsum;
pub mod reach;
mod scrolls;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::metrics::{Headline, Protocol};

pub use columns::{RecordFormat, is_zero};
pub use jsonl::{Document, document};
pub use lenient::utf8;
pub use order::{order, order_by_length};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }

    /// The file of this split in SCROLLS form.
    pub fn file_name(self) -> &'static str {
        match self {
            Split::Train => "train.jsonl",
            Split::Validation => "validation.jsonl",
            Split::Test => "test.jsonl",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Summarisation,
    QuestionAnswering,
}

/// A dataset of the study.
pub struct Known {
    pub name: &'static str,
    pub kind: Kind,
    pub headline: Headline,
    pub embedded: bool,
}

/// Every dataset known by name; help texts, tests and the study walk this slice.
pub static ALL: &[Known] = &[
    Known::of("gov_report", Kind::Summarisation),
    Known::of("summ_screen_fd", Kind::Summarisation),
    Known::of("qmsum", Kind::Summarisation),
    Known::of("qasper", Kind::QuestionAnswering),
    Known { embedded: true, ..Known::of(embedded::NAME, Kind::Summarisation) },
    Known { embedded: true, ..Known::of("needle-qa", Kind::QuestionAnswering) },
    Known { embedded: true, ..Known::of("needle-summary", Kind::Summarisation) },
];

impl Known {
    const fn of(name: &'static str, kind: Kind) -> Self {
        Known {
            name,
            kind,
            headline: match kind {
                Kind::Summarisation => Headline::GeometricMean,
                Kind::QuestionAnswering => Headline::F1,
            },
            embedded: false,
        }
    }
}

/// One record of a split. `id` repeats when an input has several references; `pid` tells these apart where it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub pid: String,
    pub input: String,
    /// None only in test splits, whose answers are not published.
    pub output: Option<String>,
    /// Where in `input` the answer stands, as bytes `[start, end)`; empty where that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needles: Vec<[usize; 2]>,
}

/// What a model sees once and is scored on once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub id: String,
    pub pid: String,
    pub input: String,
    pub references: Vec<String>,
}

/// Records that were passed over and are spelled out.
const SHOWN: usize = 5;

/// A dataset that has been found. Splits are read on demand.
#[derive(Debug)]
pub struct Dataset {
    pub name: String,
    pub kind: Kind,
    pub headline: Headline,
    source: Source,
    reading: RecordFormat,
    /// What was wrong with the records that were passed over, by split, as last read.
    skipped: Mutex<BTreeMap<Split, Vec<String>>>,
}

#[derive(Debug)]
enum Source {
    Embedded,
    Needle(&'static needle::Embedded),
    Scrolls(scrolls::Source),
}

/// Opens a dataset by path (a SCROLLS zip or a folder of `<split>.jsonl`, `.json` or `.csv`) or by the name of an embedded one.
///
/// A dataset whose file name is not in `ALL` counts as summarisation.
pub fn open(path_or_name: &str) -> Result<Dataset> {
    open_as(path_or_name, RecordFormat::default())
}

/// [`open`], with columns by name and wrong records passed over. An embedded dataset has neither.
pub fn open_as(path_or_name: &str, reading: RecordFormat) -> Result<Dataset> {
    let path = Path::new(path_or_name);
    let zipped = format!("{path_or_name}.zip");
    let (name, source) = if path.exists() {
        (file_stem(path), Source::Scrolls(scrolls::Source::find(path)?))
    } else if path_or_name == embedded::NAME {
        (path_or_name.to_string(), Source::Embedded)
    } else if let Some(made) = needle::EMBEDDED.iter().find(|made| made.name == path_or_name) {
        (path_or_name.to_string(), Source::Needle(made))
    } else if Path::new(&zipped).is_file() {
        let source = scrolls::Source::find(Path::new(&zipped))?;
        (file_stem(path), Source::Scrolls(source))
    } else {
        return Err(not_found(path_or_name));
    };
    if !matches!(source, Source::Scrolls(_)) && !reading.is_default() {
        return Err(Error::usage(format!(
            "{name} is inside the program: its columns have no other names and none of its records is bad; leave out \
             text_column, summary_column and skip_bad_records"
        )));
    }
    let known = ALL.iter().find(|known| known.name == name);
    let kind = known.map_or(Kind::Summarisation, |known| known.kind);
    let headline = Known::of("", kind).headline;
    Ok(Dataset { headline, kind, name, source, reading, skipped: Mutex::default() })
}

/// Whether [`open`] takes this name for an embedded dataset.
pub fn is_embedded(path_or_name: &str) -> bool {
    let named = ALL.iter().any(|known| known.embedded && known.name == path_or_name);
    named && !Path::new(path_or_name).exists()
}

fn file_stem(path: &Path) -> String {
    let name = if path.is_dir() {
        path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_owned()))
    } else {
        path.file_stem().map(ToOwned::to_owned)
    };
    name.map_or_else(|| "dataset".to_string(), |name| name.to_string_lossy().into_owned())
}

/// Names of the datasets that need no file, with commas between them.
pub fn embedded_names() -> String {
    let names: Vec<_> = ALL.iter().filter(|known| known.embedded).map(|known| known.name).collect();
    names.join(", ")
}

fn not_found(path_or_name: &str) -> Error {
    let known = ALL.iter().find(|known| known.name == path_or_name);
    let remedy = match known {
        Some(known) => format!(
            "no such file or folder here; download {name}.zip from the tau/scrolls dataset on the Hugging Face hub and give its path{import}, or use one of the embedded {slice}",
            name = known.name,
            import = if known.name == "qmsum" {
                " (or import the public release: wattention data import qmsum --from DIR --to qmsum)"
            } else {
                ""
            },
            slice = embedded_names(),
        ),
        None => format!(
            "no such file or folder; give a SCROLLS zip, a folder with train.jsonl and validation.jsonl, or one of the embedded {}",
            embedded_names()
        ),
    };
    Error::missing(path_or_name, remedy)
}

impl Dataset {
    /// Calls `each` with the records of a split in file order, without holding the split in memory.
    pub fn visit(&self, split: Split, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        match &self.source {
            Source::Embedded => embedded::visit(split, each),
            Source::Needle(made) => made.visit(split, each),
            Source::Scrolls(source) => {
                let mut visit = jsonl::Visit { split, reading: &self.reading, skipped: Vec::new(), each };
                source.visit(&mut visit)?;
                self.all_skipped().insert(split, visit.skipped);
                Ok(())
            }
        }
    }

    /// What was wrong with the records of a split that were passed over when it was last read, with their places.
    pub fn skipped(&self, split: Split) -> Vec<String> {
        self.all_skipped().get(&split).cloned().unwrap_or_default()
    }

    /// What to say of the records that were passed over: the first of them, and how many there are.
    pub fn about_skipped(&self, split: Split) -> Vec<String> {
        let skipped = self.skipped(split);
        let mut said: Vec<String> =
            skipped.iter().take(SHOWN).map(|what| format!("passed over: {what}")).collect();
        if skipped.len() > SHOWN {
            let (all, split) = (skipped.len(), split.name());
            said.push(format!("{all} records of the {split} split were passed over in all"));
        }
        said
    }

    fn all_skipped(&self) -> MutexGuard<'_, BTreeMap<Split, Vec<String>>> {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The examples of a split, grouped as the protocol asks. Test examples have no references.
    pub fn examples(&self, split: Split, protocol: Protocol) -> Result<Vec<Example>> {
        let mut records = Vec::new();
        self.visit(split, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        if protocol == Protocol::Scrolls {
            let others = others_of_equal_ids(&records);
            self.all_skipped().entry(split).or_default().extend(others);
        }
        Ok(group(records, protocol))
    }
}

/// The records whose input grouping leaves out, for the first record of their id has another one.
fn others_of_equal_ids(records: &[Record]) -> Vec<String> {
    let mut first_of: HashMap<&str, &Record> = HashMap::new();
    let mut others = Vec::new();
    for record in records {
        let Record { id, pid, input, .. } = record;
        let first = first_of.entry(id).or_insert(record);
        if first.input != *input {
            others.push(format!(
                "the input of record {pid:?}: the first record with the id {id:?} has another one, and SCROLLS asks once \
                 for each id; give each input its own id"
            ));
        }
    }
    others
}

/// `Scrolls` joins the references of equal ids at the first occurrence; `Paper` keeps every line apart.
pub fn group(records: Vec<Record>, protocol: Protocol) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::with_capacity(records.len());
    let mut first_of: HashMap<String, usize> = HashMap::new();
    for record in records {
        if protocol == Protocol::Scrolls {
            if let Some(&first) = first_of.get(&record.id) {
                examples[first].references.extend(record.output);
                continue;
            }
            first_of.insert(record.id.clone(), examples.len());
        }
        examples.push(Example {
            id: record.id,
            pid: record.pid,
            input: record.input,
            references: record.output.into_iter().collect(),
        });
    }
    examples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, pid: &str, output: Option<&str>) -> Record {
        Record {
            id: id.into(),
            pid: pid.into(),
            input: format!("input of {id}"),
            output: output.map(Into::into),
            needles: Vec::new(),
        }
    }

    #[test]
    fn grouping_keeps_first_occurrence_order() {
        let records = vec![
            record("b", "b1", Some("one")),
            record("a", "a1", Some("two")),
            record("b", "b2", Some("three")),
        ];
        let grouped = group(records.clone(), Protocol::Scrolls);
        assert_eq!(grouped.len(), 2);
        assert_eq!((grouped[0].pid.as_str(), grouped[1].pid.as_str()), ("b1", "a1"));
        assert_eq!(grouped[0].references, ["one", "three"]);
        let apart = group(records, Protocol::Paper);
        assert_eq!(apart.len(), 3);
        assert!(apart.iter().all(|example| example.references.len() == 1));
    }

    #[test]
    fn test_examples_have_no_reference() {
        let examples = group(vec![record("a", "a1", None)], Protocol::Scrolls);
        assert!(examples[0].references.is_empty());
    }

    #[test]
    fn question_answering_is_judged_by_f1() {
        for known in ALL {
            let asks = ["qasper", "needle-qa"].contains(&known.name);
            let expected = if asks { Headline::F1 } else { Headline::GeometricMean };
            assert_eq!(known.headline, expected, "{}", known.name);
        }
    }

    #[test]
    fn unknown_and_absent_datasets_are_told_apart() {
        let absent = open("gov_report").unwrap_err();
        assert!(absent.to_string().contains("gov_report.zip"), "{absent}");
        let unknown = open("no-such-thing").unwrap_err();
        assert!(!unknown.to_string().contains("no-such-thing.zip"), "{unknown}");
        assert_eq!(unknown.exit_code(), 66);
    }
}
