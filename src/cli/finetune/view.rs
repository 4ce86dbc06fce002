//! How training goes, on stderr: live on a terminal, a line now and then elsewhere.

use super::super::global::Global;
use crate::train::StepReport;
use crate::units::Bytes;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(5);

/// Weight of the past in the loss that is shown.
const SMOOTHING: f64 = 0.9;

pub struct View {
    shown: Shown,
    meter: Meter,
}

enum Shown {
    Nothing,
    Live(ProgressBar),
    Lines(Instant),
}

/// What is known of the run so far.
struct Meter {
    started: Instant,
    /// Steps that were done before this process.
    from: u64,
    step: u64,
    total: u64,
    samples: u64,
    tokens: u64,
    /// The smoothed loss as a weighted sum and the weights' sum.
    loss: [f64; 2],
    last: Option<StepReport>,
    eval_loss: Option<f64>,
    planned: Bytes,
}

impl View {
    /// Shows steps `from` to `total`; nothing when quiet, and on a rank beside the first.
    pub fn new(global: &Global, from: u64, total: u64, planned: Bytes, eval_loss: Option<f64>) -> Self {
        let started = Instant::now();
        let shown = match (global.quiet || global.follows, io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Live(bar(from, total)),
            (false, false) => Shown::Lines(started),
        };
        let meter = Meter {
            started,
            from,
            step: from,
            total,
            samples: 0,
            tokens: 0,
            loss: [0.0; 2],
            last: None,
            eval_loss,
            planned,
        };
        View { shown, meter }
    }

    /// A step is done; it took `samples` examples of `tokens` tokens.
    pub fn step(&mut self, step: u64, report: StepReport, samples: u64, tokens: u64) {
        self.meter.add(step, report, samples, tokens);
        self.show();
    }

    /// A step is done that changed nothing.
    pub fn skipped(&mut self, step: u64) {
        self.meter.step = step;
        self.show();
    }

    pub fn evaluated(&mut self, eval_loss: f64) {
        self.meter.eval_loss = Some(eval_loss);
        self.show();
    }

    /// Writes something else to stderr.
    pub fn aside(&self, write: impl FnOnce()) {
        match &self.shown {
            Shown::Live(bar) => bar.suspend(write),
            _ => write(),
        }
    }

    /// Ends with a line about all of it.
    pub fn finish(self, summary: impl Display) {
        if let Shown::Live(bar) = &self.shown {
            bar.finish_and_clear();
        }
        if !matches!(self.shown, Shown::Nothing) {
            say(summary);
        }
    }

    fn show(&mut self) {
        let elapsed = self.meter.started.elapsed();
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Live(bar) => {
                bar.set_prefix(self.meter.place(elapsed));
                bar.set_message(self.meter.numbers(elapsed).join("\n"));
                bar.set_position(self.meter.step);
            }
            Shown::Lines(last) => {
                if last.elapsed() >= INTERVAL {
                    *last = Instant::now();
                    let numbers = self.meter.numbers(elapsed).join(", ");
                    say(format_args!("{}: {numbers}", self.meter.place(elapsed)));
                }
            }
        }
    }
}

fn bar(from: u64, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    // The template is a constant; should it ever be refused, the default bar serves.
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar}\n{msg}") {
        bar.set_style(style);
    }
    bar.set_position(from);
    bar
}

impl Meter {
    fn add(&mut self, step: u64, report: StepReport, samples: u64, tokens: u64) {
        self.step = step;
        self.samples += samples;
        self.tokens += tokens;
        // Divided by the weights' sum, the first losses are not drawn to 0.
        let [sum, weight] = self.loss;
        let (past, new) = (SMOOTHING, 1.0 - SMOOTHING);
        self.loss = [past * sum + new * f64::from(report.loss), past * weight + new];
        self.last = Some(report);
    }

    /// Step, and time left.
    fn place(&self, elapsed: Duration) -> String {
        let Meter { from, step, total, .. } = self;
        let per_step = elapsed.as_secs_f64() / (step - from) as f64;
        let left = Duration::try_from_secs_f64(per_step * total.saturating_sub(*step) as f64);
        // Before the first step it is not known.
        let left = left.map_or(String::new(), |left| format!(", about {} left", HumanDuration(left)));
        format!("step {step} of {total}{left}")
    }

    /// How it learns, and how fast: lines that fit a narrow terminal.
    fn numbers(&self, elapsed: Duration) -> Vec<String> {
        let mut learning = Vec::new();
        if let Some(StepReport { grad_norm, learning_rate, .. }) = self.last {
            let [sum, weight] = self.loss;
            learning.push(format!("loss {:.4}", sum / weight));
            learning.push(format!("learning rate {learning_rate:.2e}"));
            learning.push(format!("gradient norm {grad_norm:.3}"));
        }
        if let Some(loss) = self.eval_loss {
            learning.push(format!("eval loss {loss:.4}"));
        }
        let [samples, tokens] = [self.samples, self.tokens].map(|n| short(n as f64 / elapsed.as_secs_f64()));
        let speed = format!("{samples} samples/s, {tokens} tokens/s, {} planned", self.planned);
        let lines = [learning.join(", "), speed];
        lines.into_iter().filter(|line| !line.is_empty()).collect()
    }
}

/// A rate in three or four figures.
fn short(rate: f64) -> String {
    match rate {
        rate if rate < 10.0 => format!("{rate:.2}"),
        rate if rate < 1e3 => format!("{rate:.1}"),
        rate if rate < 1e6 => format!("{:.1}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

fn say(text: impl Display) {
    // eprintln! would panic on a closed stderr.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter {
        Meter {
            started: Instant::now(),
            from: 100,
            step: 100,
            total: 160,
            samples: 0,
            tokens: 0,
            loss: [0.0; 2],
            last: None,
            eval_loss: None,
            planned: Bytes(3 << 30),
        }
    }

    #[test]
    fn rates_and_time_left_count_this_process_only() {
        let mut meter = meter();
        for step in 101..=120 {
            let report = StepReport { loss: 2.0, grad_norm: 1.25, learning_rate: 3e-5 };
            meter.add(step, report, 4, 6000);
        }
        meter.eval_loss = Some(1.5);
        let elapsed = Duration::from_secs(10);
        assert_eq!(meter.place(elapsed), "step 120 of 160, about 20 seconds left");
        let numbers = [
            "loss 2.0000, learning rate 3.00e-5, gradient norm 1.250, eval loss 1.5000",
            "8.00 samples/s, 12.0k tokens/s, 3.00 GiB planned",
        ];
        assert_eq!(meter.numbers(elapsed), numbers);
    }

    #[test]
    fn the_loss_is_smoothed_without_a_start_at_zero() {
        let mut meter = meter();
        let shown = |meter: &Meter| {
            let learning = meter.numbers(Duration::from_secs(1)).swap_remove(0);
            learning.split(',').next().map(str::to_string)
        };
        let report = |loss: f32| StepReport { loss, grad_norm: 1.0, learning_rate: 1.0 };
        meter.add(101, report(4.0), 1, 1);
        assert_eq!(shown(&meter).unwrap(), "loss 4.0000");
        // (0.9 x 0.1 x 4 + 0.1 x 2) / (0.9 x 0.1 + 0.1)
        meter.add(102, report(2.0), 1, 1);
        assert_eq!(shown(&meter).unwrap(), "loss 2.9474");
    }

    #[test]
    fn no_step_yet_is_no_estimate() {
        assert_eq!(meter().place(Duration::from_secs(10)), "step 100 of 160");
        let speed = "0.00 samples/s, 0.00 tokens/s, 3.00 GiB planned";
        assert_eq!(meter().numbers(Duration::from_secs(10)), [speed]);
    }
}
