//! `~` and `$NAME` in paths, as Python's `os.path.expanduser` and `expandvars` take them.

/// A path with its home folder, then its variables, put in; what is unknown stays as it is.
pub fn expand(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    variables(&user(path, variable), variable)
}

/// The home folder, by `HOME` or else by the user database.
pub fn home(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let home = variable("HOME").or_else(|| std::env::home_dir()?.into_os_string().into_string().ok())?;
    Some(home.trim_end_matches('/').to_string())
}

fn user(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let Some(rest) = path.strip_prefix('~') else {
        return path.to_string();
    };
    let (name, inside) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let found = match name {
        "" => home(variable),
        name => home_of(name),
    };
    match found.map(|home| home + inside) {
        Some(whole) if whole.is_empty() => "/".to_string(),
        Some(whole) => whole,
        None => path.to_string(),
    }
}

/// The sixth field of the user's line.
fn home_of(name: &str) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(5).map(|home| home.trim_end_matches('/').to_string())
}

/// `$NAME` and `${NAME}`; a value is not expanded again.
fn variables(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut done = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        let (name, length) = match after.strip_prefix('{') {
            Some(inside) => match inside.find('}') {
                Some(end) => (&inside[..end], end + 2),
                None => ("", 0),
            },
            None => {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !fits(c)).unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        done.push_str(&rest[..at]);
        match variable(name).filter(|_| !name.is_empty()) {
            Some(value) => done.push_str(&value),
            None => done.push_str(&rest[at..at + 1 + length]),
        }
        rest = &after[length..];
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each right side is what Python 3 makes of the left one with A=x and HOME=/home/ann.
    #[test]
    fn as_python_does() {
        let variable = |key: &str| match key {
            "A" => Some("x".to_string()),
            "HOME" => Some("/home/ann".to_string()),
            _ => None,
        };
        for (path, want) in [
            ("~", "/home/ann"),
            ("~/a", "/home/ann/a"),
            ("~nobodyx/c", "~nobodyx/c"),
            ("$A/b", "x/b"),
            ("${A}/b", "x/b"),
            ("$B/c", "$B/c"),
            ("${B}", "${B}"),
            ("a$", "a$"),
            ("$$A", "$x"),
            ("${A", "${A"),
            // The user of this name is looked up before the variable is put in.
            ("~$A", "~x"),
            ("a~", "a~"),
            ("$Ab/${A}c", "$Ab/xc"),
            ("", ""),
        ] {
            assert_eq!(expand(path, &variable), want, "{path}");
        }
        assert!(!expand("~root/b", &variable).starts_with('~'));
    }
}
