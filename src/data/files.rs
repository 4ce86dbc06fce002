//! The files of splits, by the names that tools give them.

use super::Split;
use std::path::{Path, PathBuf};

/// How the records of a file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Lines,
    /// JSON Lines or one list; the first character decides.
    Json,
    /// With commas, semicolons or tabs; the header decides.
    Csv,
}

/// In order of preference, SCROLLS' own first.
const FORMS: [(&str, Form); 5] = [
    ("jsonl", Form::Lines),
    ("ndjson", Form::Lines),
    ("json", Form::Json),
    ("csv", Form::Csv),
    ("tsv", Form::Csv),
];

/// The names of a split, SCROLLS' own first.
fn stems(split: Split) -> &'static [&'static str] {
    match split {
        Split::Train => &["train", "training"],
        Split::Validation => &["validation", "valid", "val", "dev"],
        Split::Test => &["test", "testing"],
    }
}

/// How far a file's name is from that of a split, and its form; none of a name that is no split's.
pub fn rank(name: &str, split: Split) -> Option<(usize, Form)> {
    let lower = name.to_ascii_lowercase();
    let (stem, extension) = lower.rsplit_once('.')?;
    let form = FORMS.iter().position(|(known, _)| *known == extension)?;
    let stem = stems(split).iter().position(|known| *known == stem)?;
    // The exact name comes before the same in capitals.
    let capitals = usize::from(lower != name);
    Some(((form * 10 + stem) * 2 + capitals, FORMS[form].1))
}

/// The file of a split in a folder.
pub fn find(folder: &Path, split: Split) -> Option<(PathBuf, Form)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let (rank, form) = rank(entry.file_name().to_str()?, split)?;
        entry.path().is_file().then(|| (rank, entry.path(), form))
    });
    named.min_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1))).map(|(_, path, form)| (path, form))
}

/// What a folder without a split holds instead, and what makes a dataset of it.
pub fn instead(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let to_json =
        "write its splits as train.jsonl and validation.jsonl first (Python: datasets, Dataset.to_json)";
    let kind = |name: &str| match name.rsplit_once('.').map(|(_, end)| end) {
        _ if name == "dataset_dict.json" || name == "dataset_info.json" => {
            Some(format!("is of a dataset saved by datasets; {to_json}"))
        }
        Some("parquet") => Some(format!("is Parquet, which is not read here; {to_json}")),
        Some("arrow") => Some(format!("is Arrow, which is not read here; {to_json}")),
        Some("gz" | "bz2" | "xz" | "zst") => Some("is compressed; unpack it first".into()),
        _ => None,
    };
    let has_split =
        |name: &&String| Split::ALL.iter().any(|split| find(&folder.join(name), *split).is_some());
    let inside =
        || names.iter().find(has_split).map(|name| format!("its splits lie in {name}; give that folder"));
    names.iter().find_map(|name| Some(format!("{name} {}", kind(name)?))).or_else(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_splits_and_of_nothing_else() {
        let best = |names: &[&str], split| {
            let ranked = names.iter().filter_map(|name| Some((rank(name, split)?.0, *name)));
            ranked.min().map(|(_, name)| name.to_string())
        };
        let names =
            ["val.jsonl", "validation.json", "VALIDATION.JSONL", "validation.jsonl", "dev.csv", "val.txt"];
        assert_eq!(best(&names, Split::Validation).unwrap(), "validation.jsonl");
        assert_eq!(best(&names[..3], Split::Validation).unwrap(), "VALIDATION.JSONL");
        assert_eq!(best(&["dev.csv"], Split::Validation).unwrap(), "dev.csv");
        assert_eq!(best(&["dev.csv"], Split::Train), None);
        assert_eq!(best(&["Train.CSV", "training.json"], Split::Train).unwrap(), "training.json");
        assert_eq!(rank("Dev.tsv", Split::Validation).unwrap().1, Form::Csv);
        for name in ["train", "train.txt", "train.jsonl.bak", "._train.jsonl", "trains.jsonl"] {
            assert_eq!(rank(name, Split::Train), None, "{name}");
        }
    }
    #[test]
    fn what_is_no_dataset_says_what_it_is() {
        for (name, says) in [
            ("train-00000-of-00001.parquet", "Parquet"),
            ("train.jsonl.gz", "compressed"),
            ("dataset_dict.json", "saved by datasets"),
            ("data/train.jsonl", "splits lie in data"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
            let said = instead(dir.path()).unwrap();
            assert!(said.contains(says), "{said}");
        }
        assert_eq!(instead(tempfile::tempdir().unwrap().path()), None);
    }
}
