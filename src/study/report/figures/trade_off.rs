//! Figures 1 to 5: accuracy against power efficiency, energy, training speed and inference speed.

use super::{Figure, absent, both, csv, description, heading, is_answers, lines, numbers, reasons, scores};
use crate::study::markup::{Quantity, decimals, significant};
use crate::study::plots::{Axis, Plot, Point};
use crate::study::report::Study;
use crate::study::results::{Cell, Reading};
use crate::study::trade_off::mean;

/// What accuracy is drawn against.
struct Measure {
    id: &'static str,
    name: &'static str,
    axis: &'static str,
    column: &'static str,
    /// In which direction it is better.
    better: &'static str,
    /// None: in the unit that the axis names.
    quantity: Option<Quantity>,
    of: fn(&Cell) -> &Reading,
}

const TIME: Measure = Measure {
    id: "time",
    name: "training time",
    axis: "training time",
    column: "train_seconds",
    better: "left",
    quantity: Some(Quantity::Time),
    of: |c| &c.train_seconds,
};

const MEASURES: [Measure; 4] = [
    Measure {
        id: "power-efficiency",
        name: "power efficiency",
        axis: "training samples/s/W",
        column: "samples_per_second_per_watt",
        better: "right",
        quantity: None,
        of: |c| &c.samples_per_second_per_watt,
    },
    Measure {
        id: "energy",
        name: "total training energy",
        axis: "training energy",
        column: "energy_joules",
        better: "left",
        quantity: Some(Quantity::Energy),
        of: |c| &c.energy_joules,
    },
    Measure {
        id: "training-speed",
        name: "training speed",
        axis: "training",
        column: "train_samples_per_second",
        better: "right",
        quantity: Some(Quantity::Throughput),
        of: |c| &c.train_samples_per_second,
    },
    Measure {
        id: "inference-speed",
        name: "inference speed",
        axis: "inference",
        column: "eval_samples_per_second",
        better: "right",
        quantity: Some(Quantity::Throughput),
        of: |c| &c.eval_samples_per_second,
    },
];

/// Figures 1 to 4 over the summarisation tasks, and the fifth, of four panels, for each of question answering.
pub fn figures(study: &Study) -> String {
    let (answers, summaries): (Vec<&String>, Vec<&String>) =
        study.tasks.iter().partition(|task| is_answers(&study.task(task)));
    let mut out = String::new();
    if !summaries.is_empty() {
        for (i, measure) in MEASURES.iter().enumerate() {
            let title = format!("Figure {}. Accuracy against {}", i + 1, measure.name);
            let named: Vec<(String, &String)> =
                summaries.iter().map(|task| (heading(study, task), *task)).collect();
            out += &figure(study, measure.id, &title, &[measure], &named);
        }
    }
    for (i, task) in answers.iter().enumerate() {
        let title = format!("Figure 5. Question answering: {}", crate::markup::escape(task));
        let measures: Vec<&Measure> = MEASURES.iter().collect();
        out += &figure(study, &format!("answers-{i}"), &title, &measures, &[(String::new(), *task)]);
    }
    out
}

/// One panel for every measure and task; energy that nobody measured gives its place to time.
fn figure(
    study: &Study,
    id: &str,
    title: &str,
    measures: &[&Measure],
    tasks: &[(String, &String)],
) -> String {
    let cells: Vec<&Cell> = tasks.iter().flat_map(|(_, task)| study.task(task)).collect();
    let drawn = |measure: &Measure| {
        cells.iter().any(|cell| (measure.of)(cell).value().is_some() && cell.headline().value().is_some())
    };
    let why = |measure: &Measure| reasons(cells.iter().copied(), |cell| (measure.of)(cell).clone());
    let mut notes = Vec::new();
    let mut used: Vec<&Measure> = Vec::new();
    for measure in measures {
        if drawn(measure) {
            used.push(measure);
            continue;
        }
        let missing = format!("no {}: {}", measure.name, crate::markup::escape(&why(measure)));
        if measure.id == "energy" && drawn(&TIME) {
            notes.push(format!("{missing}. Shown instead: training time."));
            used.push(&TIME);
        } else {
            notes.push(format!("{missing}."));
        }
    }
    if used.is_empty() {
        let instead = match measures {
            [one] if one.id == "power-efficiency" => "Figure 3 shows speed, which is measured.",
            _ => "",
        };
        return absent(id, title, &measures.first().map_or(String::new(), |one| why(one)), instead);
    }
    let mut note = match used[..] {
        [one] => format!("Up and to the {} is better. ", one.better),
        _ => "Up is better; speed and efficiency to the right, energy and time to the left. ".into(),
    };
    note += "Labels are input lengths in tokens; a line joins the lengths of one model.";
    for missing in notes {
        let mut letters = missing.chars();
        let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        note += &format!(" <strong>{first}{}</strong>", letters.as_str());
    }
    let mut panels = Vec::new();
    for measure in &used {
        for (name, task) in tasks {
            let name = if used.len() > 1 { format!("{} {name}", measure.name) } else { name.clone() };
            panels.push((name.trim().to_string(), panel(study, id, measure, task)));
        }
    }
    let score = |cell: &Cell| cell.headline().clone();
    let points = |value: f64| decimals(value, 2);
    let readings: Vec<_> = used.iter().map(|m| |cell: &Cell| (m.of)(cell).clone()).collect();
    let units: Vec<(String, f64)> = used.iter().map(|m| unit(study, m)).collect();
    let shows: Vec<_> = units.iter().map(|(_, size)| move |value: f64| significant(value / size)).collect();
    let mut columns: Vec<super::Column> = vec![("score", &score, &points)];
    let mut file: Vec<super::FileColumn> = vec![("score", &score)];
    for (((measure, reading), (title, _)), show) in used.iter().zip(&readings).zip(&units).zip(&shows) {
        columns.push((title, reading, show));
        file.push((measure.column, reading));
    }
    Figure {
        id,
        title,
        note: &note,
        panels,
        numbers: numbers(study, title, cells.iter().copied(), &columns),
        csv: csv(study, &file),
        below: String::new(),
    }
    .html()
}

/// The title of a measure's axis, and what its values are divided by.
fn unit(study: &Study, measure: &Measure) -> (String, f64) {
    match measure.quantity {
        None => (measure.axis.into(), 1.0),
        Some(quantity) => {
            let values = study.cells.iter().filter_map(|cell| (measure.of)(cell).value());
            let unit = quantity.unit(values.fold(0.0, f64::max));
            (format!("{} ({})", measure.axis, unit.name), unit.size)
        }
    }
}

fn panel(study: &Study, id: &str, measure: &Measure, task: &str) -> Plot {
    let (title, size) = unit(study, measure);
    let of = measure.of;
    let cells: Vec<&Cell> = study
        .task(task)
        .into_iter()
        .filter(|cell| cell.headline().value().is_some() && of(cell).value().is_some())
        .collect();
    let values = |of: fn(&Cell) -> &Reading, size: f64| -> Vec<f64> {
        cells.iter().filter_map(|cell| Some(of(cell).value()? / size)).collect()
    };
    let series = lines(
        study,
        task,
        |cell| {
            let (score, mark) = cell.headline().marked()?;
            let (cost, cost_mark) = of(cell).marked()?;
            Some(Point {
                x: cost / size,
                y: score,
                mark: both(mark, cost_mark),
                says: format!(
                    "{}, {} tokens: score {}, {title} {}",
                    study.varying.row(cell),
                    cell.max_source_length,
                    decimals(score, 2),
                    significant(cost / size),
                ),
                tag: Some(cell.max_source_length.to_string()),
            })
        },
        |choice| {
            let (score, mark) = choice.score().marked()?;
            let (cost, cost_mark) = mean(&choice.cells, |cell| of(cell).clone()).marked()?;
            Some((cost / size, score, both(mark, cost_mark)))
        },
    );
    let at = study.tasks.iter().position(|known| known == task).unwrap_or(0);
    Plot {
        id: format!("{id}-{}-{at}", measure.id),
        title: format!("Accuracy against {}, {task}", measure.name),
        description: description(&series),
        x: Axis::from_zero(&title, &values(of, size)),
        y: Axis::scores(&scores(&cells), &values(Cell::headline, 1.0)),
        series,
    }
}
