//! The zip archive that `torch.save` writes: where its records lie, and nothing that could be anything else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use zip::{CompressionMethod, ZipArchive};

/// The largest published models have a few thousand tensors.
const MOST_RECORDS: usize = 1 << 16;

/// The bytes of a record, from the start of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub start: u64,
    pub bytes: u64,
}

/// The records of an archive by their names below its one folder, such as `data.pkl` and `data/0`.
pub struct Archive(BTreeMap<String, Record>);

impl Archive {
    /// Reads the directory of a file of `length` bytes.
    pub fn open(file: &File, length: u64) -> Result<Self, String> {
        let damaged = |e| format!("broken zip archive: {e}; it is truncated or damaged: download it again");
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        if zip.len() > MOST_RECORDS {
            return Err(format!("{} records are too many for a model", zip.len()));
        }
        let mut entries = Vec::with_capacity(zip.len());
        for at in 0..zip.len() {
            let entry = zip.by_index_raw(at).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?.into_owned();
            if !is_plain(&name) {
                return Err(format!("record {name:?} points out of the archive; nothing of it is read"));
            }
            if entry.encrypted() || entry.compression() != CompressionMethod::Stored {
                return Err(format!(
                    "record {name:?} is compressed or encrypted, which torch.save never does"
                ));
            }
            let (start, bytes) = (entry.data_start().unwrap_or(u64::MAX), entry.size());
            let inside = start.checked_add(bytes).is_some_and(|end| end <= length);
            if !inside || bytes != entry.compressed_size() {
                return Err(format!(
                    "record {name:?} does not lie in the file; it is truncated or damaged: download it again"
                ));
            }
            entries.push((name, Record { start, bytes }));
        }
        if let Some(name) = overlap(&entries) {
            return Err(format!(
                "record {name:?} lies over another one; the archive is damaged or made to harm"
            ));
        }
        below_its_folder(entries).map(Archive)
    }

    pub fn get(&self, name: &str) -> Option<Record> {
        self.0.get(name).copied()
    }
}

/// Whether a name stays inside the folder it would be unpacked to.
fn is_plain(name: &str) -> bool {
    !name.contains(['\\', '\0', ':']) && name.split('/').all(|part| !["", ".", ".."].contains(&part))
}

fn overlap(entries: &[(String, Record)]) -> Option<&str> {
    let mut order: Vec<_> = entries.iter().filter(|(_, record)| record.bytes > 0).collect();
    order.sort_by_key(|(_, record)| *record);
    let clash = order.windows(2).find(|pair| pair[0].1.start + pair[0].1.bytes > pair[1].1.start)?;
    Some(&clash[1].0)
}

/// Drops the folder that all records lie in; torch names it after the file that was saved.
fn below_its_folder(entries: Vec<(String, Record)>) -> Result<BTreeMap<String, Record>, String> {
    let mut folders = entries.iter().filter_map(|(name, _)| name.strip_suffix("/data.pkl"));
    let folder = match (folders.next(), folders.next()) {
        (Some(folder), None) => format!("{folder}/"),
        (None, _) => return Err("the archive has no data.pkl, so torch.save did not write it".into()),
        _ => return Err("the archive has more than one data.pkl".into()),
    };
    let below = entries.iter().filter_map(|(name, record)| Some((name.strip_prefix(&folder)?, *record)));
    Ok(below.map(|(name, record)| (name.to_string(), record)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_archive() {
        for name in ["archive/data.pkl", "a/data/0", "a.b/..c"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", "/a", "../a", "a/../b", "a//b", "a/", "a\\..\\b", "C:/a", "a\0b", "./a"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn records_may_touch_and_not_overlap() {
        let entry = |name: &str, start, bytes| (name.to_string(), Record { start, bytes });
        assert_eq!(overlap(&[entry("b", 8, 4), entry("a", 0, 8), entry("c", 2, 0)]), None);
        assert_eq!(overlap(&[entry("b", 7, 4), entry("a", 0, 8)]), Some("b"));
    }
}
