//! From an error or a panic to one line on stderr and an exit code.

use std::io::{self, ErrorKind, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;
use wattention::error::Error;

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
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn describe(panic: &PanicHookInfo) -> String {
    let payload = panic.payload();
    let what = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic");
    let at = panic.location().map_or(String::new(), |at| {
        format!(" ({}:{})", at.file(), at.line())
    });
    format!("{what}{at}; please report this with the command you ran")
}

/// One line on stderr, whatever the text holds.
fn say(text: &str) {
    // eprintln! would panic on a closed stderr.
    let _ = writeln!(io::stderr(), "{}", one_line(text));
}

/// Names from files may hold line breaks and terminal sequences.
fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '\n' => vec![' '],
            c if c.is_control() => c.escape_default().collect(),
            c => vec![c],
        })
        .collect()
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
        let failed = |kind| {
            let outcome: io::Result<()> = Err(kind.into());
            report(&outcome.context("standard output").unwrap_err())
        };
        assert_eq!(failed(ErrorKind::BrokenPipe), 0);
        assert_eq!(failed(ErrorKind::StorageFull), 74);
    }

    #[test]
    fn an_error_is_one_line_without_terminal_sequences() {
        assert_eq!(one_line("a\nb\u{1b}[2J"), "a b\\u{1b}[2J");
    }
}
