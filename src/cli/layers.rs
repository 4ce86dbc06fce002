//! Settings of a run from elsewhere: flags win over a file, a file over a recipe, a recipe over defaults.
//!
//! A setting is known by its flag, so whatever the subcommand's `Args` flattens in can also stand in a file. The
//! layers below the command line are flags that are added to it, and clap reads the whole.

mod file;
mod hf;
mod print;

use crate::error::{Error, Result};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, error::ContextKind, error::ErrorKind};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;

/// The subcommand whose settings come in layers.
const SUBCOMMAND: &str = "finetune";

/// What a layer that sets one of a row says about all of the row: lower layers no longer count.
const ALTERNATIVES: [&[&str]; 8] = [
    &["model", "config_name"],
    &["warmup_steps", "warmup_ratio"],
    &["max_steps", "num_train_epochs"],
    &["gradient_accumulation_steps", "global_batch_size"],
    &["resume", "overwrite_output_dir"],
    &["cache_dir", "no_cache"],
    &["max_new_tokens", "max_length"],
    &["min_new_tokens", "min_length"],
];

/// A recipe's settings, flag and value, for the dataset and lengths that the other layers ask for.
pub type Recipe = fn(&str, &ArgMatches) -> Result<Vec<(&'static str, String)>>;

/// What is to be done with a command line.
pub enum Line {
    Run(Vec<OsString>),
    Print(String),
}

/// Adds the flags that name the other layers.
pub fn with_sources(command: Command, recipes: &'static [&'static str]) -> Command {
    let heading = "Settings from elsewhere";
    let arguments = [
        Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Settings in TOML or JSON, by the names of the flags; flags win over them"),
        Arg::new("recipe")
            .long("recipe")
            .value_name("NAME")
            .value_parser(recipes.to_vec())
            .help("Settings of a published study; flags and the file win over them"),
        Arg::new("print_config")
            .long("print-config")
            .action(ArgAction::SetTrue)
            .help("Print all settings as TOML, each with where it is from, and do nothing"),
    ];
    command.mut_subcommand(SUBCOMMAND, |sub| sub.args(arguments.map(|arg| arg.help_heading(heading))))
}

/// Adds what a file and a recipe say to a command line that names them.
pub fn resolve(command: &Command, line: Vec<OsString>, recipe: Recipe) -> Result<Line> {
    if !line.iter().any(|word| word == SUBCOMMAND) {
        return Ok(Line::Run(line));
    }
    let known = Known::new(command);
    // What is wrong with the command line itself is told when all of it is read.
    let Ok(asked) = known.read(line.clone()) else {
        return Ok(Line::Run(line));
    };
    let config = asked.get_one::<PathBuf>("config");
    let prints = asked.get_flag("print_config");
    if config.is_none() && !asked.contains_id("recipe") && !prints {
        return Ok(Line::Run(line));
    }
    let mut layers = Layers { line, origins: HashMap::new() };
    for arg in known.arguments.iter().map(|arg| arg.get_id().as_str()) {
        if asked.value_source(arg) == Some(ValueSource::CommandLine) {
            layers.origins.insert(arg.to_string(), FLAG.into());
        }
    }
    if let Some(path) = config {
        layers.add(file::read(path, &known)?);
    }
    // The file may name the recipe, too.
    let so_far = layers.read(&known)?;
    if let Some(name) = so_far.get_one::<String>("recipe") {
        let settings = recipe(name, &so_far)?.into_iter().map(|(flag, value)| {
            let value = if value == "true" { Value::Switch(true) } else { Value::Text(value) };
            known.setting(flag, value, format!("{RECIPE}{name}"))
        });
        layers.add(settings.collect::<Result<_>>()?);
    }
    match prints {
        true => Ok(Line::Print(print::text(&known.arguments, &layers.read(&known)?, &layers.origins))),
        false => Ok(Line::Run(layers.line)),
    }
}

/// Where a setting is from: the command line, or, with its name behind, a recipe; else the line of a file.
const FLAG: &str = "flag";
const RECIPE: &str = "recipe ";

/// A value as a file gives it.
enum Value {
    Text(String),
    Switch(bool),
}

/// A flag that a layer sets.
struct Setting {
    id: String,
    /// None for a switch that stays off.
    word: Option<OsString>,
    origin: String,
}

struct Layers {
    line: Vec<OsString>,
    /// By argument.
    origins: HashMap<String, String>,
}

impl Layers {
    /// Adds what no layer above has decided.
    fn add(&mut self, settings: Vec<Setting>) {
        let decided: HashSet<String> = self.origins.keys().cloned().collect();
        for Setting { id, word, origin } in settings {
            let row = ALTERNATIVES.iter().find(|row| row.contains(&id.as_str()));
            let decided_above = match row {
                Some(row) => row.iter().any(|id| decided.contains(*id)),
                None => decided.contains(&id),
            };
            if !decided_above {
                self.line.extend(word);
                self.origins.insert(id, origin);
            }
        }
    }

    fn read(&self, known: &Known) -> Result<ArgMatches> {
        known.read(self.line.clone()).map_err(|refusal| self.refused(known, &refusal))
    }

    /// A refusal of settings together, with the keys and the line of those that a file gave.
    fn refused(&self, known: &Known, refusal: &clap::Error) -> Error {
        let mut text = first_line(refusal);
        let mut place = None;
        for arg in &known.arguments {
            let (id, flag) = (arg.get_id().as_str(), arg.get_long().unwrap_or_default());
            let origin = self.origins.get(id).filter(|origin| *origin != FLAG && !origin.starts_with(RECIPE));
            let Some(origin) = origin else { continue };
            for end in ["'", " "] {
                if let Some(start) = text.find(&format!("'--{flag}{end}")) {
                    let rest = &text[start + 1..];
                    let after = rest.find('\'').map_or("", |at| &rest[at + 1..]).to_string();
                    text = format!("{}`{}`{after}", &text[..start], flag.replace('-', "_"));
                    place.get_or_insert(origin);
                }
            }
        }
        place.map_or_else(|| Error::usage(&text), |place| Error::data(place, &text))
    }
}

/// What the subcommand can be told.
struct Known {
    /// Requires nothing, for a part of the settings is read by itself.
    command: Command,
    arguments: Vec<Arg>,
}

impl Known {
    fn new(command: &Command) -> Self {
        let lenient = command.clone().mut_subcommand(SUBCOMMAND, |sub| {
            let required: Vec<String> = sub
                .get_groups()
                .filter(|group| group.is_required_set())
                .map(|group| group.get_id().to_string())
                .collect();
            let sub = sub.mut_args(|arg| arg.required(false));
            required.into_iter().fold(sub, |sub, id| sub.mut_group(id, |group| group.required(false)))
        });
        let mut built = lenient.clone();
        built.build();
        let arguments = built.find_subcommand(SUBCOMMAND).map_or_else(Vec::new, |sub| {
            sub.get_arguments().filter(|arg| arg.get_long().is_some()).cloned().collect()
        });
        Known { command: lenient, arguments }
    }

    /// The subcommand's matches.
    fn read(&self, line: Vec<OsString>) -> Result<ArgMatches, clap::Error> {
        let mut matches = self.command.clone().try_get_matches_from(line)?;
        match matches.remove_subcommand() {
            Some((name, found)) if name == SUBCOMMAND => Ok(found),
            _ => Err(clap::Error::new(ErrorKind::InvalidSubcommand)),
        }
    }

    /// The flag that is called `key`, in any spelling.
    fn flag(&self, key: &str) -> Option<&Arg> {
        let flag = key.replace('_', "-");
        let named = |arg: &&Arg| {
            arg.get_long() == Some(&flag) || arg.get_all_aliases().is_some_and(|all| all.contains(&&*flag))
        };
        self.arguments.iter().find(named)
    }

    /// The flag `key`, in any spelling, with a value that it takes; what is wrong is told at `origin`.
    fn setting(&self, key: &str, value: Value, origin: String) -> Result<Setting> {
        let flag = key.replace('_', "-");
        let arg = self.flag(key);
        let word = match (&value, arg.is_some_and(|arg| !arg.get_action().takes_values())) {
            (Value::Switch(true), true) => format!("--{flag}"),
            (Value::Switch(false), true) => String::new(),
            (Value::Text(_), true) => {
                return Err(Error::data(origin, format!("`{key}` is a switch; set it to true or false")));
            }
            (Value::Switch(on), false) => format!("--{flag}={on}"),
            (Value::Text(text), false) => format!("--{flag}={text}"),
        };
        let word = (!word.is_empty()).then(|| OsString::from(word));
        let line = ["wattention", SUBCOMMAND].into_iter().map(OsString::from).chain(word.clone());
        let read = self.read(line.collect()).map_err(|refusal| match refusal.kind() {
            ErrorKind::UnknownArgument => Error::data(&origin, unknown(key, &refusal)),
            _ => Error::data(&origin, by_key(first_line(&refusal), key)),
        });
        match (read, arg) {
            (Err(error), _) => Err(error),
            (Ok(_), Some(arg)) if !["config", "print_config"].contains(&arg.get_id().as_str()) => {
                Ok(Setting { id: arg.get_id().to_string(), word, origin })
            }
            (Ok(_), _) => Err(Error::data(origin, format!("`{key}` can only be given as a flag"))),
        }
    }
}

/// The refusal of a key that is no flag, with the flag that was probably meant.
fn unknown(key: &str, refusal: &clap::Error) -> String {
    let meant = refusal.get(ContextKind::SuggestedArg).map(|flag| flag.to_string());
    let meant = meant.map(|flag| flag.trim_start_matches('-').replace('-', "_"));
    match meant {
        Some(meant) => format!("there is no setting `{key}`; did you mean `{meant}`?"),
        None => {
            format!(
                "there is no setting `{key}`; `wattention {SUBCOMMAND} --print-config` lists those there are"
            )
        }
    }
}

/// A refusal that names the flag, with the key that a file has for it.
fn by_key(text: String, key: &str) -> String {
    let flag = text.find("'--").and_then(|start| Some((start, start + 1 + text[start + 1..].find('\'')?)));
    flag.map_or(text.clone(), |(start, end)| format!("{}`{key}`{}", &text[..start], &text[end + 1..]))
}

fn first_line(refusal: &clap::Error) -> String {
    let text = refusal.to_string();
    let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let text = lines.join(" ");
    text.strip_prefix("error: ").unwrap_or(&text).to_string()
}
