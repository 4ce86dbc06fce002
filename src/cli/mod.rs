//! The command line: one file per subcommand, each with an `Args` and a `run`.

mod bench;
mod data;
mod failure;
mod forward;
mod global;
mod output;
mod progress;
mod study;

use clap::{Parser, Subcommand};
use global::Global;
use std::process::ExitCode;

/// Fine-tunes and runs LED and BigBird-Pegasus, and knows what every phase of it costs.
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
            $($variant($file::Args)),*
        }

        impl Command {
            fn run(self, global: &Global) -> anyhow::Result<()> {
                match self {
                    $(Command::$variant(args) => $file::run(args, global)),*
                }
            }
        }
    };
}

subcommands! {
    Bench => bench,
    Data => data,
    Forward => forward,
    Study => study,
}

/// Runs the process's command line and gives its exit code.
pub fn main() -> ExitCode {
    failure::install_panic_hook();
    ExitCode::from(failure::guard(|| {
        let CommandLine { command, global } = match CommandLine::try_parse() {
            Ok(line) => line,
            // Help and version come here too; clap knows which stream and code each has.
            Err(refusal) => {
                // A closed stream leaves nobody to tell.
                let _ = refusal.print();
                return refusal.exit_code();
            }
        };
        let outcome = global.start_threads().and_then(|()| command.run(&global));
        outcome.map_or_else(|error| failure::report(&error), |()| 0)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_subcommand_says_what_it_does() {
        for command in CommandLine::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
