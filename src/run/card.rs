//! The model card of a run: `README.md` of the saved model, with HF's metadata and the facts of the run.

use super::Run;
use super::books::EnergyReport;
use super::report::{Evaluated, Trained};
use crate::data::Kind;
use crate::error::Result;
use crate::files;
use crate::metrics::bootstrap::interval;
use crate::metrics::{Headline, Scores};
use crate::units::Seconds;
use std::fmt::Write;

/// What a run came to.
#[derive(Default)]
pub(super) struct Results {
    pub trained: Option<Trained>,
    pub evaluated: Option<Evaluated>,
    /// The score of each example.
    pub each: Vec<Scores>,
}

/// HF's name of a metric, the metric and its value.
type Score = (&'static str, Headline, fn(&Evaluated) -> f64);

const SCORES: [Score; 5] = [
    ("rouge", Headline::Rouge1, |scores| scores.eval_rouge1),
    ("rouge", Headline::Rouge2, |scores| scores.eval_rouge2),
    ("rouge", Headline::RougeL, |scores| scores.eval_rouge_l),
    ("rouge", Headline::GeometricMean, |scores| scores.eval_geometric_mean),
    ("f1", Headline::F1, |scores| scores.eval_f1),
];

impl Run<'_> {
    /// Writes the card of the model that the run has saved, with what it cost.
    pub fn write_card(&self, energy: &EnergyReport) -> Result<()> {
        files::write_text(&self.dir.model().join("README.md"), &self.card(energy))
    }

    fn card(&self, energy: &EnergyReport) -> String {
        let name = self.dir.root().file_name().map_or("model".into(), |name| name.to_string_lossy());
        let mut text = format!("---\n{}---\n\n# {name}\n\n", self.metadata(&name, energy));
        let dataset = self.splits.name();
        let base = match self.origin.base() {
            Some(base) => format!("{base}, fine-tuned"),
            None => "A model with drawn weights, trained".into(),
        };
        let _ = writeln!(
            text,
            "{base} on {dataset} by wattention {} on {} ({}).\n",
            env!("CARGO_PKG_VERSION"),
            self.device(),
            self.means.device.precision()
        );
        text += &self.scores();
        text += &self.training();
        text += &cost(energy);
        text
    }

    /// The front matter, as the hub reads it.
    fn metadata(&self, name: &str, energy: &EnergyReport) -> String {
        let dataset = quoted(self.splits.name());
        let mut yaml = String::from("library_name: transformers\ntags:\n- wattention\n");
        // A folder on this machine means nothing to the hub.
        if let Some(base) = self.origin.repository() {
            let _ = writeln!(yaml, "base_model: {}", quoted(base));
        }
        let task = match self.splits.kind() {
            Kind::Summarisation => "summarization",
            Kind::QuestionAnswering => "question-answering",
        };
        if self.splits.kind() == Kind::Summarisation {
            let _ = writeln!(yaml, "pipeline_tag: {task}");
        }
        let _ = writeln!(yaml, "datasets:\n- {dataset}");
        if let Some(evaluated) = &self.results.evaluated {
            yaml += "metrics:\n- rouge\n- f1\n";
            let _ = writeln!(
                yaml,
                "model-index:\n- name: {}\n  results:\n  - task:\n      type: {task}\n    dataset:\n      name: {dataset}\n      \
                 type: {dataset}\n      split: validation\n    metrics:",
                quoted(name)
            );
            for (kind, metric, of) in SCORES {
                let (label, value) = (metric.label(), of(evaluated));
                let _ = writeln!(yaml, "    - type: {kind}\n      name: {label}\n      value: {value}");
            }
            if let Some(loss) = evaluated.eval_loss {
                let _ = writeln!(yaml, "    - type: loss\n      name: Loss\n      value: {loss}");
            }
        }
        if let Some((grams, source)) = self.emissions(energy) {
            let _ = writeln!(
                yaml,
                "co2_eq_emissions:\n  emissions: {grams}\n  source: {}\n  training_type: fine-tuning\n  hardware_used: {}",
                quoted(&source),
                quoted(&self.device())
            );
        }
        yaml
    }

    /// Grams of CO2, and how they are known: from measured energy and an intensity that the user gave.
    fn emissions(&self, energy: &EnergyReport) -> Option<(f64, String)> {
        let intensity = self.means.carbon_intensity?;
        let joules = energy.run.whole.energy?;
        let source = format!("{} at {intensity} g/kWh, which was given", energy.run.source);
        Some((joules.kwh() * intensity, source))
    }

    fn scores(&self) -> String {
        let Some(evaluated) = &self.results.evaluated else {
            return "The model was not scored.\n\n".into();
        };
        let mut text = format!(
            "## Scores\n\n{} examples of the validation split, `{}` protocol.\n\n| metric | score | 95 % interval |\n|---|---|---|\n",
            evaluated.eval_samples,
            self.settings.protocol.name()
        );
        for (_, metric, of) in SCORES {
            let interval = interval(&self.results.each, metric, self.settings.training.seed);
            let interval =
                interval.map_or("n/a: it takes two examples".into(), |interval| interval.to_string());
            let _ = writeln!(text, "| {} | {:.2} | {interval} |", metric.label(), of(evaluated));
        }
        if let Some(loss) = evaluated.eval_loss {
            let _ = writeln!(text, "| loss | {loss:.4} | |");
        }
        text + "\n"
    }

    fn training(&self) -> String {
        let (options, control) = (&self.settings.training, &self.settings.control);
        let mut rows = vec![
            ("tokens of the input", options.max_source_length.to_string()),
            ("tokens of the output", options.max_target_length.to_string()),
            ("examples", self.train.examples.len().to_string()),
            ("examples of a step", {
                let accumulated = options.gradient_accumulation_steps;
                (options.per_device_train_batch_size * accumulated).to_string()
            }),
            ("largest learning rate", format!("{:e}", options.learning_rate)),
            ("optimizer", name_of(&options.optim)),
            ("schedule", name_of(&options.lr_scheduler_type)),
            ("seed", options.seed.to_string()),
        ];
        if self.train.corpus.limits.has_global_attention {
            rows.push(("global attention", self.global_attention().to_string()));
        }
        let left_out = self.left_out();
        rows.extend(left_out.train.cut.text().map(|what| ("left out of training", what)));
        let scored = left_out.validation.and_then(|validation| validation.cut.text());
        rows.extend(scored.map(|what| ("left out of validation", what)));
        if let Some(trained) = &self.results.trained {
            rows.push(("steps", trained.step.to_string()));
            rows.push(("epochs", format!("{:.2}", trained.epoch)));
            if trained.model_step != trained.step {
                let what = format!("{}, the best by {}", trained.model_step, control.metric());
                rows.push(("step of these weights", what));
            }
            rows.push(("training loss", format!("{:.4}", trained.train_loss)));
            rows.push(("time of training", Seconds(trained.train_runtime).to_string()));
        }
        let rows: Vec<String> = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
        format!("## Training\n\n| | |\n|---|---|\n{}\n", rows.concat())
    }
}

fn cost(energy: &EnergyReport) -> String {
    let whole = &energy.run.whole;
    let what = match whole.energy {
        Some(joules) => format!("{joules} in {}: {}", whole.time, energy.run.source),
        None => format!("not measured in {}: {}", whole.time, whole.note),
    };
    format!("## Energy\n\n{what}.\n")
}

/// The name that files have for a setting's value.
fn name_of(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().map_or(value.to_string(), str::to_string)
}

/// A string of YAML, which JSON's are.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
