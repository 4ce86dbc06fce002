//! What a score costs: accuracy against training time.

use super::{description, lines, scores};
use crate::study::markup::{Quantity, decimals, escape, significant};
use crate::study::plots::{Axis, Plot, Point};
use crate::study::report::Study;
use crate::study::report::doubling::mean;
use crate::study::report::tables::{Footnotes, table};
use crate::study::results::{Cell, Mark, Reading};

/// The trade-off: what a score costs in training time. Points carry their input length.
pub fn figure(study: &Study) -> String {
    let both = |cell: &Cell| cell.headline().value().is_some() && cell.train_seconds.value().is_some();
    if !study.cells.iter().any(both) {
        return String::new();
    }
    let times = study.cells.iter().filter_map(|cell| cell.train_seconds.value());
    let unit = Quantity::Time.unit(times.fold(0.0, f64::max));
    let panels: Vec<Plot> = study
        .tasks
        .iter()
        .enumerate()
        .map(|(index, task)| {
            let cells: Vec<_> = study.task(task).into_iter().filter(|cell| both(cell)).collect();
            let of = |of: fn(&Cell) -> &Reading, size: f64| -> Vec<f64> {
                cells.iter().filter_map(|cell| Some(of(cell).value()? / size)).collect()
            };
            let series = lines(
                study,
                task,
                |cell| {
                    let (score, mark) = cell.headline().marked()?;
                    let (time, time_mark) = cell.train_seconds.marked()?;
                    Some(Point {
                        x: time / unit.size,
                        y: score,
                        mark: if time_mark == Mark::Measured { mark } else { time_mark },
                        says: format!(
                            "{}, {} tokens: score {} after {} {}",
                            study.varying.row(cell),
                            cell.max_source_length,
                            decimals(score, 2),
                            significant(time / unit.size),
                            unit.name
                        ),
                        tag: Some(cell.max_source_length.to_string()),
                    })
                },
                |cells| {
                    let (score, mark) = mean(cells, Cell::headline).marked()?;
                    let (time, time_mark) = mean(cells, |c| &c.train_seconds).marked()?;
                    Some((
                        time / unit.size,
                        score,
                        if time_mark == Mark::Measured { mark } else { time_mark },
                    ))
                },
            );
            Plot {
                id: format!("trade-off-{index}"),
                title: format!("Accuracy against training time, {task}"),
                description: description(&series),
                x: Axis::from_zero(
                    &format!("training time ({})", unit.name),
                    &of(|c| &c.train_seconds, unit.size),
                ),
                y: Axis::around(&scores(&cells), &of(Cell::headline, 1.0)),
                series,
            }
        })
        .collect();
    let mut notes = Footnotes::default();
    let titles =
        ["model", "dataset", "tokens", &format!("training time ({})", unit.name), "score"].map(String::from);
    let rows: Vec<Vec<String>> = study
        .cells
        .iter()
        .map(|cell| {
            vec![
                escape(&study.varying.row(cell)),
                escape(&cell.dataset),
                cell.max_source_length.to_string(),
                notes.reading(&cell.train_seconds, |value| significant(value / unit.size)),
                notes.reading(cell.headline(), |value| decimals(value, 2)),
            ]
        })
        .collect();
    let numbers = table("Accuracy and training time", &titles, 2, &rows) + &notes.html();
    super::figure(
        study,
        "trade-off",
        "Accuracy against training time",
        "Up and to the left is better. Labels are input lengths in tokens; a line joins the lengths of one model.",
        &panels,
        &numbers,
    )
}
