//! The dataset inside the binary: 22 meetings of QMSum (see `weights/data/qmsum-slice/ATTRIBUTION.md`).

use super::{Record, Split, qmsum};
use crate::error::{Error, Result};

pub const NAME: &str = "qmsum-slice";

/// Name and JSON of the meetings of one folder, in the importer's order.
macro_rules! meetings {
    ($folder:literal: $($name:literal)*) => {
        &[$((
            $name,
            include_str!(concat!("../../weights/data/qmsum-slice/", $folder, "/", $name, ".json")),
        )),*]
    };
}

static TRAIN: &[(&str, &str)] = meetings!("train":
    "Bed017" "Bro007" "Bro008" "Bro013" "ES2003a" "ES2005a" "ES2008a" "ES2010a" "ES2012a"
    "ES2013a" "ES2014a" "IS1001a" "IS1004a" "IS1005a" "IS1008a" "TS3012a" "education_1"
    "education_19");

static VALIDATION: &[(&str, &str)] = meetings!("val": "Bro011" "TS3010a" "TS3010b" "education_10");

/// Calls `each` with the records of a split. There is no test split.
pub fn visit(split: Split, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
    let meetings = match split {
        Split::Train => TRAIN,
        Split::Validation => VALIDATION,
        Split::Test => {
            let what = "has the splits train and validation only; the whole of QMSum has a test split";
            return Err(Error::missing(NAME, what));
        }
    };
    for (name, json) in meetings {
        let at = format!("{NAME}/{}/{name}.json", qmsum::folder_name(split));
        for record in qmsum::meeting(name, json, &at)? {
            each(record)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(split: Split) -> usize {
        let mut records = 0;
        visit(split, &mut |_| {
            records += 1;
            Ok(())
        })
        .unwrap();
        records
    }

    #[test]
    fn holds_what_its_attribution_says() {
        let attribution = include_str!("../../weights/data/qmsum-slice/ATTRIBUTION.md");
        for (split, meetings, row) in
            [(Split::Train, TRAIN, "`train`"), (Split::Validation, VALIDATION, "`val`")]
        {
            let line = attribution.lines().find(|line| line.contains(&format!("| {row} |")));
            let cells: Vec<&str> = line.unwrap().split('|').map(str::trim).collect();
            assert_eq!(cells[5], meetings.len().to_string(), "{row}");
            assert_eq!(cells[6], count(split).to_string(), "{row}");
        }
    }

    #[test]
    fn meetings_are_in_the_importers_order() {
        for meetings in [TRAIN, VALIDATION] {
            assert!(meetings.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }

    #[test]
    fn there_is_no_test_split() {
        assert_eq!(visit(Split::Test, &mut |_| Ok(())).unwrap_err().exit_code(), 66);
    }
}
