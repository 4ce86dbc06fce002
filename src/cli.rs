//! The command line: one file per subcommand, each with an `Args` and a `run`.

mod bench;
mod choices;
mod columns;
mod completions;
mod convert;
mod data;
mod decoding;
mod doctor;
mod energy;
mod evaluate;
mod failure;
mod finetune;
mod forward;
mod generate;
mod global;
mod help;
mod layers;
mod machine;
mod output;
mod plan;
mod profile;
mod progress;
mod ranks;
mod study;
mod values;
mod workload;

use crate::device::cuda::nccl;
use clap::{ArgMatches, Command as Definition, CommandFactory, FromArgMatches, Parser, Subcommand};
use global::Global;
use layers::Line;
use std::ffi::OsString;
use std::process::ExitCode;

/// Fine-tunes and runs LED and BigBird-Pegasus, and knows what every phase costs.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// The enum that clap reads and the dispatch to each file's `run`.
macro_rules! subcommands {
    ($($variant:ident => $file:ident),* $(,)?) => {
        #[derive(Subcommand)]
        enum Command {
            $($variant(Box<$file::Args>)),*
        }

        impl Command {
            fn run(self, global: &Global) -> anyhow::Result<()> {
                match self {
                    $(Command::$variant(args) => $file::run(*args, global)),*
                }
            }
        }
    };
}

subcommands! {
    Bench => bench,
    Completions => completions,
    Convert => convert,
    Data => data,
    Doctor => doctor,
    Evaluate => evaluate,
    Finetune => finetune,
    Forward => forward,
    Generate => generate,
    Plan => plan,
    Profile => profile,
    Study => study,
}

/// Runs the process's command line and gives its exit code.
pub fn main() -> ExitCode {
    // Before anything starts a thread.
    nccl::fix_order();
    failure::install_panic_hook();
    ExitCode::from(failure::guard(|| {
        let line = std::env::args_os().map(kebab).collect();
        let line = match layers::resolve(&definition(), line, finetune::recipe) {
            Ok(Line::Run(line)) => line,
            Ok(Line::Print(text)) => return code(output::print(text)),
            Err(error) => return failure::report(&error.into()),
        };
        let read = definition().try_get_matches_from(line).and_then(|found| {
            match CommandLine::from_arg_matches(&found) {
                Ok(line) => Ok((line, words(&found))),
                Err(refusal) => Err(refusal.format(&mut definition())),
            }
        });
        let (CommandLine { command, global }, words) = match read {
            Ok(line) => line,
            // Help and version come here too; clap knows which stream and code each has.
            Err(refusal) => {
                // A closed stream leaves no reader to tell.
                let _ = refusal.print();
                return refusal.exit_code();
            }
        };
        let started = ranks::check(&words).map_err(anyhow::Error::from);
        let started =
            started.and_then(|()| global.choose_instructions()).and_then(|()| global.start_threads());
        let outcome = started.and_then(|()| command.run(&global));
        code(outcome)
    }))
}

/// All that a command line can say.
fn definition() -> Definition {
    help::arranged(layers::with_sources(CommandLine::command(), finetune::RECIPES))
}

/// The subcommand, such as `bench step`.
fn words(found: &ArgMatches) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut within = found.subcommand();
    while let Some((word, found)) = within {
        words.push(word);
        within = found.subcommand();
    }
    words.join(" ")
}

fn code(outcome: anyhow::Result<()>) -> i32 {
    outcome.map_or_else(|error| failure::report(&error), |()| 0)
}

/// `--learning_rate` is `--learning-rate`, as HF's scripts spell it.
fn kebab(word: OsString) -> OsString {
    match word.to_str().and_then(|word| word.strip_prefix("--")) {
        Some(flag) => {
            let (name, value) = flag.split_at(flag.find('=').unwrap_or(flag.len()));
            format!("--{}{value}", name.replace('_', "-")).into()
        }
        None => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn underscores_are_dashes_in_names_only() {
        assert_eq!(kebab("--learning_rate=a_b".into()), "--learning-rate=a_b");
        assert_eq!(kebab("--max_steps".into()), "--max-steps");
        assert_eq!(kebab("qmsum_slice".into()), "qmsum_slice");
    }

    #[test]
    fn every_subcommand_says_what_it_does() {
        for command in CommandLine::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
