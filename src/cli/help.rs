//! The first page of help, with the commands grouped by the job, and what `--version` says.

use super::machine;
use crate::device::cuda;
use crate::device::cuda::kernels::NVCC;
use clap::Command;
use std::fmt::Write;
use std::sync::OnceLock;

/// Each job and its commands; a command that is in none is refused by a test.
const JOBS: [(&str, &[&str]); 5] = [
    ("Choose a model and an input length", &["study", "plan"]),
    ("Train and use models", &["finetune", "evaluate", "generate", "forward"]),
    ("Measure", &["bench", "profile", "doctor"]),
    ("Models and data", &["convert", "data"]),
    ("This program", &["completions", "help"]),
];

/// `command` with its subcommands under the headings of their jobs, and the long form of its version.
pub fn arranged(command: Command) -> Command {
    let mut page = "{about-with-newline}\n{usage-heading} {usage}\n".to_string();
    for (job, names) in JOBS {
        let _ = write!(page, "\n\x1b[1m\x1b[4m{job}:\x1b[0m\n");
        for name in names {
            let found = command.find_subcommand(name).and_then(Command::get_about);
            let about = found.map_or("Print this page, or the help of a command".into(), ToString::to_string);
            let _ = writeln!(page, "  \x1b[1m{name:<12}\x1b[0m {about}");
        }
    }
    page.push_str("\n{options}");
    command.help_template(page).long_version(version())
}

/// The version, the commit, and the code that this program has for GPUs and uses of the processor.
fn version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let kernels = match NVCC {
            Some(nvcc) => format!("by nvcc {nvcc} for {}", cuda::compiled()),
            None => "none for GPUs: built without nvcc".into(),
        };
        let simulator = if cfg!(wattention_sim) { "included" } else { "none: built without a C++ compiler" };
        format!(
            "{}\ncommit     {}\ntarget     {}, {}\nprocessor  {}\nkernels    {kernels}\nsimulator  {simulator}",
            env!("CARGO_PKG_VERSION"),
            env!("WATTENTION_COMMIT"),
            env!("WATTENTION_TARGET"),
            env!("WATTENTION_PROFILE"),
            machine::instructions(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::definition;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_command_has_one_job() {
        let listed: Vec<&str> = JOBS.iter().flat_map(|(_, names)| *names).copied().collect();
        let once: BTreeSet<&str> = listed.iter().copied().collect();
        assert_eq!(listed.len(), once.len());
        let command = definition();
        let mut there: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
        there.insert("help");
        assert_eq!(once, there);
    }
}
