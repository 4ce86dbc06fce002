//! Refusals in the words of a study's file, which has keys where `finetune` has flags.

use crate::error::Error;
use crate::settings::Declared;
use crate::train::{Control, Options};

/// Keys of a study that are flags of `finetune`, besides those of training.
const OWN: [&str; 9] = [
    "max_train_samples",
    "max_eval_samples",
    "max_new_tokens",
    "global_attention",
    "random_blocks",
    "text_column",
    "summary_column",
    "skip_bad_records",
    "weights",
];

/// What `study` has a flag for, too.
const FLAGS: [&str; 1] = ["seed"];

/// The refusal with the keys of a study's file in place of the flags of `finetune`.
pub fn in_keys(error: Error) -> Error {
    match error {
        Error::Usage(what) => Error::Usage(renamed(what)),
        Error::DoesNotFit(what) => Error::DoesNotFit(renamed(what)),
        Error::Data { at, what } => Error::Data { at, what: renamed(what) },
        other => other,
    }
}

fn renamed(what: String) -> String {
    let mut keys: Vec<&str> = Options::KEYS.iter().chain(Control::KEYS).chain(&OWN).copied().collect();
    keys.retain(|key| !FLAGS.contains(key));
    // A flag that begins another is replaced after it.
    keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
    keys.iter().fold(what, |what, key| {
        let key_of_study = if *key == "max_source_length" { "max_source_lengths" } else { key };
        what.replace(&format!("--{}", key.replace('_', "-")), key_of_study)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_finetune_become_keys_and_those_of_study_stay() {
        for (flags, keys) in [
            ("--max-source-length 9 exceeds it", "max_source_lengths 9 exceeds it"),
            ("--learning-rate is 0; --eval-steps", "learning_rate is 0; eval_steps"),
            ("give --memory, or --seed", "give --memory, or --seed"),
            ("name it by --text-column, or", "name it by text_column, or"),
            ("leave --weights int8 out", "leave weights int8 out"),
        ] {
            assert_eq!(in_keys(Error::usage(flags)).to_string(), keys);
        }
    }
}
