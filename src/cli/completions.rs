//! `completions`: what a shell completes, and manual pages.

use super::global::Global;
use super::output;
use crate::error::Error;
use crate::files;
use crate::settings::named;
use anyhow::Context;
use clap_complete::Shell;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;

/// Print completions for a shell, or write the manual pages
///
/// bash: wattention completions bash > ~/.local/share/bash-completion/completions/wattention
/// zsh: wattention completions zsh > DIR/_wattention, where DIR is on $fpath
/// fish: wattention completions fish > ~/.config/fish/completions/wattention.fish
/// PowerShell: wattention completions powershell >> $PROFILE
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The shell, or man for manual pages
    #[arg(value_name = "SHELL", value_parser = named::<Target>())]
    target: Target,

    /// The folder of the manual pages, such as ~/.local/share/man/man1
    #[arg(long, value_name = "DIR", required_if_eq("target", "man"))]
    output_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Target {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Man,
}

impl Target {
    fn shell(self) -> Option<Shell> {
        match self {
            Target::Bash => Some(Shell::Bash),
            Target::Zsh => Some(Shell::Zsh),
            Target::Fish => Some(Shell::Fish),
            Target::Powershell => Some(Shell::PowerShell),
            Target::Man => None,
        }
    }
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let mut command = super::definition();
    let name = command.get_name().to_string();
    match (args.target.shell(), args.output_dir) {
        (Some(_), Some(_)) => Err(Error::usage("--output-dir is for manual pages: completions man").into()),
        (Some(shell), None) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, name, &mut text);
            let text = String::from_utf8(text).context("the completions")?;
            match global.json {
                true => output::print(json!({ "shell": shell.to_string(), "completions": text })),
                // The last line ends with the text.
                false => output::print(text.trim_end()),
            }
        }
        (None, dir) => {
            let dir = dir.unwrap_or_default();
            files::create_dir(&dir)?;
            clap_mangen::generate_to(command, &dir).map_err(|e| Error::output(&dir, e))?;
            match global.json {
                true => output::print(json!({ "man": dir })),
                false => output::print(format_args!("man pages: {}", dir.display())),
            }
        }
    }
}
