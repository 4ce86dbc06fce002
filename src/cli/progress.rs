//! How far a long job is, on stderr: a bar on a terminal, a line now and then elsewhere.

use super::global::Global;
use crate::units::counted;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(5);

/// A job of a known number of steps.
pub struct Progress(Shown);

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines(Lines),
}

struct Lines {
    label: String,
    total: u64,
    done: u64,
    started: Instant,
    last: Instant,
}

impl Progress {
    /// Starts the clock of `total` steps; shows nothing when quiet, and on a rank beside the first.
    pub fn new(global: &Global, total: u64, label: &str) -> Self {
        if global.quiet || global.follows {
            return Progress(Shown::Nothing);
        }
        if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template = "{prefix} {wide_bar} {pos}/{len}, {rate}, about {eta} left {msg}";
            // The template is a constant; should it ever be refused, the default bar serves.
            if let Ok(style) = ProgressStyle::with_template(template) {
                let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                    let _ = write!(out, "{:.1}/s", state.per_sec());
                };
                bar.set_style(style.with_key("rate", rate));
            }
            bar.set_prefix(label.to_string());
            return Progress(Shown::Bar(bar));
        }
        let now = Instant::now();
        Progress(Shown::Lines(Lines { label: label.to_string(), total, done: 0, started: now, last: now }))
    }

    /// `n` more steps are done; `message` is what changes, such as the loss.
    pub fn step(&mut self, n: u64, message: impl Display) {
        match &mut self.0 {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.set_message(message.to_string());
                bar.inc(n);
            }
            Shown::Lines(lines) => {
                lines.done += n;
                if lines.last.elapsed() >= INTERVAL {
                    lines.last = Instant::now();
                    say(lines.text(lines.started.elapsed(), &message.to_string()));
                }
            }
        }
    }

    /// Ends the job with a line about all of it.
    pub fn finish(self, summary: impl Display) {
        match self.0 {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.finish_and_clear();
                say(summary);
            }
            Shown::Lines(_) => say(summary),
        }
    }
}

impl Lines {
    fn text(&self, elapsed: Duration, message: &str) -> String {
        let Lines { label, done, total, .. } = self;
        let rate = *done as f64 / elapsed.as_secs_f64();
        let left = total.saturating_sub(*done) as f64 / rate;
        // A rate of zero leaves forever, which is no duration.
        let left = Duration::try_from_secs_f64(left)
            .map_or(String::new(), |left| format!(", about {} left", HumanDuration(left)));
        let message = match message {
            "" => String::new(),
            message => format!(", {message}"),
        };
        format!("{label}: {done} of {total}, {rate:.1}/s{left}{message}")
    }
}

fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Shows how many examples are predicted and scored.
pub struct Scoring {
    progress: Progress,
    done: usize,
}

impl Scoring {
    pub fn new(global: &Global, examples: usize) -> Self {
        Scoring { progress: Progress::new(global, examples as u64, "evaluation"), done: 0 }
    }

    /// `done` examples so far.
    pub fn done(&mut self, done: usize) {
        self.progress.step((done - self.done) as u64, "");
        self.done = done;
    }

    pub fn finish(self) {
        self.progress.finish(format_args!("evaluation: {}", counted(self.done, "example")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(done: u64) -> Lines {
        let now = Instant::now();
        Lines { label: "training".into(), total: 120, done, started: now, last: now }
    }

    #[test]
    fn a_line_has_rate_remaining_time_and_message() {
        let text = lines(20).text(Duration::from_secs(10), "loss 2.5");
        assert_eq!(text, "training: 20 of 120, 2.0/s, about 50 seconds left, loss 2.5");
    }

    #[test]
    fn no_step_yet_is_no_estimate() {
        let text = lines(0).text(Duration::from_secs(10), "");
        assert_eq!(text, "training: 0 of 120, 0.0/s");
    }
}
