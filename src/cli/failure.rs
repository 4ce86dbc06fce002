//! From an error or a panic to one line on stderr and an exit code.

use crate::error::Error;
use std::io::{self, ErrorKind, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// A defect of this program (sysexits `EX_SOFTWARE`).
const DEFECT: i32 = 70;

/// Standard output failed (sysexits `EX_IOERR`).
const OUTPUT_FAILED: i32 = 74;

/// Makes a panic on any thread print one line to report instead of a backtrace.
pub fn install_panic_hook() {
    // The tokenizers guard of the library wraps this hook, so panics it expects do not arrive here.
    panic::set_hook(Box::new(|panic| {
        // Workers can fail together; the first says it all.
        static REPORTED: Once = Once::new();
        REPORTED.call_once(|| say(&format!("internal error: {}", describe(panic))));
    }));
}

/// Runs `work` and gives its exit code, or that of a defect when it panics.
pub fn guard(work: impl FnOnce() -> i32) -> u8 {
    let code = panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or(DEFECT);
    u8::try_from(code).unwrap_or(DEFECT as u8)
}

/// Prints an error with its causes and gives the exit code.
pub fn report(error: &anyhow::Error) -> i32 {
    if is_closed_pipe(error) {
        return 0;
    }
    say(&format!("error: {error:#}"));
    if let Some(error) = error.downcast_ref::<Error>() {
        return error.exit_code();
    }
    match error.downcast_ref::<io::Error>() {
        Some(_) => OUTPUT_FAILED,
        None => DEFECT,
    }
}

/// Whether stdout's reader has left, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn describe(panic: &PanicHookInfo) -> String {
    let payload = panic.payload();
    let what = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic");
    let at = panic.location().map_or(String::new(), |at| format!(" ({}:{})", at.file(), at.line()));
    format!("{what}{at}; please report this with the command you ran")
}

/// Text on stderr, whatever it holds.
fn say(text: &str) {
    // eprintln! would panic on a closed stderr.
    let _ = writeln!(io::stderr(), "{}", printable(text));
}

/// Names from files may hold line breaks and terminal sequences; only indented lists go over several lines.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            shown.push(if line.starts_with("  ") { '\n' } else { ' ' });
        }
        for c in line.chars() {
            match c.is_control() {
                true => shown.extend(c.escape_default()),
                false => shown.push(c),
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_panic_becomes_exit_code_70() {
        assert_eq!(guard(|| panic!("on purpose")), 70);
        assert_eq!(guard(|| 65), 65);
    }

    #[test]
    fn context_does_not_hide_the_exit_code() {
        let error: Result<(), Error> = Err(Error::data("input_ids", "is empty"));
        let error = error.context("in.safetensors").unwrap_err();
        assert_eq!(format!("{error:#}"), "in.safetensors: input_ids: is empty");
        assert_eq!(report(&error), 65);
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        let failed = |kind: ErrorKind| {
            let outcome: io::Result<()> = Err(kind.into());
            report(&outcome.context("standard output").unwrap_err())
        };
        assert_eq!(failed(ErrorKind::BrokenPipe), 0);
        assert_eq!(failed(ErrorKind::StorageFull), 74);
    }

    #[test]
    fn names_cannot_break_lines_or_drive_the_terminal() {
        assert_eq!(printable("a\nb\u{1b}[2J"), "a b\\u{1b}[2J");
        assert_eq!(printable("two:\n  one\n  other"), "two:\n  one\n  other");
    }
}
