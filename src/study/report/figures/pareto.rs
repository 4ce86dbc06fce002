//! The Pareto fronts: which choices no other beats in both accuracy and a cost, and which are dominated by what.

use super::{Figure, absent, both, csv, description, heading, lines, numbers, reasons, scores};
use crate::study::markup::{decimals, escape, push, significant};
use crate::study::plots::{Axis, Plot, Point, Series};
use crate::study::report::Study;
use crate::study::results::{Cell, Mark};
use crate::study::trade_off::{Choice, Cost, choices, front};

/// The costs that have a front of their own, with the id of its figure.
const COSTS: [(Cost, &str); 3] =
    [(Cost::Time, "pareto-time"), (Cost::Energy, "pareto-energy"), (Cost::Memory, "pareto-memory")];

/// The style of the front's line: grey, as no series of the first six is.
const FRONT: usize = 6;

pub fn figures(study: &Study) -> String {
    let all = choices(study.cells);
    COSTS.iter().map(|(cost, id)| figure(study, &all, *cost, id)).collect()
}

fn figure(study: &Study, all: &[Choice], cost: Cost, id: &str) -> String {
    let title = format!("Pareto front: accuracy against {}", cost.label());
    let of = |cell: &Cell| cost.of(cell);
    if study.cells.iter().all(|cell| of(cell).value().is_none() || cell.headline().value().is_none()) {
        let instead = "The front against training time stands for it.";
        let instead = if cost == Cost::Energy { instead } else { "" };
        return absent(id, &title, &reasons(study.cells.iter(), of), instead);
    }
    let values = study.cells.iter().filter_map(|cell| of(cell).value());
    let unit = cost.quantity().unit(values.fold(0.0, f64::max));
    let axis = format!("{} ({})", cost.label(), unit.name);
    let mut panels = Vec::new();
    let mut below = String::new();
    for (index, task) in study.tasks.iter().enumerate() {
        let here: Vec<&Choice> = all.iter().filter(|choice| choice.task == *task).collect();
        let found = front(&here, cost);
        let corners: Vec<(f64, f64)> = found
            .best
            .iter()
            .filter_map(|&i| Some((here[i].cost(cost).value()? / unit.size, here[i].score().value()?)))
            .collect();
        let mut series = lines(
            study,
            task,
            |cell| {
                let (score, mark) = cell.headline().marked()?;
                let (spent, cost_mark) = of(cell).marked()?;
                let says = format!(
                    "{}, {} tokens: score {}, {axis} {}",
                    study.varying.row(cell),
                    cell.max_source_length,
                    decimals(score, 2),
                    significant(spent / unit.size)
                );
                let tag = Some(cell.max_source_length.to_string());
                Some(Point { x: spent / unit.size, y: score, mark: both(mark, cost_mark), says, tag })
            },
            |_| None,
        );
        let xs: Vec<f64> = series.iter().flat_map(|s| s.points.iter().map(|p| p.x)).collect();
        let ys: Vec<f64> = series.iter().flat_map(|s| s.points.iter().map(|p| p.y)).collect();
        let cells = study.task(task);
        let description = description(&series);
        series.insert(0, steps(&corners));
        let plot = Plot {
            id: format!("{id}-{index}"),
            title: format!("{title}, {task}"),
            description,
            x: Axis::from_zero(&axis, &xs),
            y: Axis::scores(&scores(&cells), &ys),
            series,
        };
        panels.push((heading(study, task), plot));
        below += &words(study, task, &here, &found);
    }
    let score = |cell: &Cell| cell.headline().clone();
    let points = |value: f64| decimals(value, 2);
    let show = |value: f64| significant(value / unit.size);
    Figure {
        id,
        title: &title,
        note: "The grey line joins the choices that no other beats in both, by means over seeds.",
        panels,
        numbers: numbers(
            study,
            &title,
            study.cells.iter(),
            &[("score", &score, &points), (&axis, &of, &show)],
        ),
        csv: csv(study, &[("score", &score), (cost_column(cost), &of)]),
        below,
    }
    .html()
}

fn cost_column(cost: Cost) -> &'static str {
    match cost {
        Cost::Time => "train_seconds",
        Cost::Energy => "energy_joules",
        Cost::Memory => "peak_bytes",
        Cost::Latency => "inference_seconds",
    }
}

/// The front as steps: between two choices there is nothing to be had but the cheaper one.
fn steps(corners: &[(f64, f64)]) -> Series {
    let mut line = Vec::new();
    for (i, &(x, y)) in corners.iter().enumerate() {
        if i > 0 {
            line.push((x, corners[i - 1].1, Mark::Measured));
        }
        line.push((x, y, Mark::Measured));
    }
    Series { name: "front".into(), style: FRONT, points: Vec::new(), line }
}

/// Which choices are on the front, and what dominates each other one.
fn words(study: &Study, task: &str, here: &[&Choice], found: &crate::study::trade_off::Front) -> String {
    let name = |i: usize| escape(&here[i].name());
    let on = if study.tasks.len() > 1 { format!("{}: ", escape(task)) } else { String::new() };
    let best: Vec<String> = found.best.iter().map(|&i| name(i)).collect();
    let mut out = format!("<p class=\"front\">{on}on the front, cheapest first: {}.</p>", best.join("; "));
    if !found.dominated.is_empty() {
        push(
            &mut out,
            format_args!(
                "<details><summary>{on}{} dominated</summary><ul class=\"dominated\">",
                found.dominated.len()
            ),
        );
        for &(i, by) in &found.dominated {
            let sure = match here[by].is_apart(here[i]) {
                true => "",
                false => ", though their intervals overlap",
            };
            push(&mut out, format_args!("<li>{} by {}{sure}</li>", name(i), name(by)));
        }
        out.push_str("</ul></details>");
    }
    out
}
