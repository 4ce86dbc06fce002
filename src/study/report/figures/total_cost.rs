//! The total cost of N documents: training once and inference for each, of the choices that are worth their training.

use super::{Figure, absent, description, heading, numbers, reasons};
use crate::markup::{escape, push};
use crate::plot::{Axis, Plot, Point, Series};
use crate::study::report::Study;
use crate::study::total_cost::Expense;
use crate::study::trade_off::{Choice, choices, front};
use crate::units::integer;

const ID: &str = "total-cost";
/// Lines that a panel shows, the cheapest to train first.
const MOST: usize = 8;
/// Documents that the axis reaches at least, and at most.
const REACH: [f64; 2] = [1e3, 1e9];

pub fn figure(study: &Study) -> String {
    let all = choices(study.cells);
    let expense = Expense::of(&all.iter().collect::<Vec<_>>());
    let title = format!("Total {} of N documents", expense.name);
    if all.iter().all(|choice| expense.total(choice, 1.0).value().is_none()) {
        return absent(ID, &title, &reasons(study.cells, &expense.each), "");
    }
    let mut panels = Vec::new();
    let mut below = String::new();
    for (index, task) in study.tasks.iter().enumerate() {
        let here: Vec<&Choice> = all.iter().filter(|choice| choice.task == *task).collect();
        let best: Vec<&Choice> =
            front(&here, &expense.once).best.into_iter().map(|at| here[at]).take(MOST).collect();
        panels.push((heading(study, task), panel(index, &title, task, &expense, &best)));
        push(&mut below, format_args!("<p class=\"front\">{}</p>", escape(&sentence(task, &expense, &best))));
    }
    Figure {
        id: ID,
        title: &title,
        note: "Training once, and inference for every document; of the choices that no other beats in both score and \
               cost of training. Where lines cross, the dearer training has paid for itself.",
        panels,
        numbers: numbers(study, study.cells, &[expense.once, expense.each]),
        below,
    }
    .html()
}

/// From how many documents on a choice that is dearer to train costs less in all.
pub fn sentence(task: &str, expense: &Expense, best: &[&Choice]) -> String {
    let mut crossings: Vec<String> = Vec::new();
    for (at, choice) in best.iter().enumerate() {
        for other in &best[at + 1..] {
            if let Some(documents) = expense.break_even(choice, other) {
                let documents = integer(documents.ceil() as u64);
                crossings.push(format!(
                    "{} takes less {} in all than {} from {documents} documents on",
                    other.name(),
                    expense.name,
                    choice.name()
                ));
            }
        }
    }
    match crossings.is_empty() {
        true => format!(
            "On {task}, training included, none of these choices takes less {} than one that is cheaper to train, \
             however many documents there are.",
            expense.name
        ),
        false => format!("On {task}, training included: {}.", crossings.join("; ")),
    }
}

fn panel(index: usize, title: &str, task: &str, expense: &Expense, best: &[&Choice]) -> Plot {
    let crossings = best.iter().flat_map(|a| best.iter().filter_map(|b| expense.break_even(a, b)));
    let reach = (10.0 * crossings.fold(0.0, f64::max)).clamp(REACH[0], REACH[1]);
    let counts: Vec<f64> = (0..=reach.log10().ceil() as i32).map(|power| 10f64.powi(power)).collect();
    let totals = |choice: &Choice| -> Vec<_> {
        counts.iter().filter_map(|&n| Some((n, expense.total(choice, n).marked()?))).collect()
    };
    let largest = best.iter().flat_map(|choice| totals(choice)).map(|(_, (total, _))| total);
    let unit = expense.once.format.unit(largest.fold(0.0, f64::max));
    let size = unit.map_or(1.0, |unit| unit.size);
    let series: Vec<Series> = best
        .iter()
        .enumerate()
        .map(|(style, choice)| {
            let points: Vec<Point> = totals(choice)
                .into_iter()
                .map(|(n, (total, mark))| {
                    let cost = expense.once.format.shown(total, None);
                    let says = format!("{}: {} documents, {cost}", choice.name(), integer(n as u64));
                    Point { x: n, y: total / size, mark, says, tag: None }
                })
                .collect();
            let line = points.iter().map(|point| (point.x, point.y, point.mark)).collect();
            Series { name: choice.name(), style, points, line }
        })
        .collect();
    let ys: Vec<f64> = series.iter().flat_map(|series| &series.points).map(|point| point.y).collect();
    let axis =
        unit.map_or(expense.name.to_string(), |unit| format!("total {} ({})", expense.name, unit.name));
    Plot {
        id: format!("{ID}-{index}"),
        title: format!("{title}, {task}"),
        description: description(&series),
        x: Axis::from_zero("documents", &counts),
        y: Axis::from_zero(&axis, &ys),
        series,
    }
}
