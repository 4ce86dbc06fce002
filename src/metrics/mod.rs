//! Accuracy of generated or teacher-forced text: ROUGE and token F1 under two protocols.

pub mod f1;
pub mod rouge;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How references are grouped and texts prepared before scoring. The two are not comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The SCROLLS benchmark: raw texts, lines grouped by id, best reference per metric.
    Scrolls,
    /// Ang et al. 2022: ROUGE over SQuAD-normalised texts, every line is its own example.
    Paper,
}

impl Protocol {
    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Scrolls => "scrolls",
            Protocol::Paper => "paper",
        }
    }
}

/// The one number a dataset is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Headline {
    GeometricMean,
    F1,
}

impl Headline {
    pub fn name(self) -> &'static str {
        match self {
            Headline::GeometricMean => "geometric_mean",
            Headline::F1 => "f1",
        }
    }

    pub fn of(self, scores: &Scores) -> f64 {
        match self {
            Headline::GeometricMean => scores.geometric_mean,
            Headline::F1 => scores.f1,
        }
    }
}

/// What predictions are scored by, under HF's names.
pub const SCORES: [&str; 5] = ["rouge1", "rouge2", "rougeL", "geometric_mean", "f1"];

/// Accuracy in percent, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub rouge1: f64,
    pub rouge2: f64,
    #[serde(rename = "rougeL")]
    pub rouge_l: f64,
    /// Of the three ROUGE means, not the mean of per-example geometric means.
    pub geometric_mean: f64,
    pub f1: f64,
}

impl Scores {
    fn new(rouge1: f64, rouge2: f64, rouge_l: f64, f1: f64) -> Self {
        Scores { rouge1, rouge2, rouge_l, geometric_mean: (rouge1 * rouge2 * rouge_l).powf(1.0 / 3.0), f1 }
    }

    /// Four decimals, as the SCROLLS evaluator reports.
    pub fn rounded(&self) -> Self {
        Scores {
            rouge1: round4(self.rouge1),
            rouge2: round4(self.rouge2),
            rouge_l: round4(self.rouge_l),
            geometric_mean: round4(self.geometric_mean),
            f1: round4(self.f1),
        }
    }
}

/// Decimal rounding of the exact binary value, as Python's `round(x, 4)`; scaling would round twice.
fn round4(value: f64) -> f64 {
    format!("{value:.4}").parse().unwrap_or(value)
}

/// Scores of one example in percent: the best reference for each metric on its own.
/// Fails when there is no reference.
pub fn score<S: AsRef<str>>(protocol: Protocol, prediction: &str, references: &[S]) -> Result<Scores> {
    if references.is_empty() {
        return Err(Error::data(
            "scoring",
            "an example has no reference; the test splits are published without answers, so score train or validation",
        ));
    }
    let mut best = rouge::FMeasures::default();
    let mut best_f1 = 0.0f64;
    for reference in references {
        let reference = reference.as_ref();
        let found = match protocol {
            Protocol::Scrolls => rouge::score(prediction, reference),
            Protocol::Paper => {
                let words = |text| rouge::escape_unprintable(&f1::normalise(text));
                rouge::score(&words(prediction), &words(reference))
            }
        };
        best.rouge1 = best.rouge1.max(found.rouge1);
        best.rouge2 = best.rouge2.max(found.rouge2);
        best.rouge_l = best.rouge_l.max(found.rouge_l);
        best_f1 = best_f1.max(f1::score(prediction, reference));
    }
    Ok(Scores::new(100.0 * best.rouge1, 100.0 * best.rouge2, 100.0 * best.rouge_l, 100.0 * best_f1))
}

/// Means over examples, in percent.
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    rouge1: f64,
    rouge2: f64,
    rouge_l: f64,
    f1: f64,
    examples: usize,
}

impl Accumulator {
    pub fn add(&mut self, example: &Scores) {
        self.rouge1 += example.rouge1;
        self.rouge2 += example.rouge2;
        self.rouge_l += example.rouge_l;
        self.f1 += example.f1;
        self.examples += 1;
    }

    pub fn examples(&self) -> usize {
        self.examples
    }

    /// None when nothing was added.
    pub fn mean(&self) -> Option<Scores> {
        if self.examples == 0 {
            return None;
        }
        let n = self.examples as f64;
        Some(Scores::new(self.rouge1 / n, self.rouge2 / n, self.rouge_l / n, self.f1 / n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_takes_its_own_best_reference() {
        let references = ["a b c d", "d c b a e"];
        let scores = score(Protocol::Scrolls, "d c b a", &references).unwrap();
        // rouge1: both references hold all four words, the first without excess.
        assert_eq!(scores.rouge1, 100.0);
        // rouge2 and rougeL: only the second has the order (3 of 3 and 4 bigrams; 4 of 4 and 5 words).
        assert!((scores.rouge2 - 100.0 * 6.0 / 7.0).abs() < 1e-9);
        assert!((scores.rouge_l - 100.0 * 8.0 / 9.0).abs() < 1e-9);
    }

    #[test]
    fn paper_protocol_drops_articles_and_punctuation_first() {
        let scrolls = score(Protocol::Scrolls, "the cat's", &["cats"]).unwrap();
        let paper = score(Protocol::Paper, "the cat's", &["cats"]).unwrap();
        assert_eq!(scrolls.rouge1, 0.0);
        assert_eq!(paper.rouge1, 100.0);
        assert_eq!(scrolls.f1, paper.f1);
    }

    #[test]
    fn geometric_mean_is_of_the_means() {
        let mut total = Accumulator::default();
        total.add(&score(Protocol::Scrolls, "x y", &["x y"]).unwrap());
        total.add(&score(Protocol::Scrolls, "p q", &["r s"]).unwrap());
        let mean = total.mean().unwrap();
        assert_eq!(total.examples(), 2);
        assert!((mean.geometric_mean - 50.0).abs() < 1e-9);
        assert_eq!(Accumulator::default().mean(), None);
    }

    #[test]
    fn no_reference_is_an_error() {
        let none: [&str; 0] = [];
        let error = score(Protocol::Paper, "x", &none).unwrap_err();
        assert_eq!(error.exit_code(), 65);
    }

    #[test]
    fn rounds_as_python_does() {
        // Python: round(0.00005, 4) == 0.0001, round(2.67525, 4) == 2.6753, round(0.03125, 4) == 0.0312
        assert_eq!(round4(0.00005), 0.0001);
        assert_eq!(round4(2.67525), 2.6753);
        assert_eq!(round4(0.03125), 0.0312);
    }

    #[test]
    fn serialises_under_the_published_names() {
        let json = serde_json::to_string(&Scores::default()).unwrap();
        assert_eq!(json, r#"{"rouge1":0.0,"rouge2":0.0,"rougeL":0.0,"geometric_mean":0.0,"f1":0.0}"#);
    }
}
