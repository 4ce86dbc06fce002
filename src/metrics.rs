//! Accuracy of generated or teacher-forced text: ROUGE and token F1 under two protocols.

pub mod bootstrap;
pub mod f1;
pub mod rouge;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use rouge::Rouge;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Headline {
    #[serde(rename = "rouge1")]
    Rouge1,
    #[serde(rename = "rouge2")]
    Rouge2,
    #[serde(rename = "rougeL")]
    RougeL,
    #[default]
    #[serde(rename = "geometric_mean")]
    GeometricMean,
    #[serde(rename = "f1")]
    F1,
}

impl Headline {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Headline::Rouge1 => "rouge1",
            Headline::Rouge2 => "rouge2",
            Headline::RougeL => "rougeL",
            Headline::GeometricMean => "geometric_mean",
            Headline::F1 => "f1",
        }
    }

    /// The name in prose.
    pub fn label(self) -> &'static str {
        match self {
            Headline::Rouge1 => "ROUGE-1",
            Headline::Rouge2 => "ROUGE-2",
            Headline::RougeL => "ROUGE-L",
            Headline::GeometricMean => "ROUGE geometric mean",
            Headline::F1 => "F1",
        }
    }

    /// Its value among scores.
    pub fn of(self, scores: &Scores) -> f64 {
        match self {
            Headline::Rouge1 => scores.rouge1,
            Headline::Rouge2 => scores.rouge2,
            Headline::RougeL => scores.rouge_l,
            Headline::GeometricMean => scores.geometric_mean,
            Headline::F1 => scores.f1,
        }
    }
}

/// What predictions are scored by, under HF's names.
pub const SCORES: [&str; 5] = ["rouge1", "rouge2", "rougeL", "geometric_mean", "f1"];

/// How well a text agrees with a reference, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measure {
    /// The share of the prediction that the reference has.
    pub precision: f64,
    /// The share of the reference that the prediction has.
    pub recall: f64,
    /// Their harmonic mean, F1.
    pub f: f64,
}

impl Measure {
    /// `common` items of `predicted` and of `expected`; all 0 where nothing is common.
    fn of(common: usize, predicted: usize, expected: usize) -> Self {
        if common == 0 {
            return Measure::default();
        }
        let (precision, recall) = (common as f64 / predicted as f64, common as f64 / expected as f64);
        Measure { precision, recall, f: 2.0 * precision * recall / (precision + recall) }
    }

    /// The one with the higher F1, the first of equal ones.
    fn best(self, other: Measure) -> Self {
        if other.f > self.f { other } else { self }
    }
}

/// Accuracy in percent, 0 to 100. Precision and recall are against the reference with the best F1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub rouge1: f64,
    pub rouge2: f64,
    #[serde(rename = "rougeL")]
    pub rouge_l: f64,
    /// The geometric mean of the three ROUGE means, not the mean of per-example geometric means.
    pub geometric_mean: f64,
    pub f1: f64,
    #[serde(default)]
    pub rouge1_precision: f64,
    #[serde(default)]
    pub rouge1_recall: f64,
    #[serde(default)]
    pub rouge2_precision: f64,
    #[serde(default)]
    pub rouge2_recall: f64,
    #[serde(default, rename = "rougeL_precision")]
    pub rouge_l_precision: f64,
    #[serde(default, rename = "rougeL_recall")]
    pub rouge_l_recall: f64,
    #[serde(default)]
    pub f1_precision: f64,
    #[serde(default)]
    pub f1_recall: f64,
}

impl Scores {
    fn of([rouge1, rouge2, rouge_l, f1]: [Measure; 4]) -> Self {
        let mut scores = Scores {
            rouge1: rouge1.f,
            rouge2: rouge2.f,
            rouge_l: rouge_l.f,
            geometric_mean: 0.0,
            f1: f1.f,
            rouge1_precision: rouge1.precision,
            rouge1_recall: rouge1.recall,
            rouge2_precision: rouge2.precision,
            rouge2_recall: rouge2.recall,
            rouge_l_precision: rouge_l.precision,
            rouge_l_recall: rouge_l.recall,
            f1_precision: f1.precision,
            f1_recall: f1.recall,
        };
        scores.means().into_iter().for_each(|score| *score *= 100.0);
        scores.with_geometric_mean()
    }

    /// Every score that is a mean over examples.
    fn means(&mut self) -> [&mut f64; 12] {
        [
            &mut self.rouge1,
            &mut self.rouge2,
            &mut self.rouge_l,
            &mut self.f1,
            &mut self.rouge1_precision,
            &mut self.rouge1_recall,
            &mut self.rouge2_precision,
            &mut self.rouge2_recall,
            &mut self.rouge_l_precision,
            &mut self.rouge_l_recall,
            &mut self.f1_precision,
            &mut self.f1_recall,
        ]
    }

    fn with_geometric_mean(self) -> Self {
        Scores { geometric_mean: (self.rouge1 * self.rouge2 * self.rouge_l).powf(1.0 / 3.0), ..self }
    }

    /// Four decimals, as the SCROLLS evaluator reports.
    pub fn rounded(mut self) -> Self {
        self.means().into_iter().for_each(|score| *score = round4(*score));
        Scores { geometric_mean: round4(self.geometric_mean), ..self }
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
    let mut best = [Measure::default(); 4];
    for reference in references {
        let reference = reference.as_ref();
        let Rouge { rouge1, rouge2, rouge_l } = match protocol {
            Protocol::Scrolls => rouge::score(prediction, reference),
            Protocol::Paper => {
                let words = |text| rouge::escape_unprintable(&f1::normalise(text));
                rouge::score(&words(prediction), &words(reference))
            }
        };
        let found = [rouge1, rouge2, rouge_l, f1::score(prediction, reference)];
        best.iter_mut().zip(found).for_each(|(best, found)| *best = best.best(found));
    }
    Ok(Scores::of(best))
}

/// Means over examples, in percent.
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    sum: Scores,
    examples: usize,
}

impl Accumulator {
    pub fn add(&mut self, example: &Scores) {
        let mut example = *example;
        self.sum.means().into_iter().zip(example.means()).for_each(|(sum, score)| *sum += *score);
        self.examples += 1;
    }

    pub fn examples(&self) -> usize {
        self.examples
    }

    /// None when nothing was added.
    pub fn mean(&self) -> Option<Scores> {
        let mut mean = self.sum;
        mean.means().into_iter().for_each(|score| *score /= self.examples as f64);
        (self.examples > 0).then(|| mean.with_geometric_mean())
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
        assert!(
            json.starts_with(r#"{"rouge1":0.0,"rouge2":0.0,"rougeL":0.0,"geometric_mean":0.0,"f1":0.0,"#)
        );
        let earlier = r#"{"rouge1":1.0,"rouge2":0.0,"rougeL":0.0,"geometric_mean":0.0,"f1":0.0}"#;
        assert_eq!(serde_json::from_str::<Scores>(earlier).unwrap().rouge1, 1.0);
    }
}
