//! What the program is built without: a warning that says why, so that a compiler's refusal never ends a user's build.

use std::env;

/// Whether warnings of the compilers, and what they refuse, end the build: in the project's own check.
pub fn is_strict() -> bool {
    println!("cargo::rerun-if-env-changed=WATTENTION_STRICT");
    env::var("WATTENTION_STRICT").is_ok_and(|value| value == "1")
}

/// Why a part of the program is missing.
pub enum Missing {
    /// There is no compiler for it, which the check allows, too.
    Absent(String),
    /// Its compiler refuses a file.
    Refused(String),
}

/// Says that the program is built without `part`, and why in one line, which it returns.
pub fn without(part: &str, why: &Missing, remedy: &str) -> String {
    let (kind, why) = match why {
        Missing::Refused(why) if is_strict() => ("error", why),
        Missing::Absent(why) | Missing::Refused(why) => ("warning", why),
    };
    let why = first_error(why);
    println!("cargo::{kind}=built without {part}: {why}. {remedy}");
    why
}

/// A compiler's first error, or the first line where it names none.
pub fn first_error(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.clone().next().unwrap_or("no reason was given");
    match lines.find(|line| line.contains("error")) {
        Some(error) if error != first => format!("{} {error}", first.trim_end_matches('.')),
        _ => first.to_string(),
    }
}

/// Passes on what a compiler said of a file that it did compile.
pub fn warn(file: &str, said: &str) {
    let kind = if is_strict() { "error" } else { "warning" };
    for line in said.lines().filter(|line| line.contains("warning")) {
        println!("cargo::{kind}={file}: {line}");
    }
}
