//! Figures 1 to 5: accuracy against power efficiency, energy, training speed and inference speed.

use super::{Figure, absent, against, description, heading, is_answers, is_drawn, numbers, reasons, scores};
use crate::markup::escape;
use crate::plot::{Axis, Plot};
use crate::study::report::Study;
use crate::study::results::{
    Better, Cell, INFERENCE_SPEED, Metric, POWER_EFFICIENCY, SCORE, TRAIN_ENERGY, TRAIN_SPEED, TRAIN_TIME,
};

/// What accuracy is drawn against: the id and the name of the figure, and the metric.
type Drawn = (&'static str, &'static str, Metric);

const TIME: Drawn = ("time", "training time", TRAIN_TIME);
const MEASURES: [Drawn; 4] = [
    ("power-efficiency", "power efficiency", POWER_EFFICIENCY),
    ("energy", "total training energy", TRAIN_ENERGY),
    ("training-speed", "training speed", TRAIN_SPEED),
    ("inference-speed", "inference speed", INFERENCE_SPEED),
];

/// Figures 1 to 4 over the summarisation tasks, and the fifth, of four panels, for each of question answering.
pub fn figures(study: &Study) -> String {
    let (answers, summaries): (Vec<&String>, Vec<&String>) =
        study.tasks.iter().partition(|task| is_answers(&study.task(task)));
    let mut out = String::new();
    if !summaries.is_empty() {
        for (i, drawn) in MEASURES.iter().enumerate() {
            let title = format!("Figure {}. Accuracy against {}", i + 1, drawn.1);
            let named: Vec<(String, &String)> =
                summaries.iter().map(|task| (heading(study, task), *task)).collect();
            out += &figure(study, drawn.0, &title, &[*drawn], &named);
        }
    }
    for (i, task) in answers.iter().enumerate() {
        let title = format!("Figure 5. Question answering: {}", escape(task));
        out += &figure(study, &format!("answers-{i}"), &title, &MEASURES, &[(String::new(), *task)]);
    }
    out
}

/// One panel for every metric and task; energy that nobody measured gives its place to time.
fn figure(study: &Study, id: &str, title: &str, asked: &[Drawn], tasks: &[(String, &String)]) -> String {
    let cells: Vec<&Cell> = tasks.iter().flat_map(|(_, task)| study.task(task)).collect();
    let here = || cells.iter().copied();
    let mut notes = Vec::new();
    let mut drawn: Vec<Drawn> = Vec::new();
    for one in asked {
        let (id, name, metric) = one;
        if is_drawn(here(), metric) {
            drawn.push(*one);
            continue;
        }
        let missing = format!("No {name}: {}.", escape(reasons(here(), metric).trim_end_matches('.')));
        if *id == "energy" && is_drawn(here(), &TIME.2) {
            notes.push(format!("{missing} Shown instead: training time."));
            drawn.push(TIME);
        } else {
            notes.push(missing);
        }
    }
    if drawn.is_empty() {
        let instead = match asked {
            [("power-efficiency", ..)] => "Figure 3 shows speed, which is measured.",
            _ => "",
        };
        let why = asked.first().map_or(String::new(), |(_, _, metric)| reasons(here(), metric));
        return absent(id, title, &why, instead);
    }
    let mut note = match drawn[..] {
        [(_, _, metric)] => {
            let side = if metric.better == Some(Better::Lower) { "left" } else { "right" };
            format!("Up and to the {side} is better. ")
        }
        _ => "Up is better; speed and efficiency to the right, energy and time to the left. ".into(),
    };
    note += "Labels are input lengths in tokens; a line joins the lengths of one model.";
    note.extend(notes.iter().map(|missing| format!(" <strong>{missing}</strong>")));
    let mut panels = Vec::new();
    for one in &drawn {
        for (name, task) in tasks {
            let name = if drawn.len() > 1 { format!("{} {name}", one.1) } else { name.clone() };
            panels.push((name.trim().to_string(), panel(study, id, one, task)));
        }
    }
    let columns: Vec<Metric> =
        [SCORE].into_iter().chain(drawn.iter().map(|(_, _, metric)| *metric)).collect();
    let numbers = numbers(study, here(), &columns);
    Figure { id, title, note: &note, panels, numbers, below: String::new() }.html()
}

fn panel(study: &Study, id: &str, (own, name, metric): &Drawn, task: &str) -> Plot {
    let unit = metric.unit(study.cells);
    let series = against(study, task, metric, unit, true);
    let points = || series.iter().flat_map(|series| &series.points);
    let at = study.tasks.iter().position(|known| known == task).unwrap_or(0);
    Plot {
        id: format!("{id}-{own}-{at}"),
        title: format!("Accuracy against {name}, {task}"),
        description: description(&series),
        x: Axis::from_zero(&metric.titled(unit), &points().map(|point| point.x).collect::<Vec<_>>()),
        y: Axis::scores(&scores(&study.task(task)), &points().map(|point| point.y).collect::<Vec<_>>()),
        series,
    }
}
