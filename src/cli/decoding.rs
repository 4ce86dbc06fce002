//! Flags that say how answers are generated, one for each setting; what they leave open, the model's own settings say.

use super::global::Global;
use crate::error::{Error, Result};
use crate::generate::{self, GenerateOptions, IGNORE, LENGTHS, SETTINGS, Setting, Settings, Used};
use crate::metrics::Protocol;
use crate::models::ModelLimits;
use crate::text::Tokenizer;
use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, LazyLock};

const HEADING: &str = "Decoding (default: the model's generation_config.json)";

/// Says that flags alone decide.
const ALL: &str = "all";

/// Asked for by commands that give several answers, and by their own flag.
const ANSWERS: &str = "num_return_sequences";

/// What the flags say.
#[derive(Debug, Clone, Default)]
pub struct Decoding {
    flags: Settings,
    /// Keys of the model's file that are left out.
    ignored: Vec<String>,
}

fn settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| setting.key != ANSWERS)
}

/// The flag of a key, without dashes before it; clap keeps names for as long as the program runs.
fn flag(key: &'static str) -> &'static str {
    static FLAGS: LazyLock<HashMap<&str, String>> = LazyLock::new(|| {
        SETTINGS.iter().chain(&LENGTHS).map(|setting| (setting.key, setting.key.replace('_', "-"))).collect()
    });
    FLAGS.get(key).map_or(key, String::as_str)
}

fn argument(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.key)
        .long(flag(setting.key))
        .help(setting.help.trim())
        .value_name(setting.value_name)
        .value_parser(ValueParser::new(setting.parse))
        .allow_negative_numbers(true)
        .help_heading(HEADING);
    match setting.is_switch {
        true => arg.num_args(0..=1).default_missing_value("true").require_equals(true),
        false => arg,
    }
}

impl clap::Args for Decoding {
    fn augment_args(command: Command) -> Command {
        let lengths = LENGTHS.iter().zip(["max_new_tokens", "min_new_tokens"]);
        let lengths = lengths.map(|(length, same)| argument(length).conflicts_with(same));
        let ignored = Arg::new(IGNORE)
            .long(IGNORE)
            .help("Keys of the model's generation_config.json that are left out, or all")
            .value_name("KEY,..|all")
            .value_delimiter(',')
            .help_heading(HEADING);
        command.args(settings().map(argument)).args(lengths).arg(ignored)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Decoding {
    fn from_arg_matches(found: &ArgMatches) -> Result<Self, clap::Error> {
        let mut decoding = Decoding::default();
        decoding.update_from_arg_matches(found)?;
        Ok(decoding)
    }

    fn update_from_arg_matches(&mut self, found: &ArgMatches) -> Result<(), clap::Error> {
        for key in settings().chain(&LENGTHS).map(|setting| setting.key) {
            if let Some(value) = found.get_one::<Json>(key) {
                self.flags.set(key, value.clone());
            }
        }
        self.ignored.extend(found.get_many::<String>(IGNORE).into_iter().flatten().cloned());
        Ok(())
    }
}

impl Decoding {
    /// With the settings of the model in `dir` where a flag is not given; `answers` of each input. Strings that end an
    /// answer are those of `tokenizer`, or else of the model's own.
    pub fn options(
        &self,
        dir: &Path,
        limits: &ModelLimits,
        tokenizer: Option<&Tokenizer>,
        answers: Option<NonZeroUsize>,
        global: &Global,
    ) -> Result<GenerateOptions> {
        let mut flags = self.flags.clone();
        if let Some(answers) = answers {
            flags.set(ANSWERS, answers.get().into());
        }
        let of_model = match self.ignored.iter().any(|key| key == ALL) {
            true => Settings::default(),
            false => Settings::of_model(dir, &self.ignored)?,
        };
        let settings = flags.or(of_model);
        settings.warnings().iter().for_each(|warning| global.warn(warning));
        let mut options = settings.options(limits, global.seed)?;
        self.check(&options)?;
        if !options.stop_strings.is_empty() {
            let pieces = match tokenizer {
                Some(tokenizer) => tokenizer.pieces()?,
                None => Tokenizer::load(dir)?.pieces()?,
            };
            options.pieces = Some(Arc::new(generate::Pieces(pieces)));
        }
        Ok(options)
    }

    /// The same for a model without a file of its own.
    pub fn alone(self) -> Self {
        Decoding { ignored: vec![ALL.into()], ..self }
    }

    /// How `protocol` generates the one answer of each input; one that generates none reads no file of settings.
    pub fn of(
        &self,
        protocol: Protocol,
        dir: &Path,
        limits: &ModelLimits,
        tokenizer: &Tokenizer,
        global: &Global,
    ) -> Result<GenerateOptions> {
        match protocol {
            Protocol::Scrolls => self.options(dir, limits, Some(tokenizer), Some(NonZeroUsize::MIN), global),
            Protocol::Paper => self.flags.options(limits, global.seed),
        }
    }

    /// Refuses flags that would change nothing.
    fn check(&self, options: &GenerateOptions) -> Result<()> {
        let idle = settings().find(|setting| self.flags.is_flag(setting.key) && !options.uses(setting.used));
        let Some(setting) = idle else {
            return Ok(());
        };
        let remedy = match setting.used {
            Used::BeamSearch => "is for beam search; add --num-beams with 2 or more",
            Used::Sampling | Used::Always => "is for sampling; add --do-sample",
        };
        Err(Error::usage(format!("{} {remedy}", setting.flag())))
    }
}
