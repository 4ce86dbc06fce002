//! The study's report: one HTML file that needs nothing but itself.

mod doubling;
mod figures;
mod left_out;
mod long_input;
mod precisions;
mod statements;
mod summary;
mod tables;

use super::results::{Cell, Results, Varying};
use crate::error::Result;
use crate::markup::{escape, push};
use crate::nn::Weights;
use crate::units::integer;
use std::path::Path;

const STYLE: &str = include_str!("report/style.css");
const SCRIPT: &str = include_str!("report/script.js");
/// SHA-256 of the script in base64, by which the page allows it and no other.
const SCRIPT_HASH: &str = "/7rQORQ6puQlaBuleXXaWcmMC0d+h7LhCo1a3Vlzjkk=";

/// Writes `report.html`, whole or not at all.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    crate::files::write_text(path, &html(results))
}

/// The first `count` sentences of the page's summary.
pub fn sentences(results: &Results, count: usize) -> Vec<String> {
    summary::sentences(&Study::of(&results.cells), count)
}

/// The whole page. Every text of the results is escaped, and the page may load nothing.
pub fn html(results: &Results) -> String {
    let study = Study::of(&results.cells);
    let title = match results.title.trim() {
        "" => "Study",
        title => title,
    };
    let title = escape(title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         img-src data:; script-src 'sha256-{SCRIPT_HASH}'\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#summary\">Skip to the summary</a>\n<header>\n<p class=\"kicker\">Accuracy, time, memory and energy by input length</p>\n\
         <h1>{title}</h1>\n<p class=\"scope\">{}</p>\n",
        escape(&scope(&study))
    );
    let unfinished = match results.failed.is_empty() && results.left.is_empty() {
        true => "",
        false => "<a href=\"#unfinished\">Not finished</a>",
    };
    push(
        &mut out,
        format_args!(
            "<nav aria-label=\"Sections\"><a href=\"#summary\">Summary</a><a href=\"#figures\">Figures</a>\
         <a href=\"#cells\">All numbers</a>{}<a href=\"#environment\">Environment</a></nav>\n</header>\n<main>\n",
            unfinished
        ),
    );
    out.push_str(&summary::section(&study));
    out.push_str(&figures::section(&study));
    out.push_str(&tables::section(&study));
    out.push_str(&unfinished_cells(results));
    out.push_str(&environment(results));
    push(
        &mut out,
        format_args!(
            "</main>\n<footer><p>Written by wattention {}. The same numbers, unrounded, are in results.csv and \
             results.json beside this file, and as tables for documents in results.md and results.tex.</p></footer>\n\
             <script>{SCRIPT}</script>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        ),
    );
    out
}

/// The cells, and how to tell them apart: every section names series and tasks alike.
struct Study<'a> {
    cells: &'a [Cell],
    varying: Varying,
    /// Datasets (and protocols, where they differ) in the order of the cells.
    tasks: Vec<String>,
    /// Models (and settings that differ) in the order of the cells; the index is the plot style.
    series: Vec<String>,
}

impl<'a> Study<'a> {
    fn of(cells: &'a [Cell]) -> Self {
        let varying = Varying::of(cells);
        Study {
            cells,
            varying,
            tasks: distinct(cells.iter().map(|cell| varying.task(cell))),
            series: distinct(cells.iter().map(|cell| varying.series(cell))),
        }
    }

    /// The cells of one task and series, by input length.
    fn run(&self, task: &str, series: &str) -> Vec<&'a Cell> {
        let of_run = |cell: &&Cell| self.varying.task(cell) == task && self.varying.series(cell) == series;
        let mut cells: Vec<_> = self.cells.iter().filter(of_run).collect();
        cells.sort_by_key(|cell| cell.max_source_length);
        cells
    }

    fn task(&self, task: &str) -> Vec<&'a Cell> {
        let of_task = |cell: &&Cell| self.varying.task(cell) == task;
        self.cells.iter().filter(of_task).collect()
    }

    fn lengths(&self) -> Vec<u64> {
        let mut lengths: Vec<_> = self.cells.iter().map(|cell| cell.max_source_length).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }
}

/// The distinct items in the order of their first appearance.
fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut out = Vec::new();
    for item in items {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

/// What the study covers, in one line.
fn scope(study: &Study) -> String {
    if study.cells.is_empty() {
        return "No cell has been run yet.".into();
    }
    let count = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    let models = distinct(study.cells.iter().map(|cell| &cell.model)).len();
    let datasets = distinct(study.cells.iter().map(|cell| &cell.dataset)).len();
    let lengths = study.lengths();
    let tokens = match lengths[..] {
        [only] => format!("{} tokens", integer(only)),
        [first, .., last] => format!("{} to {} tokens", integer(first), integer(last)),
        [] => String::new(),
    };
    let mut parts = vec![
        count(models, "model"),
        count(datasets, "dataset"),
        format!("{} ({tokens})", count(lengths.len(), "input length")),
        count(study.cells.len(), "cell"),
    ];
    parts.extend(common(study).into_iter().map(|(name, value)| format!("{name} {value}")));
    parts.join(" · ")
}

/// The settings that are the same in every cell.
fn common(study: &Study) -> Vec<(&'static str, String)> {
    let Some(cell) = study.cells.first() else {
        return Vec::new();
    };
    let varying = &study.varying;
    [
        (varying.device, "device", cell.machine()),
        (varying.precision, "precision", cell.precision.clone()),
        (varying.protocol, "protocol", cell.protocol.clone()),
        // Weights as they are stored are nothing to be said.
        (varying.weights || cell.weights == Weights::Stored, "weights", cell.weights.name().into()),
        (varying.seed, "seed", cell.seed.to_string()),
        (varying.batch_size, "batch size", cell.batch_size.to_string()),
    ]
    .into_iter()
    .filter(|(varies, ..)| !varies)
    .map(|(_, name, value)| (name, value))
    .collect()
}

/// Cells that failed, and cells that have still to be run.
fn unfinished_cells(results: &Results) -> String {
    if results.failed.is_empty() && results.left.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "<section id=\"unfinished\" aria-labelledby=\"unfinished-title\">\n<h2 id=\"unfinished-title\">Not finished</h2>\n\
         <p>The same command tries failed cells again and goes on with the others.</p>\n",
    );
    if !results.failed.is_empty() {
        out.push_str("<h3>Failed</h3>\n<ul class=\"findings\">\n");
        for failure in &results.failed {
            let (cell, error) = (escape(&failure.cell), escape(&failure.error));
            push(&mut out, format_args!("<li><b>{cell}</b>: {error}</li>\n"));
        }
        out.push_str("</ul>\n");
    }
    if !results.left.is_empty() {
        out.push_str("<h3>Still to be run</h3>\n<ul class=\"findings\">\n");
        for cell in &results.left {
            push(&mut out, format_args!("<li>{}</li>\n", escape(cell)));
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</section>\n");
    out
}

fn environment(results: &Results) -> String {
    let mut out = String::from(
        "<section id=\"environment\" aria-labelledby=\"environment-title\">\n<h2 id=\"environment-title\">Environment</h2>\n",
    );
    if results.environment.is_empty() {
        out.push_str("<p>Nothing was recorded.</p>\n");
    } else {
        out.push_str("<dl class=\"environment\">\n");
        for (key, value) in &results.environment {
            push(&mut out, format_args!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(key), escape(value)));
        }
        out.push_str("</dl>\n");
    }
    out.push_str("</section>\n");
    out
}

#[cfg(test)]
mod tests;
