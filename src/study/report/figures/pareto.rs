//! The Pareto fronts: which choices no other beats in both accuracy and a cost, and which are dominated by what.

use super::{Figure, absent, against, description, heading, is_drawn, numbers, reasons, scores};
use crate::markup::{escape, push};
use crate::plot::{Axis, Plot, Series};
use crate::reading::Mark;
use crate::study::report::Study;
use crate::study::results::{Metric, PEAK_MEMORY, SCORE, TRAIN_ENERGY, TRAIN_TIME};
use crate::study::trade_off::{Choice, Front, choices, front};

/// The costs that have a front of their own, with the id of its figure.
const FRONTS: [(Metric, &str); 3] =
    [(TRAIN_TIME, "pareto-time"), (TRAIN_ENERGY, "pareto-energy"), (PEAK_MEMORY, "pareto-memory")];

/// The style of the front's line: grey, as no series of the first six is.
const FRONT: usize = 6;

pub fn figures(study: &Study) -> String {
    let all = choices(study.cells);
    FRONTS.iter().map(|(cost, id)| figure(study, &all, cost, id)).collect()
}

fn figure(study: &Study, all: &[Choice], cost: &Metric, id: &str) -> String {
    let title = format!("Pareto front: accuracy against {}", cost.title);
    if !is_drawn(study.cells, cost) {
        let instead = "The front against training time stands for it.";
        let instead = if cost.key == TRAIN_ENERGY.key { instead } else { "" };
        return absent(id, &title, &reasons(study.cells, cost), instead);
    }
    let unit = cost.unit(study.cells);
    let size = unit.map_or(1.0, |unit| unit.size);
    let mut panels = Vec::new();
    let mut below = String::new();
    for (index, task) in study.tasks.iter().enumerate() {
        let here: Vec<&Choice> = all.iter().filter(|choice| choice.task == *task).collect();
        let found = front(&here, cost);
        let corners: Vec<(f64, f64)> = found
            .best
            .iter()
            .filter_map(|&i| Some((here[i].mean(cost).value()? / size, here[i].score().value()?)))
            .collect();
        let mut series = against(study, task, cost, unit, false);
        let xs: Vec<f64> = series.iter().flat_map(|s| s.points.iter().map(|p| p.x)).collect();
        let ys: Vec<f64> = series.iter().flat_map(|s| s.points.iter().map(|p| p.y)).collect();
        let description = description(&series);
        series.insert(0, steps(&corners));
        let plot = Plot {
            id: format!("{id}-{index}"),
            title: format!("{title}, {task}"),
            description,
            x: Axis::from_zero(&cost.titled(unit), &xs),
            y: Axis::scores(&scores(&study.task(task)), &ys),
            series,
        };
        panels.push((heading(study, task), plot));
        below += &words(study, task, &here, &found);
    }
    Figure {
        id,
        title: &title,
        note: "The grey line joins the choices that no other beats in both, by means over seeds.",
        panels,
        numbers: numbers(study, study.cells, &[SCORE, *cost]),
        below,
    }
    .html()
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
fn words(study: &Study, task: &str, here: &[&Choice], found: &Front) -> String {
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
            let sure = match here[by].differs(here[i]) {
                Some(true) => "",
                Some(false) => ", though their intervals overlap",
                None => ", though one of them has no interval",
            };
            push(&mut out, format_args!("<li>{} by {}{sure}</li>", name(i), name(by)));
        }
        out.push_str("</ul></details>");
    }
    out
}
