//! Everything by which a checkpoint and a model differ, as one error.

use crate::error::Error;
use std::path::Path;

/// Entries of each kind that are spelled out.
const SHOWN: usize = 10;

/// Collected differences, each already in words.
#[derive(Default)]
pub(super) struct Mismatch {
    pub missing: Vec<String>,
    pub unused: Vec<String>,
    pub shape: Vec<String>,
    pub dtype: Vec<String>,
}

impl Mismatch {
    /// `None` if there is no difference.
    pub fn into_error(self, dir: &Path) -> Option<Error> {
        let kinds = [
            ("missing", self.missing),
            ("unused", self.unused),
            ("of another shape", self.shape),
            ("of an unsupported dtype", self.dtype),
        ];
        let mut what = String::from("the weights are not those of this model");
        let mut any = false;
        for (kind, entries) in kinds.iter().filter(|(_, entries)| !entries.is_empty()) {
            any = true;
            what += &format!("\n  {} {kind}:", entries.len());
            for entry in entries.iter().take(SHOWN) {
                what += &format!("\n    {entry}");
            }
            if entries.len() > SHOWN {
                what += &format!("\n    and {} more", entries.len() - SHOWN);
            }
        }
        what += "\n  check that config.json belongs to these weights";
        any.then(|| Error::data(dir.display(), what))
    }
}
