//! The flags that every command takes, and what they decide.

use super::output;
use crate::collective::Launch;
use crate::device::cpu::features;
use crate::device::{Device, Precision, cuda};
use crate::error::Error;
use crate::settings::named;
use clap::{ArgAction, Args, value_parser};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where to compute: cpu, cuda, cuda:N, sim or plan [default: cuda where one is usable, else cpu]
    #[arg(long, global = true, value_name = "DEVICE", value_parser = device_name)]
    pub device: Option<String>,

    /// Number format of weights and activations
    #[arg(long, global = true, value_name = "FORMAT", default_value = "fp32", value_parser = named::<Precision>())]
    pub precision: Precision,

    /// Seed of all random numbers
    #[arg(long, global = true, value_name = "N", default_value_t = 42, allow_negative_numbers = true)]
    pub seed: u64,

    /// Threads to compute with [default: all cores]
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true, value_parser = value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Instructions of the processor to do without (-avx512, -amx) or to use though they are slower (+avx512-bf16), as
    /// doctor lists them [default: what WATTENTION_CPU_FEATURES says]
    #[arg(long, global = true, value_name = "-NAME,..", allow_hyphen_values = true)]
    pub cpu_features: Option<String>,

    /// Print exactly one JSON object on stdout
    #[arg(long, global = true)]
    pub json: bool,

    /// Print results, warnings and errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Print more about what is done
    #[arg(short, long, global = true, action = ArgAction::SetTrue, conflicts_with = "quiet")]
    pub verbose: bool,

    /// A rank beside the first, which speaks for it: only its errors are said.
    #[arg(skip)]
    pub follows: bool,
}

fn device_name(text: &str) -> Result<String, String> {
    let numbered = |n: &str| n.parse::<u16>().is_ok();
    let known = matches!(text, "auto" | "cpu" | "cuda" | "sim" | "plan")
        || text.strip_prefix("cuda:").is_some_and(numbered);
    match known {
        true => Ok(text.to_string()),
        false => Err("the devices are cpu, cuda, cuda:N, sim and plan".into()),
    }
}

impl Global {
    /// Chooses the instructions of the CPU executor, which nothing has used yet.
    pub fn choose_instructions(&self) -> anyhow::Result<()> {
        for (feature, why) in features::choose(self.cpu_features.as_deref())? {
            self.warn(format_args!("+{feature} changes nothing: {why}"));
        }
        Ok(())
    }

    /// Sizes the thread pool of the CPU executor and the tokenizer.
    pub fn start_threads(&self) -> anyhow::Result<()> {
        // This thread is one of them: were it to wait for them instead, every small product would wake two threads.
        let pool = rayon::ThreadPoolBuilder::new().use_current_thread();
        let threads = self.threads.map_or_else(threads_of_rank, usize::from);
        pool.num_threads(threads).build_global().map_err(|e| {
            let what = format!("cannot start {threads} threads: {e}; ask for fewer");
            Error::DoesNotFit(what).into()
        })
    }

    /// Opens the device asked for, and says which one was chosen when none was.
    pub fn open_device(&self) -> anyhow::Result<Device> {
        match self.device.as_deref() {
            None | Some("auto") => {
                let (device, why) = Device::auto(self.precision)?;
                self.note(format_args!("device: {}", device.name()));
                if let Some(why) = why {
                    let text = format!("cuda is not used: {why}");
                    // Most machines have no GPU; where there is one, its user expects it.
                    let expected = cuda::start().and_then(|_| cuda::gpus()).is_ok();
                    if expected { self.note(text) } else { self.detail(text) }
                }
                Ok(device)
            }
            Some(name) => Ok(Device::open(name, self.precision)?),
        }
    }

    /// A line about the work on stderr, unless quiet.
    pub fn note(&self, text: impl Display) {
        if !self.quiet && !self.follows {
            say(text);
        }
    }

    /// A line on stderr for those who asked for more.
    pub fn detail(&self, text: impl Display) {
        if self.verbose && !self.follows {
            say(text);
        }
    }

    /// A line on stderr about something that is probably not meant.
    pub fn warn(&self, text: impl Display) {
        if !self.follows {
            say(format_args!("warning: {text}"));
        }
    }

    /// The result on stdout: `report` as one JSON object, or `text` for people.
    pub fn print(&self, report: &impl Serialize, text: impl Display) -> anyhow::Result<()> {
        if self.follows {
            return Ok(());
        }
        if !self.json {
            return output::print(text);
        }
        let json = serde_json::to_string(report)
            .map_err(|e| Error::internal(format!("a result is not JSON: {e}")))?;
        output::print(json)
    }
}

/// The threads of a rank that shares its machine with others; 0, all cores, of any other process.
fn threads_of_rank() -> usize {
    match Launch::read() {
        Ok(launch) if launch.local_size > 1 => {
            launch.threads(available_parallelism().map_or(1, NonZeroUsize::get))
        }
        _ => 0,
    }
}

fn say(text: impl Display) {
    // eprintln! would panic on a closed stderr.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_checked_before_any_work() {
        for name in ["auto", "cpu", "cuda", "cuda:0", "cuda:7", "sim", "plan"] {
            assert_eq!(device_name(name).unwrap(), name);
        }
        for name in ["", "CPU", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0"] {
            assert!(device_name(name).is_err(), "{name}");
        }
    }
}
