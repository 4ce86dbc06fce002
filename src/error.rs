//! The one error type: what went wrong, where, and what to do about it.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure a caller can meet. Messages name the thing and end with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request that contradicts itself or the model.
    #[error("{0}")]
    Usage(String),

    /// A file or a record whose content is wrong.
    #[error("{at}: {what}")]
    Data { at: String, what: String },

    /// A file or directory that is not there or cannot be read.
    #[error("{}: {what}", path.display())]
    Missing { path: PathBuf, what: String },

    /// A file or directory that cannot be written.
    #[error("cannot write {}: {what}", path.display())]
    Output { path: PathBuf, what: String },

    /// The device asked for is not usable here.
    #[error("{0}")]
    Device(String),

    /// The work needs more memory than there is.
    #[error("{0}")]
    DoesNotFit(String),

    /// Shapes or element types an op cannot combine.
    #[error("{op}: expected {expected}, got {got}")]
    Shape { op: &'static str, expected: String, got: String },

    /// A tensor that needs a gradient reached an op that has none.
    #[error("{op} has no gradient ({reason}), but its input needs one")]
    NoGradient { op: &'static str, reason: &'static str },

    /// An invariant of this program was broken; a defect to report.
    #[error("internal error: {0}; please report this with the command you ran")]
    Internal(String),

    /// A benchmark that took longer than the one it is compared with.
    #[error("{0}")]
    Slower(String),

    /// Stopped by a signal.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
}

impl Error {
    pub fn usage(what: impl Into<String>) -> Self {
        Error::Usage(what.into())
    }

    pub fn data(at: impl std::fmt::Display, what: impl Into<String>) -> Self {
        Error::Data { at: at.to_string(), what: what.into() }
    }

    pub fn missing(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Error::Missing { path: path.as_ref().to_path_buf(), what: what.into() }
    }

    pub fn output(path: impl AsRef<Path>, what: impl ToString) -> Self {
        Error::Output { path: path.as_ref().to_path_buf(), what: what.to_string() }
    }

    pub fn shape(op: &'static str, expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Self {
        Error::Shape { op, expected: expected.to_string(), got: got.to_string() }
    }

    pub fn internal(what: impl Into<String>) -> Self {
        Error::Internal(what.into())
    }

    /// A failed read: the file is absent (66), or it is present and unreadable (65).
    pub fn read(path: impl AsRef<Path>, source: &std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::InvalidData => Error::data(path.as_ref().display(), source.to_string()),
            _ => Error::missing(path, source.to_string()),
        }
    }

    /// The process exit code, after sysexits.h where it has one.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Slower(_) => 1,
            Error::Usage(_) => 2,
            Error::Data { .. } => 65,
            Error::Missing { .. } => 66,
            Error::Device(_) => 69,
            Error::Shape { .. } | Error::NoGradient { .. } | Error::Internal(_) => 70,
            Error::Output { .. } => 74,
            Error::DoesNotFit(_) => 75,
            Error::Interrupted(signal) => 128 + signal,
        }
    }
}

thread_local! {
    static EXPECTING_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of a crate that panics where it should fail; the panic's message, which is not printed, is the error.
pub fn guarded<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !EXPECTING_PANIC.get() {
                default(panic);
            }
        }));
    });
    let before = EXPECTING_PANIC.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    EXPECTING_PANIC.set(before);
    outcome.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_is_an_error() {
        let outcome: std::result::Result<(), String> = guarded(|| panic!("{} on purpose", 1));
        assert_eq!(outcome, Err("1 on purpose".into()));
        assert!(!EXPECTING_PANIC.get());
        assert_eq!(guarded(|| 2), Ok(2));
    }
}
