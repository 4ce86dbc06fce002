//! What the numbers say, in plain words and no more than they say.

use super::doubling::{Doubling, doubling_sentence, doubling_table, doublings};
use super::left_out::left_out;
use super::statements::statements;
use super::{Study, distinct, long_input, precisions};
use crate::markup::{escape, push};
use crate::reading::Mark;
use crate::study::results::{Better, METRICS, disturbed};

/// A longer table is folded, to leave the figures in reach.
const ROWS_SHOWN: usize = 8;

/// Disturbed cells that a sentence names; the table of times has them all.
const DISTURBED_NAMED: usize = 2;

/// The summary section: the extremes of each task, the price of doubling, and what limits them.
pub fn section(study: &Study) -> String {
    let mut out = String::from(
        "<section id=\"summary\" aria-labelledby=\"summary-title\">\n<h2 id=\"summary-title\">Summary</h2>\n",
    );
    for task in &study.tasks {
        out.push_str(&picks(study, task));
    }
    let doublings = doublings(study);
    out.push_str("<ul class=\"findings\">\n");
    for sentence in findings(study, &doublings) {
        push(&mut out, format_args!("<li>{}</li>\n", escape(&sentence)));
    }
    out.push_str("</ul>\n");
    if doublings.len() > 1 {
        let table = doubling_table(study, &doublings);
        match doublings.len() {
            ..=ROWS_SHOWN => out.push_str(&table),
            many => push(
                &mut out,
                format_args!("<details><summary>All {many} comparisons</summary>{table}</details>\n"),
            ),
        }
    }
    out.push_str("</section>\n");
    out
}

/// The cells of a task that are best by the metrics that have a pick.
fn picks(study: &Study, task: &str) -> String {
    let cells = study.task(task);
    let mut out = format!("<div class=\"task\"><h3>{}</h3><dl class=\"picks\">", escape(task));
    for metric in METRICS {
        let Some(pick) = metric.pick else { continue };
        let with_value: Vec<_> =
            cells.iter().filter_map(|cell| Some((*cell, (metric.of)(cell).marked()?))).collect();
        let is_better = |a: f64, b: f64| if metric.better == Some(Better::Lower) { a < b } else { a > b };
        let Some(&(cell, (value, mark))) =
            with_value.iter().reduce(|best, next| if is_better(next.1.0, best.1.0) { next } else { best })
        else {
            continue;
        };
        let ties = with_value.iter().filter(|(_, (other, _))| *other == value).count() - 1;
        let what = pick.what.unwrap_or(cell.headline_metric.label());
        let title = match &cells[..] {
            [_] => what[..1].to_uppercase() + &what[1..],
            _ => format!("{} {what}", pick.extreme),
        };
        let unit = metric.format.unit(value);
        let number = metric.format.shown(value, unit);
        let unit = unit.map_or(pick.unit, |unit| unit.name);
        let mut who = format!("{}, {} tokens", study.varying.series(cell), cell.max_source_length);
        if study.varying.seed {
            who.push_str(&format!(", seed {}", cell.seed));
        }
        if ties > 0 {
            who.push_str(&format!("; {ties} more equal it"));
        }
        if mark == Mark::Predicted {
            who.push_str("; predicted");
        }
        push(
            &mut out,
            format_args!(
                "<div><dt>{title}</dt><dd><b>{number}</b> <small>{unit}</small></dd><dd class=\"who\">{}</dd></div>",
                escape(&who)
            ),
        );
    }
    out.push_str("</dl></div>\n");
    out
}

/// The first sentences of the summary, for a terminal: what long input bought, and which choices are best.
pub fn sentences(study: &Study, count: usize) -> Vec<String> {
    let mut all = findings(study, &doublings(study));
    all.truncate(count);
    all
}

/// The sentences below the picks.
fn findings(study: &Study, doublings: &[Doubling]) -> Vec<String> {
    let mut out = Vec::new();
    if study.cells.is_empty() {
        out.push("There are no results yet.".into());
        return out;
    }
    let disturbed = disturbed(study.cells);
    if !disturbed.is_empty() {
        let which = match disturbed.split_at_checked(DISTURBED_NAMED) {
            Some((first, more)) if !more.is_empty() => {
                format!(
                    "{}; and {} more, with their reasons in the table of times",
                    first.join("; "),
                    more.len()
                )
            }
            _ => disturbed.join("; "),
        };
        out.push(format!(
            "Disturbed: other work or heat held up {} of {} cells, whose times and energy are not to be relied on \
             (`study --redo-disturbed` runs them again): {which}.",
            disturbed.len(),
            study.cells.len(),
        ));
    }
    out.extend(left_out(study));
    out.extend(long_input::sentences(study));
    out.extend(statements(study));
    out.extend(precisions::sentences(study));
    out.extend(doubling_sentence(doublings));
    if doublings.is_empty() && study.cells.len() > 1 {
        out.push(
            "No model ran at both a length and its double, so these cells do not show what doubling costs."
                .into(),
        );
    }
    if study.cells.iter().all(|cell| cell.energy_joules.value().is_none()) {
        let reasons = distinct(study.cells.iter().filter_map(|cell| cell.energy_joules.why()));
        out.push(format!("Energy is not reported: {}.", reasons.join("; ")));
    }
    if study.varying.batch_size {
        out.push("Batch sizes differ between cells: throughput and memory compare these runs, not the lengths alone.".into());
    }
    if !study.varying.seed && study.cells.len() > 1 {
        out.push(
            "Each cell is one run with one seed: intervals are over examples, and how far another seed would move a \
             score is not known here."
                .into(),
        );
    }
    let stored = || METRICS.iter().filter(|metric| metric.is_stored);
    let readings: Vec<_> =
        study.cells.iter().flat_map(|cell| stored().map(|metric| (metric.of)(cell).marked())).collect();
    let count = |mark| readings.iter().filter(|r| r.is_some_and(|(_, m)| m == mark)).count();
    out.push(format!(
        "{} numbers: {} measured, {} predicted, {} absent with the reason given.",
        readings.len(),
        count(Mark::Measured),
        count(Mark::Predicted),
        readings.iter().filter(|r| r.is_none()).count()
    ));
    out
}
