//! Everything by which a checkpoint and a model differ, as one error or one warning.

use crate::error::{Error, Result};
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
    /// An error where a tensor is missing or misfit; a warning where the file only has tensors of no use.
    pub fn verdict(self, dir: &Path) -> Result<Option<String>> {
        let wrong = !(self.missing.is_empty() && self.shape.is_empty() && self.dtype.is_empty());
        if !wrong {
            let unused = (!self.unused.is_empty()).then(|| {
                let list = list(&[("that this model has no use for, and that are left out", &self.unused)]);
                format!("{}: the weights hold tensors{list}", dir.display())
            });
            return Ok(unused);
        }
        let remedy = match wrapper(&self.unused) {
            Some(wrapper) => format!(
                "every name begins with {wrapper:?}: a wrapper of the model was saved; save the model inside it"
            ),
            None => "check that config.json belongs to these weights".to_string(),
        };
        let list = list(&[
            ("missing", &self.missing),
            ("unused", &self.unused),
            ("of another shape", &self.shape),
            ("of an unsupported dtype", &self.dtype),
        ]);
        let what = format!("the weights are not those of this model{list}\n  {remedy}");
        Err(Error::data(dir.display(), what))
    }
}

/// The kinds that have entries, the first ones of each spelled out.
fn list(kinds: &[(&str, &[String])]) -> String {
    let mut text = String::new();
    for (kind, entries) in kinds.iter().filter(|(_, entries)| !entries.is_empty()) {
        text += &format!("\n  {} {kind}:", entries.len());
        for entry in entries.iter().take(SHOWN) {
            text += &format!("\n    {entry}");
        }
        if entries.len() > SHOWN {
            text += &format!("\n    and {} more", entries.len() - SHOWN);
        }
    }
    text
}

/// What PyTorch's data-parallel and compiling wrappers put before every name.
fn wrapper(unused: &[String]) -> Option<&'static str> {
    const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "_fsdp_wrapped_module."];
    let all = |wrapper: &str| {
        !unused.is_empty() && unused.iter().all(|entry| entry.trim_start_matches('"').starts_with(wrapper))
    };
    WRAPPERS.into_iter().find(|wrapper| all(wrapper))
}
