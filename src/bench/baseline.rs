//! Measurements that are kept, and later ones judged against them, each by its own spread.

use crate::error::{Error, Result};
use crate::files;
use crate::stats::Quantiles;
use crate::table::{Column, Table, width};
use crate::units::Format;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// What was measured, where and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Name of the subcommand, such as `attention`.
    pub bench: String,
    /// Name and, of a processor, threads; times of other devices cannot be compared.
    pub device: String,
    pub version: String,
    pub date: String,
    pub rows: Vec<Entry>,
}

/// One row of a benchmark by all that decides its work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    #[serde(flatten)]
    pub quantiles: Quantiles,
}

/// What the spreads of two measurements say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Verdict {
    #[serde(rename = "faster")]
    Faster,
    #[serde(rename = "slower")]
    Slower,
    #[serde(rename = "no difference")]
    NoDifference,
    /// The baseline has no such row.
    #[serde(rename = "new")]
    New,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::NoDifference => "no difference",
            Verdict::New => "not in the baseline",
        }
    }
}

/// One row beside the baseline's.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub name: String,
    pub verdict: Verdict,
    /// The baseline's median over this one: above 1 where it became faster.
    pub speed_ratio: Option<f64>,
    pub baseline_median_s: Option<f64>,
    pub median_s: f64,
}

/// Every row's verdict.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub baseline: String,
    pub date: String,
    /// Differences of the medians up to this share are none.
    pub tolerance: f64,
    pub rows: Vec<Judged>,
    /// Rows of the baseline that were not measured now.
    pub missing: Vec<String>,
}

impl Baseline {
    /// Where `name` is kept under `dir`: a folder for each name, a file for each subcommand.
    pub fn path(dir: &Path, name: &str, bench: &str) -> Result<PathBuf> {
        let usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        match !name.is_empty() && name.chars().all(usual) && !name.starts_with('.') {
            true => Ok(dir.join(name).join(format!("{bench}.json"))),
            false => Err(Error::usage(format!(
                "'{name}' cannot name a baseline: use letters, digits, '-', '_' and '.', the last not at the \
                 start"
            ))),
        }
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            files::create_dir(dir)?;
        }
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::internal(format!("a baseline is not JSON: {e}")))?;
        files::write_text(path, &(text + "\n"))
    }

    /// A baseline of `bench` on `device`; another's is refused.
    pub fn load(path: &Path, bench: &str, device: &str) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::missing(path, "there is no such baseline; keep one with --save-baseline NAME")
            }
            _ => Error::read(path, &e),
        })?;
        let found: Baseline = serde_json::from_str(&text).map_err(|e| {
            Error::data(
                path.display(),
                format!("this is no baseline: {e}; keep it anew with --save-baseline"),
            )
        })?;
        let differs = |what: &str, theirs: &str, ours: &str| {
            Error::usage(format!(
                "{} is of the {what} '{theirs}', and this is '{ours}': their times do not compare; keep a \
                 baseline of this one with --save-baseline",
                path.display()
            ))
        };
        if found.bench != bench {
            return Err(differs("benchmark", &found.bench, bench));
        }
        if found.device != device {
            return Err(differs("device", &found.device, device));
        }
        Ok(found)
    }

    /// Judges `rows` by this baseline; that they have no size in common is an error.
    pub fn judge(&self, name: &str, rows: &[Entry], tolerance: f64) -> Result<Comparison> {
        let ours = |entry: &&Entry| rows.iter().any(|row| row.name == entry.name);
        let missing: Vec<String> =
            self.rows.iter().filter(|entry| !ours(entry)).map(|entry| entry.name.clone()).collect();
        if missing.len() == self.rows.len() {
            let have: Vec<&str> = missing.iter().take(3).map(String::as_str).collect();
            return Err(Error::usage(format!(
                "the baseline '{name}' has none of these sizes: it has {}{}; ask for those, or keep \
                 another one",
                have.join("; "),
                if missing.len() > have.len() { "; and others" } else { "" }
            )));
        }
        let judged = rows.iter().map(|row| {
            let before = self.rows.iter().find(|entry| entry.name == row.name).map(|entry| entry.quantiles);
            Judged {
                name: row.name.clone(),
                verdict: before.map_or(Verdict::New, |before| verdict(&before, &row.quantiles, tolerance)),
                speed_ratio: before.map(|before| before.median_s / row.quantiles.median_s),
                baseline_median_s: before.map(|before| before.median_s),
                median_s: row.quantiles.median_s,
            }
        });
        let (baseline, date) = (name.to_string(), self.date.clone());
        Ok(Comparison { baseline, date, tolerance, rows: judged.collect(), missing })
    }
}

/// A difference is one where the middle 60 % of the runs do not overlap and the medians differ by more than
/// `tolerance`.
fn verdict(before: &Quantiles, now: &Quantiles, tolerance: f64) -> Verdict {
    let ratio = now.median_s / before.median_s;
    if now.p20_s > before.p80_s && ratio > 1.0 + tolerance {
        Verdict::Slower
    } else if now.p80_s < before.p20_s && ratio < 1.0 / (1.0 + tolerance) {
        Verdict::Faster
    } else if ratio.is_finite() {
        Verdict::NoDifference
    } else {
        Verdict::Slower
    }
}

impl Comparison {
    /// Fails where a row is slower than the baseline's.
    pub fn outcome(&self) -> Result<()> {
        let slower: Vec<&str> = self
            .rows
            .iter()
            .filter(|row| row.verdict == Verdict::Slower)
            .map(|row| row.name.as_str())
            .collect();
        match slower.is_empty() {
            true => Ok(()),
            false => Err(Error::Slower(format!(
                "slower than the baseline '{}': {}; measure again on a quiet machine, and look at \
                 what changed since {}",
                self.baseline,
                slower.join("; "),
                self.date
            ))),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let judged = self.rows.iter().map(|row| (&row.name, row.speed_ratio, row.verdict.name()));
        let missing = self.missing.iter().map(|name| (name, None, "not measured now"));
        let rows: Vec<(&String, Option<f64>, &str)> = judged.chain(missing).collect();
        let columns = [
            Column::words("row", |row: &(&String, Option<f64>, &str)| row.0.as_str()),
            Column::number("speed", Format::Times, |row: &(&String, Option<f64>, &str)| row.1),
            Column::words("verdict", |row: &(&String, Option<f64>, &str)| row.2),
        ];
        let table = Table::new(&columns, &rows).text(width());
        write!(f, "beside the baseline '{}' of {}\n{table}", self.baseline, self.date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(median: f64, spread: f64) -> Quantiles {
        let at = |x: f64| median * (1.0 + x * spread);
        Quantiles { min_s: at(-2.0), p20_s: at(-1.0), median_s: median, p80_s: at(1.0), max_s: at(2.0) }
    }

    #[test]
    fn a_verdict_respects_the_spread_and_the_tolerance() {
        let of = |before, now| verdict(&before, &now, 0.05);
        assert_eq!(of(around(1.0, 0.01), around(1.2, 0.01)), Verdict::Slower);
        assert_eq!(of(around(1.2, 0.01), around(1.0, 0.01)), Verdict::Faster);
        assert_eq!(of(around(1.0, 0.3), around(1.2, 0.3)), Verdict::NoDifference, "the spreads overlap");
        assert_eq!(
            of(around(1.0, 0.001), around(1.04, 0.001)),
            Verdict::NoDifference,
            "within the tolerance"
        );
        assert_eq!(of(around(1.0, 0.01), around(f64::NAN, 0.01)), Verdict::Slower, "no number is no pass");
    }

    fn baseline(rows: &[(&str, f64)]) -> Baseline {
        let entry =
            |&(name, median): &(&str, f64)| Entry { name: name.into(), quantiles: around(median, 0.01) };
        Baseline {
            bench: "attention".into(),
            device: "cpu, 2 threads".into(),
            version: "0".into(),
            date: "2026-11-23".into(),
            rows: rows.iter().map(entry).collect(),
        }
    }

    #[test]
    fn what_is_kept_comes_back_and_another_device_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = Baseline::path(dir.path(), "main", "attention").unwrap();
        let kept = baseline(&[("a", 1.0), ("b", 2.0)]);
        kept.save(&path).unwrap();
        assert_eq!(Baseline::load(&path, "attention", "cpu, 2 threads").unwrap(), kept);
        let refused = |bench, device, parts: [&str; 2]| {
            let error = Baseline::load(&path, bench, device).unwrap_err();
            let text = error.to_string();
            assert!(error.exit_code() == 2 && parts.iter().all(|part| text.contains(part)), "{text}");
        };
        refused("attention", "cpu, 4 threads", ["cpu, 2 threads", "cpu, 4 threads"]);
        refused("gemm", "cpu, 2 threads", ["'attention'", "'gemm'"]);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Baseline::load(&path, "attention", "x").unwrap_err().exit_code(), 65);
        let none = Baseline::path(dir.path(), "other", "attention").unwrap();
        assert_eq!(Baseline::load(&none, "attention", "x").unwrap_err().exit_code(), 66);
        for name in ["", "..", "a/b", ".x", "a b"] {
            assert!(Baseline::path(dir.path(), name, "attention").is_err(), "{name}");
        }
    }

    #[test]
    fn rows_are_judged_by_name_and_a_slower_one_fails() {
        let kept = baseline(&[("a", 1.0), ("b", 1.0), ("gone", 1.0)]);
        let compared =
            kept.judge("main", &baseline(&[("a", 0.5), ("b", 1.0), ("c", 1.0)]).rows, 0.05).unwrap();
        let verdicts: Vec<_> = compared.rows.iter().map(|row| row.verdict).collect();
        assert_eq!(verdicts, [Verdict::Faster, Verdict::NoDifference, Verdict::New]);
        assert_eq!(compared.missing, ["gone"]);
        assert!(compared.outcome().is_ok());
        let text = compared.to_string();
        assert!(text.contains("×2.00  faster") && text.contains("not measured now"), "{text}");
        let slower = kept.judge("main", &baseline(&[("b", 2.0)]).rows, 0.05).unwrap().outcome().unwrap_err();
        assert!(slower.exit_code() == 1 && slower.to_string().contains("'main': b;"), "{slower}");
        let nothing = kept.judge("main", &baseline(&[("x", 1.0)]).rows, 0.05).unwrap_err();
        assert!(nothing.exit_code() == 2 && nothing.to_string().contains("it has a; b; gone"), "{nothing}");
    }
}
