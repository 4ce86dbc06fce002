//! All numbers of every cell, in one table per theme so that each fits a page.

use super::Study;
use crate::study::results::{Cell, METRICS, Metric, Theme};
use crate::table::{Column, Table};
use crate::units::integer;

pub fn section(study: &Study) -> String {
    let mut out = String::from(
        "<section id=\"cells\" aria-labelledby=\"cells-title\">\n<h2 id=\"cells-title\">All numbers</h2>\n",
    );
    if study.cells.is_empty() {
        out.push_str("<p>No cell has been run yet.</p>\n</section>\n");
        return out;
    }
    out.push_str("<p>Numbers are measured unless they say <i class=\"predicted\">predicted</i>; scores run from 0 to 100.</p>\n");
    let themes = [
        ("Accuracy", Theme::Accuracy),
        ("Precision, recall and length of predictions", Theme::Agreement),
        ("Time", Theme::Time),
        ("Memory and utilisation", Theme::Memory),
        ("Energy", Theme::Energy),
        ("Time and energy by activity", Theme::Activities),
    ];
    for (caption, theme) in themes {
        let mut columns = vec![
            Column::words("model", |c: &Cell| study.varying.row(c)),
            Column::words("dataset", |c: &Cell| c.dataset.clone()),
            Column::size("tokens", |c: &Cell| c.max_source_length),
        ];
        columns.extend(facts(theme));
        columns.extend(METRICS.iter().filter(|metric| metric.theme == Some(theme)).map(Metric::column));
        if theme == Theme::Time && study.cells.iter().any(|cell| !cell.disturbed.is_empty()) {
            columns.push(Column::words("disturbed", |c: &Cell| c.disturbed.clone()));
        }
        out += &Table::new(&columns, study.cells).html(caption);
    }
    out.push_str(
        "<p class=\"note\">The activities of a cell's run sum to its whole: data is reading, tokenising and waiting \
         for batches, evaluation that of every protocol, the rest mostly reading and planning the model.</p>\n",
    );
    out.push_str("</section>\n");
    out
}

/// What is known of a cell beside the metrics of a theme.
fn facts(theme: Theme) -> Vec<Column<'static, Cell>> {
    let count = |title: &str, of: fn(&Cell) -> u64| Column::size(title, move |c: &Cell| integer(of(c)));
    match theme {
        Theme::Accuracy => vec![
            Column::words("judged by", |c: &Cell| c.headline_metric.label()),
            Column::words("protocol", |c: &Cell| c.protocol.clone()),
            Column::words("global attention", |c: &Cell| c.global_attention.clone()),
        ],
        Theme::Time => vec![
            Column::size("steps (planned)", |c: &Cell| match c.planned_steps {
                0 => integer(c.steps),
                planned => format!("{} ({})", integer(c.steps), integer(planned)),
            }),
            count("training examples", |c| c.train_examples),
            count("evaluation examples", |c| c.eval_examples),
        ],
        Theme::Memory => vec![count("parameters", |c| c.parameters), count("batch size", |c| c.batch_size)],
        Theme::Energy => vec![Column::words("energy covers", |c: &Cell| c.energy_note.clone())],
        Theme::Agreement | Theme::Activities => Vec::new(),
    }
}
