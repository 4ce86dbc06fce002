//! The figures: each a set of panels (one per dataset), a legend, its numbers as a table, and words.

mod trade_off;

use super::doubling::mean;
use super::tables::{Footnotes, table};
use super::{Study, distinct};
use crate::study::markup::{Quantity, decimals, escape, push, significant};
use crate::study::plots::{Axis, Plot, Point, Series, svg, swatch};
use crate::study::results::{Cell, Mark, Reading};

/// A quantity drawn against input length.
struct Measure {
    id: &'static str,
    title: &'static str,
    note: &'static str,
    axis: &'static str,
    quantity: Quantity,
    of: fn(&Cell) -> &Reading,
}

/// Drawn in this order; a new figure is a new line here.
const MEASURES: [Measure; 6] = [
    Measure {
        id: "accuracy",
        title: "Accuracy",
        note: "Higher is better. The axis does not start at zero.",
        axis: "score",
        quantity: Quantity::Score,
        of: Cell::headline,
    },
    Measure {
        id: "training-time",
        title: "Training time",
        note: "Lower is better. The whole training run.",
        axis: "training time",
        quantity: Quantity::Time,
        of: |c| &c.train_seconds,
    },
    Measure {
        id: "training-throughput",
        title: "Training throughput",
        note: "Higher is better.",
        axis: "training",
        quantity: Quantity::Throughput,
        of: |c| &c.train_samples_per_second,
    },
    Measure {
        id: "inference-throughput",
        title: "Inference throughput",
        note: "Higher is better.",
        axis: "evaluation",
        quantity: Quantity::Throughput,
        of: |c| &c.eval_samples_per_second,
    },
    Measure {
        id: "memory",
        title: "Peak memory",
        note: "Lower is better. Measured in training, or planned where it was not.",
        axis: "peak memory",
        quantity: Quantity::Memory,
        of: Cell::peak_bytes,
    },
    Measure {
        id: "energy",
        title: "Energy",
        note: "Lower is better. What it covers stands with the numbers below.",
        axis: "energy",
        quantity: Quantity::Energy,
        of: |c| &c.energy_joules,
    },
];

/// All figures that have something to show, then what could not be shown and why.
pub fn section(study: &Study) -> String {
    let mut out = String::from(
        "<section id=\"figures\" aria-labelledby=\"figures-title\">\n<h2 id=\"figures-title\">Figures</h2>\n",
    );
    if study.cells.is_empty() {
        out.push_str("<p>No cell has been run yet.</p>\n</section>\n");
        return out;
    }
    let wide = match study.tasks.len() {
        0 | 1 => "",
        // Four panels stand two by two rather than three and one.
        2 | 4 => " wide pairs",
        _ => " wide",
    };
    push(&mut out, format_args!("<div class=\"figures{wide}\">\n"));
    let mut missing = Vec::new();
    for measure in &MEASURES {
        if study.cells.iter().any(|cell| (measure.of)(cell).value().is_some()) {
            out.push_str(&against_length(study, measure));
        } else {
            let reasons = distinct(study.cells.iter().filter_map(|cell| (measure.of)(cell).why()));
            missing.push((measure.title, reasons));
        }
        if measure.id == "accuracy" {
            out.push_str(&trade_off::figure(study));
        }
    }
    out.push_str("</div>\n");
    for (title, reasons) in missing {
        let why = reasons.join("; ");
        push(&mut out, format_args!("<p class=\"missing\">{title} is not drawn: {}.</p>\n", escape(&why)));
    }
    out.push_str("</section>\n");
    out
}

/// One figure of a measure, its unit chosen for all panels alike.
fn against_length(study: &Study, measure: &Measure) -> String {
    let values = study.cells.iter().filter_map(|cell| (measure.of)(cell).value());
    let unit = measure.quantity.unit(values.fold(0.0, f64::max));
    let show = |value: f64| shown(measure.quantity, value, unit.size);
    let panels = study.tasks.iter().enumerate().map(|(index, task)| {
        let cells = study.task(task);
        let values: Vec<f64> =
            cells.iter().filter_map(|cell| Some((measure.of)(cell).value()? / unit.size)).collect();
        let title = match measure.quantity {
            Quantity::Score => scores(&cells),
            _ => format!("{} ({})", measure.axis, unit.name),
        };
        let y = match measure.quantity {
            Quantity::Score => Axis::around(&title, &values),
            _ => Axis::from_zero(&title, &values),
        };
        let lengths: Vec<f64> = cells.iter().map(|cell| cell.max_source_length as f64).collect();
        let series = lines(
            study,
            task,
            |cell| {
                let (value, mark) = (measure.of)(cell).marked()?;
                let says = format!(
                    "{}, {} tokens: {} {}",
                    study.varying.row(cell),
                    cell.max_source_length,
                    show(value),
                    unit.name
                );
                Some(Point { x: cell.max_source_length as f64, y: value / unit.size, mark, says, tag: None })
            },
            |cells| {
                let (value, mark) = mean(cells, measure.of).marked()?;
                Some((cells[0].max_source_length as f64, value / unit.size, mark))
            },
        );
        Plot {
            id: format!("{}-{index}", measure.id),
            title: format!("{} against input length, {task}", measure.title),
            description: description(&series),
            x: Axis::lengths("input length (tokens)", &lengths),
            y,
            series,
        }
    });
    let panels: Vec<Plot> = panels.collect();
    let unit_note = if unit.name.is_empty() { String::new() } else { format!(" ({})", unit.name) };
    let numbers = by_length(study, &format!("{}{unit_note}", measure.title), measure.of, show);
    figure(study, measure.id, &format!("{} by input length", measure.title), measure.note, &panels, &numbers)
}

/// The points of every series of a task, and the line through them: per length, the mean over seeds.
fn lines(
    study: &Study,
    task: &str,
    point: impl Fn(&Cell) -> Option<Point>,
    corner: impl Fn(&[&Cell]) -> Option<(f64, f64, Mark)>,
) -> Vec<Series> {
    let of_series = |(style, name): (usize, &String)| {
        let run = study.run(task, name);
        let points: Vec<Point> = run.iter().filter_map(|cell| point(cell)).collect();
        let by_length = run.chunk_by(|a, b| a.max_source_length == b.max_source_length);
        let line = by_length.filter_map(&corner).collect();
        Series { name: name.clone(), style, points, line }
    };
    let series = study.series.iter().enumerate().map(of_series);
    series.filter(|series| !series.points.is_empty()).collect()
}

fn description(series: &[Series]) -> String {
    let points = series.iter().flat_map(|series| &series.points);
    let says: Vec<_> = points
        .map(|point| match point.mark {
            Mark::Measured => point.says.clone(),
            Mark::Predicted => format!("{} (predicted)", point.says),
        })
        .collect();
    says.join("; ")
}

/// The axis title of a task's scores.
fn scores(cells: &[&Cell]) -> String {
    let metrics = distinct(cells.iter().map(|cell| cell.headline_metric.label()));
    match metrics[..] {
        [one] => format!("{one} (of 100)"),
        _ => "score (of 100)".into(),
    }
}

fn shown(quantity: Quantity, value: f64, unit: f64) -> String {
    match quantity {
        Quantity::Score => decimals(value, 2),
        _ => significant(value / unit),
    }
}

/// A figure's numbers: one row per series and dataset, one column per length.
fn by_length(
    study: &Study,
    caption: &str,
    of: fn(&Cell) -> &Reading,
    show: impl Fn(f64) -> String,
) -> String {
    let lengths = study.lengths();
    let mut titles = vec!["model".to_string(), "dataset".into()];
    titles.extend(lengths.iter().map(|length| length.to_string()));
    let mut notes = Footnotes::default();
    let mut rows = Vec::new();
    for task in &study.tasks {
        for series in &study.series {
            let run = study.run(task, series);
            if run.is_empty() {
                continue;
            }
            let mut row = vec![escape(series), escape(task)];
            for length in &lengths {
                let here = run.iter().filter(|cell| cell.max_source_length == *length);
                let fields: Vec<_> = here.map(|cell| notes.reading(of(cell), &show)).collect();
                row.push(if fields.is_empty() { "–".into() } else { fields.join(", ") });
            }
            rows.push(row);
        }
    }
    table(caption, &titles, 2, &rows) + &notes.html()
}

fn figure(study: &Study, id: &str, title: &str, note: &str, panels: &[Plot], numbers: &str) -> String {
    let mut out = format!(
        "<figure id=\"figure-{id}\"><figcaption><h3>{title}</h3><p>{note}</p></figcaption>{}<div class=\"panels\">",
        legend(panels)
    );
    for (plot, task) in panels.iter().zip(&study.tasks) {
        // A single dataset is named at the top of the page.
        let name = match panels {
            [_] => String::new(),
            _ => format!("<h4>{}</h4>", escape(task)),
        };
        push(&mut out, format_args!("<div class=\"panel\">{name}{}</div>", svg(plot)));
    }
    push(&mut out, format_args!("</div><details><summary>Numbers</summary>{numbers}</details></figure>\n"));
    out
}

/// The series that occur in the panels, and what hollow markers and the lines mean where it matters.
fn legend(panels: &[Plot]) -> String {
    let all: Vec<&Series> = panels.iter().flat_map(|plot| &plot.series).collect();
    let mut entries = distinct(all.iter().map(|series| (series.style, series.name.as_str())));
    entries.sort_unstable();
    let mut out = String::from("<ul class=\"legend\" aria-label=\"Legend\">");
    for (style, name) in entries {
        push(&mut out, format_args!("<li>{}{}</li>", swatch(style, Mark::Measured), escape(name)));
    }
    let points = all.iter().flat_map(|series| &series.points);
    if points.clone().any(|point| point.mark == Mark::Predicted) {
        out.push_str("<li class=\"mark\">hollow, dashed: predicted</li>");
    }
    if all.iter().any(|series| series.points.len() > series.line.len()) {
        out.push_str("<li class=\"mark\">line: mean over seeds</li>");
    }
    out.push_str("</ul>");
    out
}
