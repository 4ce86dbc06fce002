//! Figures against input length: accuracy with its intervals, and the sixth figure, what training takes.

use super::{Figure, absent, description, heading, lines, numbers, reasons, scores};
use crate::plot::{Axis, Plot, Point, Series};
use crate::reading::Mark;
use crate::study::report::Study;
use crate::study::results::{
    Cell, Metric, PEAK_MEMORY, SCORE, SCORE_HIGH, SCORE_LOW, TRAIN_TIME, UTILISATION,
};
use crate::study::trade_off::choices;

/// A metric drawn against input length.
struct Drawn {
    id: &'static str,
    title: &'static str,
    note: &'static str,
    metric: Metric,
}

const ACCURACY: Drawn = Drawn {
    id: "accuracy",
    title: "Accuracy by input length",
    note: "Higher is better. Bars are 95 % intervals; the axis may start above zero.",
    metric: SCORE,
};

/// The sixth figure, in three parts.
const COSTS: [Drawn; 3] = [
    Drawn {
        id: "utilisation",
        title: "Figure 6a. Utilisation by input length",
        note: "Share of the time in which the device computed.",
        metric: UTILISATION,
    },
    Drawn {
        id: "memory",
        title: "Figure 6b. Peak memory by input length",
        note: "Lower is better. Measured in training, or planned where it was not.",
        metric: PEAK_MEMORY,
    },
    Drawn {
        id: "training-time",
        title: "Figure 6c. Training time by input length",
        note: "Lower is better. The whole training run, without evaluations.",
        metric: TRAIN_TIME,
    },
];

pub fn accuracy(study: &Study) -> String {
    figure(study, &ACCURACY)
}

pub fn costs(study: &Study) -> String {
    COSTS.iter().map(|drawn| figure(study, drawn)).collect()
}

/// One figure of a metric, its unit chosen for all panels alike.
fn figure(study: &Study, Drawn { id, title, note, metric }: &Drawn) -> String {
    if study.cells.iter().all(|cell| (metric.of)(cell).value().is_none()) {
        return absent(id, title, &reasons(study.cells, metric), "");
    }
    let unit = metric.unit(study.cells);
    let size = unit.map_or(1.0, |unit| unit.size);
    let is_score = metric.key == SCORE.key;
    let panels = study.tasks.iter().enumerate().map(|(index, task)| {
        let cells = study.task(task);
        let mut values: Vec<f64> =
            cells.iter().filter_map(|cell| Some((metric.of)(cell).value()? / size)).collect();
        let lengths: Vec<f64> = cells.iter().map(|cell| cell.max_source_length as f64).collect();
        let mut series = lines(
            study,
            task,
            |cell| {
                let (value, mark) = (metric.of)(cell).marked()?;
                let unit_name = unit.map_or("", |unit| unit.name);
                let says = says(study, cell, &metric.format.shown(value, unit), unit_name, is_score);
                Some(Point { x: cell.max_source_length as f64, y: value / size, mark, says, tag: None })
            },
            |choice| {
                let (value, mark) = choice.mean(metric).marked()?;
                Some((choice.length as f64, value / size, mark))
            },
        );
        if is_score {
            let bars = intervals(study, task);
            values.extend(bars.iter().flat_map(|bar| bar.line.iter().map(|(_, y, _)| *y)));
            series.splice(0..0, bars);
        }
        let y = match is_score {
            true => Axis::scores(&scores(&cells), &values),
            false => Axis::from_zero(&metric.titled(unit), &values),
        };
        let plot = Plot {
            id: format!("{id}-{index}"),
            title: format!("{title}, {task}"),
            description: description(&series),
            x: Axis::lengths("input length (tokens)", &lengths),
            y,
            series,
        };
        (heading(study, task), plot)
    });
    let mut columns = vec![*metric];
    if is_score {
        columns.extend([SCORE_LOW, SCORE_HIGH]);
    }
    let numbers = numbers(study, study.cells, &columns);
    Figure { id, title, note, panels: panels.collect(), numbers, below: String::new() }.html()
}

fn says(study: &Study, cell: &Cell, value: &str, unit: &str, is_score: bool) -> String {
    let name = format!("{}, {} tokens", study.varying.row(cell), cell.max_source_length);
    let interval =
        cell.interval().filter(|_| is_score).map_or(String::new(), |i| format!(" (95 % interval {i})"));
    format!("{name}: {value} {unit}").trim_end().to_string() + &interval
}

/// A bar from end to end of each choice's interval, in the colour of its series.
fn intervals(study: &Study, task: &str) -> Vec<Series> {
    let of_task = choices(study.cells).into_iter().filter(|choice| choice.task == task);
    let bars = of_task.filter_map(|choice| {
        let interval = choice.interval()?;
        let style = study.series.iter().position(|name| *name == choice.series)?;
        let x = choice.length as f64;
        let line = vec![(x, interval.low, Mark::Measured), (x, interval.high, Mark::Measured)];
        Some(Series { name: choice.series, style, points: Vec::new(), line })
    });
    bars.collect()
}
