//! The results as tables: results.csv, and the summary that a terminal, results.md and results.tex have.

use super::{Cell, METRICS, Metric, Results, SCORE, Varying};
use crate::disturbance::Gpu;
use crate::reading::{Mark, Reading};
use crate::table::{self, Column, Table, Value, wrapped};

/// results.csv: one row per cell. The column `predicted` names, separated by spaces, those of the row's numbers that
/// were not measured; `disturbed` is empty, or says why times and energy are not to be relied on.
pub fn csv(cells: &[Cell]) -> String {
    let mut columns: Vec<Column<Cell>> = vec![
        Column::file("model", |c: &Cell| c.model.clone()),
        Column::file("family", |c: &Cell| c.family.clone()),
        Column::file("dataset", |c: &Cell| c.dataset.clone()),
        Column::file("max_source_length", |c: &Cell| c.max_source_length),
        Column::file("precision", |c: &Cell| c.precision.clone()),
        Column::file("seed", |c: &Cell| c.seed),
        Column::file("protocol", |c: &Cell| c.protocol.clone()),
        Column::file("weights", |c: &Cell| c.weights.name()),
        Column::file("device", |c: &Cell| c.device.clone()),
        Column::file("batch_size", |c: &Cell| c.batch_size),
        Column::file("steps", |c: &Cell| c.steps),
        Column::file("planned_steps", |c: &Cell| c.planned_steps),
        Column::file("train_examples", |c: &Cell| c.train_examples),
        Column::file("eval_examples", |c: &Cell| c.eval_examples),
        Column::file("global_attention", |c: &Cell| c.global_attention.clone()),
        Column::file("train_documents_cut", |c: &Cell| c.train_left_out.cut.documents_cut as u64),
        Column::file("train_records_skipped", |c: &Cell| c.train_left_out.skipped as u64),
        Column::file("eval_documents_cut", |c: &Cell| c.eval_left_out.cut.documents_cut as u64),
        Column::file("eval_records_skipped", |c: &Cell| c.eval_left_out.skipped as u64),
        Column::file("parameters", |c: &Cell| c.parameters),
        Column::file("headline_metric", |c: &Cell| c.headline_metric.name()),
    ];
    columns.extend(METRICS.iter().map(Metric::column));
    columns.push(Column::file("energy_note", |c: &Cell| c.energy_note.clone()));
    columns.push(Column::file("predicted", move |c: &Cell| {
        let of_row =
            METRICS.iter().filter(|metric| matches!((metric.of)(c).marked(), Some((_, Mark::Predicted))));
        of_row.map(|metric| metric.key).collect::<Vec<_>>().join(" ")
    }));
    columns.extend(conditions());
    columns.push(Column::file("disturbed", |c: &Cell| c.disturbed.clone()));
    Table::new(&columns, cells).csv()
}

/// In what conditions times and energy were measured; empty is what the machine does not report.
fn conditions() -> Vec<Column<'static, Cell>> {
    fn of_gpu<T>(cell: &Cell, of: impl Fn(&Gpu) -> Option<T>) -> Option<T> {
        cell.conditions.gpu.as_ref().and_then(of)
    }
    vec![
        Column::file("load_average", |c: &Cell| c.conditions.load),
        Column::file("other_processes", |c: &Cell| c.conditions.other_processes),
        Column::file("throttled_share", |c: &Cell| c.conditions.throttled),
        Column::file("gpu_clock_mhz", |c: &Cell| of_gpu(c, |gpu| gpu.clock_mhz)),
        Column::file("gpu_max_clock_mhz", |c: &Cell| of_gpu(c, |gpu| gpu.max_clock_mhz)),
        Column::file("gpu_power_limit_w", |c: &Cell| of_gpu(c, |gpu| gpu.power_limit_w.map(|cap| cap.0))),
        Column::file("gpu_other_processes", |c: &Cell| of_gpu(c, |gpu| gpu.other_processes.map(u64::from))),
    ]
}

/// The table that a study prints: what it varied, the score with its interval, and what it took.
fn summary(cells: &[Cell]) -> Table {
    let varying = Varying::of(cells);
    let mut columns: Vec<Column<Cell>> = vec![
        Column::words("model", move |c: &Cell| varying.row(c)),
        Column::words("dataset", |c: &Cell| c.dataset.clone()),
        Column::size("tokens", |c: &Cell| c.max_source_length),
        Column::size("batch", |c: &Cell| c.batch_size).rank(2),
        SCORE.column(),
        Column::number("95 % interval", SCORE.format, |c: &Cell| match c.interval() {
            Some(interval) => Value::Text(interval.to_string()),
            None => Value::Number(Reading::absent(c.score_low.why().unwrap_or_default())),
        })
        .rank(1),
    ];
    columns.extend(
        METRICS.iter().filter(|metric| metric.in_summary && metric.key != SCORE.key).map(Metric::column),
    );
    columns.push(Column::words("machine", |c: &Cell| (!c.disturbed.is_empty()).then_some("disturbed")));
    Table::new(&columns, cells)
}

/// Which cells were measured on a disturbed machine, and why.
pub fn disturbed(cells: &[Cell]) -> Vec<String> {
    let varying = Varying::of(cells);
    let cells = cells.iter().filter(|cell| !cell.disturbed.is_empty());
    let name =
        |cell: &Cell| format!("{} on {}, {} tokens", varying.row(cell), cell.dataset, cell.max_source_length);
    cells.map(|cell| format!("{}: {}", name(cell), cell.disturbed)).collect()
}

/// The metric by which each dataset is scored, as one line.
fn metrics(cells: &[Cell]) -> String {
    let mut said: Vec<String> = Vec::new();
    for cell in cells {
        let line =
            format!("{} on {} ({} protocol)", cell.headline_metric.label(), cell.dataset, cell.protocol);
        if !said.contains(&line) {
            said.push(line);
        }
    }
    said.join("; ")
}

/// The summary in lines of at most `width` characters, then what is scored and what the marks mean.
pub fn text(cells: &[Cell], width: usize) -> String {
    if cells.is_empty() {
        return "no results yet".into();
    }
    let table = summary(cells);
    let score = crate::markup::plain(&format!("score: {}", metrics(cells)));
    let disturbed =
        disturbed(cells).into_iter().map(|cell| format!("disturbed: {}", crate::markup::plain(&cell)));
    let notes =
        [score].into_iter().chain(table.notes()).chain(disturbed).map(|note| wrapped(&note, width, 2));
    [table.text(width)].into_iter().chain(notes).collect::<Vec<_>>().join("\n")
}

/// results.md: a document with one table.
pub fn markdown(results: &Results) -> String {
    let title = match results.title.trim() {
        "" => "Study",
        title => title,
    };
    let title = table::markdown(title);
    if results.cells.is_empty() {
        return format!("# {title}\n\nThere are no results yet.\n");
    }
    let below = format!(
        "Scores run from 0 to 100: {}. Numbers are measured; `~` marks predicted ones.",
        table::markdown(&metrics(&results.cells))
    );
    let disturbed = disturbed(&results.cells);
    let disturbed: String = disturbed
        .iter()
        .map(|cell| format!("\nMeasured on a disturbed machine: {}\n", table::markdown(cell)))
        .collect();
    format!("# {title}\n\n{}{disturbed}", summary(&results.cells).markdown(&below))
}

/// results.tex: a table to be taken in by `\input`.
pub fn latex(results: &Results) -> String {
    if results.cells.is_empty() {
        return "% There are no results yet.\n".into();
    }
    let title = results.title.trim_end_matches('.');
    summary(&results.cells).latex(&format!("{title}. Scores: {}.", metrics(&results.cells)))
}
