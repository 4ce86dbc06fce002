//! All settings as a file that reads back to the same ones.

use super::ALTERNATIVES;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use std::any::TypeId;
use std::collections::HashMap;

/// What names the layers, and how the program talks: no settings of a run.
const LEFT_OUT: [&str; 8] =
    ["config", "recipe", "print_config", "json", "quiet", "verbose", "help", "version"];

/// TOML with the origin of each value; what has none and no default is left out.
pub(super) fn text(arguments: &[Arg], found: &ArgMatches, origins: &HashMap<String, String>) -> String {
    let mut rows: Vec<(Option<&str>, String, &str)> = Vec::new();
    for arg in arguments {
        let id = arg.get_id().as_str();
        // A default beside the alternative that was chosen says nothing, and together they may be refused.
        let outdone = !origins.contains_key(id)
            && ALTERNATIVES
                .iter()
                .any(|row| row.contains(&id) && row.iter().any(|id| origins.contains_key(*id)));
        if LEFT_OUT.contains(&id) || found.value_source(id).is_none() || outdone {
            continue;
        }
        let Some(raw) = found.get_raw(id) else { continue };
        let raw = raw.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",");
        let value = match arg.get_action().takes_values() {
            true => in_toml(&raw, arg.get_value_parser().type_id() == TypeId::of::<f64>()),
            false => found.get_flag(id).to_string(),
        };
        let origin = match (found.value_source(id), origins.get(id)) {
            (Some(ValueSource::DefaultValue), _) | (_, None) => "default",
            (_, Some(origin)) => origin,
        };
        rows.push((arg.get_help_heading(), format!("{} = {value}", id_as_key(arg)), origin));
    }
    let width = rows.iter().map(|(_, row, _)| row.chars().count()).max().unwrap_or(0);
    let mut text = String::from("# Settings of `wattention finetune`, to be read with --config\n");
    let mut last = None;
    for (heading, row, origin) in rows {
        if last != Some(heading) {
            last = Some(heading);
            text += &format!("\n# {}\n", heading.unwrap_or("Run"));
        }
        text += &format!("{row:<width$}  # {origin}\n");
    }
    text.trim_end().to_string()
}

fn id_as_key(arg: &Arg) -> String {
    arg.get_long().unwrap_or_else(|| arg.get_id().as_str()).replace('-', "_")
}

/// Numbers as TOML has them, all else as strings.
fn in_toml(raw: &str, is_float: bool) -> String {
    let string = || toml::Value::String(raw.to_string()).to_string();
    match (is_float, raw.parse::<f64>(), raw.parse::<i64>()) {
        // As short as it reads back to the same number.
        (true, Ok(x), _) if x.is_finite() => format!("{x:?}"),
        (false, _, Ok(n)) if n.to_string() == raw => raw.to_string(),
        _ => string(),
    }
}

#[cfg(test)]
mod tests {
    use super::in_toml;

    #[test]
    fn values_read_back_as_they_were() {
        for (raw, is_float, want) in [
            ("0.00005", true, "5e-5"),
            ("1", true, "1.0"),
            (".5", true, "0.5"),
            ("nan", true, "\"nan\""),
            ("42", false, "42"),
            ("007", false, "\"007\""),
            ("18446744073709551615", false, "\"18446744073709551615\""),
            ("a \"b\"", false, "'a \"b\"'"),
        ] {
            let text = in_toml(raw, is_float);
            assert_eq!(text, want);
            let table: toml::Table = format!("v = {text}").parse().unwrap();
            let read = match &table["v"] {
                toml::Value::String(text) => text.clone(),
                number => number.to_string(),
            };
            match is_float {
                true if raw != "nan" => assert_eq!(read.parse::<f64>(), raw.parse()),
                _ => assert_eq!(read, raw),
            }
        }
    }
}
