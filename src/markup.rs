//! Text made safe for HTML, SVG and terminals.

use std::fmt::Write;

/// Appends formatted text; writing to a string cannot fail.
pub fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(args);
}

/// Text made safe between tags and inside quoted attributes of HTML and SVG.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(printable(c)),
        }
    }
    out
}

/// Text safe to print in a terminal: control characters, which could move its cursor, are replaced.
pub fn plain(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// Control characters and the marks that turn the direction of text stand as the replacement character.
fn printable(c: char) -> char {
    match c {
        '\t' | '\n' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_leave_its_place() {
        assert_eq!(
            escape("<script>alert('1')</script>\"&\u{0}\u{202e}"),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}\u{fffd}"
        );
        assert_eq!(plain("\u{1b}[2Jled\n"), "\u{fffd}[2Jled ");
    }
}
