//! The settings of two published studies.

use crate::data::{Kind, embedded};
use crate::error::{Error, Result};
use clap::ArgMatches;
use std::num::NonZeroUsize;
use std::path::Path;

pub const NAMES: &[&str] = &["scrolls", "paper"];

/// The SCROLLS baselines: dataset, epochs, learning rates at 1024, 4096 and 16384 tokens.
const SCROLLS: [(&str, u32, [&str; 3]); 4] = [
    ("gov_report", 10, ["1e-4", "1e-4", "5e-5"]),
    ("summ_screen_fd", 10, ["5e-5", "2e-5", "1e-5"]),
    ("qmsum", 20, ["5e-5", "1e-5", "1e-5"]),
    ("qasper", 20, ["2e-5", "5e-5", "2e-5"]),
];
const SCROLLS_LENGTHS: [usize; 3] = [1024, 4096, 16384];

/// Eight GPUs with 16384 tokens each.
const SCROLLS_TOKENS: usize = 131_072;

/// Both studies trained with transformers of 2021 and these.
const BOTH: [(&str, &str); 8] = [
    ("optim", "adamw_hf"),
    ("adam-beta1", "0.9"),
    ("adam-beta2", "0.98"),
    ("adam-epsilon", "1e-6"),
    ("weight-decay", "0.001"),
    ("lr-scheduler-type", "linear"),
    ("warmup-ratio", "0.1"),
    ("global-attention", "first"),
];

/// The settings of recipe `name` for the dataset and length that are asked for.
///
/// `scrolls`: LED-base of Shaham et al. 2022 (arXiv 2201.03533), whose batches have about as many tokens.
/// `paper`: Ang et al. 2022 (arXiv 2204.07288).
pub fn recipe(name: &str, asked: &ArgMatches) -> Result<Vec<(&'static str, String)>> {
    let path = asked.get_one::<String>("dataset").map_or("", String::as_str);
    let stem = Path::new(path).file_stem().map_or(path.into(), |stem| stem.to_string_lossy());
    let dataset = if stem == embedded::NAME { "qmsum" } else { &*stem };
    let length = asked.get_one::<NonZeroUsize>("max_source_length").map_or(1024, |length| length.get());
    let mut settings: Vec<(&'static str, String)> = BOTH.map(|(flag, value)| (flag, value.into())).into();
    let mut set = |flag: &'static str, value: &dyn ToString| settings.push((flag, value.to_string()));
    match name {
        "scrolls" => {
            set("protocol", &"scrolls");
            set("max-target-length", &1024);
            set("group-by-length", &true);
            set("max-new-tokens", &1024);
            set("global-batch-size", &(SCROLLS_TOKENS / length).max(1));
            let known = SCROLLS.iter().find(|(of, ..)| *of == dataset);
            let column = SCROLLS_LENGTHS.iter().position(|&published| published == length);
            match known {
                Some((_, epochs, _)) => set("num-train-epochs", epochs),
                None if asked.contains_id("dataset") => {
                    needed(asked, "num_train_epochs", &format!("dataset '{dataset}'"))?;
                }
                None => {}
            }
            match (known, column) {
                (Some((_, _, rates)), Some(column)) => set("learning-rate", &rates[column]),
                (None, _) if !asked.contains_id("dataset") => {}
                (None, _) => needed(asked, "learning_rate", &format!("dataset '{dataset}'"))?,
                (_, None) => needed(asked, "learning_rate", &format!("{length} tokens"))?,
            }
        }
        "paper" => {
            let answers = crate::data::ALL
                .iter()
                .any(|known| known.name == dataset && known.kind == Kind::QuestionAnswering);
            set("protocol", &"paper");
            set("random-blocks", &"drawn");
            set("learning-rate", &"2e-5");
            set("num-train-epochs", &50);
            set("max-target-length", &128);
            // Every checkpoint is evaluated, and every evaluation saved.
            for flag in ["eval-steps", "save-steps"] {
                set(flag, &if answers { 10 } else { 500 });
            }
            set("save-total-limit", &2);
            set("load-best-model-at-end", &true);
            set("metric-for-best-model", &if answers { "f1" } else { "geometric_mean" });
            set("early-stopping-patience", &3);
            // Examples of LED-base at 1024 tokens; four batches are added up for answers.
            set("per-device-train-batch-size", &24);
            set("per-device-eval-batch-size", &24);
            set("global-batch-size", &if answers { 96 } else { 24 });
        }
        other => return Err(Error::usage(format!("there is no recipe '{other}'"))),
    }
    Ok(settings)
}

/// Fails unless the user says what the recipe cannot.
fn needed(asked: &ArgMatches, id: &str, what: &str) -> Result<()> {
    let given = asked.value_source(id).is_some_and(|source| source == clap::parser::ValueSource::CommandLine);
    match given {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "the recipe 'scrolls' says nothing about {what}: it has gov_report, summ_screen_fd, qmsum and qasper at \
             1024, 4096 and 16384 tokens; give --{}",
            id.replace('_', "-")
        ))),
    }
}
