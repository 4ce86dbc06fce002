//! The files of a figure, inside of links: nothing is fetched and nothing runs.

use crate::markup::{escape, push};
use crate::plot::{self, Plot};

/// Links to the numbers as CSV and to each panel as an SVG that stands alone.
pub fn links(id: &str, panels: &[(String, Plot)], csv: &str) -> String {
    let mut out = String::from("<p class=\"downloads\">Keep: ");
    push(&mut out, format_args!("<a download=\"{id}.csv\" href=\"{}\">CSV</a>", data("text/csv", csv)));
    for (i, (heading, plot)) in panels.iter().enumerate() {
        let name = if heading.is_empty() { String::new() } else { format!(" {}", escape(heading)) };
        let file = if panels.len() == 1 { id.to_string() } else { format!("{id}-{}", i + 1) };
        let alone = data("image/svg+xml", &plot::file(plot));
        push(&mut out, format_args!(" <a download=\"{file}.svg\" href=\"{alone}\">SVG{name}</a>"));
    }
    out.push_str("</p>");
    out
}

/// The link to one file.
pub fn link(file: &str, label: &str, kind: &str, text: &str) -> String {
    format!("<a download=\"{file}\" href=\"{}\">{label}</a>", data(kind, text))
}

fn data(kind: &str, text: &str) -> String {
    let mut out = format!("data:{kind};charset=utf-8,");
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'/'
            | b':'
            | b','
            | b';'
            | b'('
            | b')'
            | b'=' => out.push(byte as char),
            _ => push(&mut out, format_args!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_holds_any_text_and_ends_nowhere_before() {
        let text = "a,\"b\"\r\n<script>é&'#%";
        let data = data("text/csv", text);
        assert!(!data.contains(['"', '<', '>', '&', '\'', ' ', '#', '\n']));
        let encoded = data.strip_prefix("data:text/csv;charset=utf-8,").unwrap();
        let mut bytes = Vec::new();
        let mut rest = encoded.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            if first == b'%' {
                let hex = std::str::from_utf8(&after[..2]).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                rest = &after[2..];
            } else {
                bytes.push(first);
                rest = after;
            }
        }
        assert_eq!(String::from_utf8(bytes).unwrap(), text);
    }
}
