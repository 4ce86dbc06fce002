//! The flags of how a dataset's files are read, and what users hear of records that were passed over.

use super::global::Global;
use crate::data::{self, Dataset, RecordFormat, Split};
use crate::error::Result;

/// How the records of a dataset's files are read.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct Columns {
    /// Column of the text [default: input, document, article, report, dialogue, source or text, with its summary]
    #[arg(long, value_name = "NAME")]
    text_column: Option<String>,

    /// Column of the summary or answer [default: output, summary, highlights, abstract or target]
    #[arg(long, value_name = "NAME")]
    summary_column: Option<String>,

    /// Pass over up to N wrong records of a split, and say which, instead of stopping at the first
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip_bad_records: usize,
}

impl Columns {
    pub fn open(&self, dataset: &str) -> Result<Dataset> {
        data::open_as(dataset, self.reading())
    }

    pub fn reading(&self) -> RecordFormat {
        RecordFormat {
            text_column: self.text_column.clone(),
            summary_column: self.summary_column.clone(),
            skip_bad_records: self.skip_bad_records,
        }
    }
}

/// Says which records of a split were passed over when it was read.
pub fn tell_skipped(global: &Global, dataset: &Dataset, split: Split) {
    dataset.about_skipped(split).iter().for_each(|what| global.warn(what));
}
