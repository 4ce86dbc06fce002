//! Figures against input length: accuracy with its intervals, and the sixth figure, what training takes.

use super::{Figure, absent, csv, description, heading, lines, numbers, reasons, scores, shown};
use crate::study::markup::{Quantity, decimals};
use crate::study::plots::{Axis, Plot, Point, Series};
use crate::study::report::Study;
use crate::study::results::{Cell, Mark, Reading};
use crate::study::trade_off::{choices, mean};

/// A quantity drawn against input length.
struct Measure {
    id: &'static str,
    title: &'static str,
    note: &'static str,
    axis: &'static str,
    column: &'static str,
    quantity: Quantity,
    of: fn(&Cell) -> &Reading,
}

const ACCURACY: Measure = Measure {
    id: "accuracy",
    title: "Accuracy by input length",
    note: "Higher is better. Bars are 95 % intervals; the axis may start above zero.",
    axis: "score",
    column: "score",
    quantity: Quantity::Score,
    of: Cell::headline,
};

/// The sixth figure, in three parts.
const COSTS: [Measure; 3] = [
    Measure {
        id: "utilisation",
        title: "Figure 6a. Utilisation by input length",
        note: "Share of the time in which the device computed.",
        axis: "utilisation (percent)",
        column: "utilisation_percent",
        quantity: Quantity::Score,
        of: |c| &c.utilisation_percent,
    },
    Measure {
        id: "memory",
        title: "Figure 6b. Peak memory by input length",
        note: "Lower is better. Measured in training, or planned where it was not.",
        axis: "peak memory",
        column: "peak_bytes",
        quantity: Quantity::Memory,
        of: Cell::peak_bytes,
    },
    Measure {
        id: "training-time",
        title: "Figure 6c. Training time by input length",
        note: "Lower is better. The whole training run, without evaluations.",
        axis: "training time",
        column: "train_seconds",
        quantity: Quantity::Time,
        of: |c| &c.train_seconds,
    },
];

pub fn accuracy(study: &Study) -> String {
    figure(study, &ACCURACY)
}

pub fn costs(study: &Study) -> String {
    COSTS.iter().map(|measure| figure(study, measure)).collect()
}

/// One figure of a measure, its unit chosen for all panels alike.
fn figure(study: &Study, measure: &Measure) -> String {
    let of = |cell: &Cell| (measure.of)(cell).clone();
    if study.cells.iter().all(|cell| of(cell).value().is_none()) {
        return absent(measure.id, measure.title, &reasons(study.cells.iter(), of), "");
    }
    let values = study.cells.iter().filter_map(|cell| of(cell).value());
    let unit = measure.quantity.unit(values.fold(0.0, f64::max));
    let show = |value: f64| shown(measure.quantity, value, unit.size);
    let is_score = measure.id == ACCURACY.id;
    let panels = study.tasks.iter().enumerate().map(|(index, task)| {
        let cells = study.task(task);
        let mut values: Vec<f64> =
            cells.iter().filter_map(|cell| Some(of(cell).value()? / unit.size)).collect();
        let lengths: Vec<f64> = cells.iter().map(|cell| cell.max_source_length as f64).collect();
        let mut series = lines(
            study,
            task,
            |cell| {
                let (value, mark) = of(cell).marked()?;
                let says = says(study, cell, &show(value), unit.name, is_score);
                Some(Point { x: cell.max_source_length as f64, y: value / unit.size, mark, says, tag: None })
            },
            |choice| {
                let (value, mark) = mean(&choice.cells, of).marked()?;
                Some((choice.length as f64, value / unit.size, mark))
            },
        );
        if is_score {
            let bars = intervals(study, task);
            values.extend(bars.iter().flat_map(|bar| bar.line.iter().map(|(_, y, _)| *y)));
            series.splice(0..0, bars);
        }
        let y = match (is_score, measure.quantity) {
            (true, _) => Axis::scores(&scores(&cells), &values),
            (_, Quantity::Score) => Axis::from_zero(measure.axis, &values),
            _ => Axis::from_zero(&format!("{} ({})", measure.axis, unit.name), &values),
        };
        let plot = Plot {
            id: format!("{}-{index}", measure.id),
            title: format!("{}, {task}", measure.title),
            description: description(&series),
            x: Axis::lengths("input length (tokens)", &lengths),
            y,
            series,
        };
        (heading(study, task), plot)
    });
    let title = match unit.name {
        "" => measure.axis.to_string(),
        name => format!("{} ({name})", measure.axis),
    };
    let low = |cell: &Cell| cell.score_low.clone();
    let high = |cell: &Cell| cell.score_high.clone();
    let mut columns: Vec<super::Column> = vec![(&title, &of, &show)];
    let mut file: Vec<super::FileColumn> = vec![(measure.column, &of)];
    if is_score {
        columns.extend([
            ("from", &low as &dyn Fn(&Cell) -> Reading, &show as &dyn Fn(f64) -> String),
            ("to", &high, &show),
        ]);
        file.extend([("score_low", &low as &dyn Fn(&Cell) -> Reading), ("score_high", &high)]);
    }
    Figure {
        id: measure.id,
        title: measure.title,
        note: measure.note,
        panels: panels.collect(),
        numbers: numbers(study, measure.title, study.cells.iter(), &columns),
        csv: csv(study, &file),
        below: String::new(),
    }
    .html()
}

fn says(study: &Study, cell: &Cell, value: &str, unit: &str, is_score: bool) -> String {
    let name = format!("{}, {} tokens", study.varying.row(cell), cell.max_source_length);
    let interval = cell.interval().filter(|_| is_score).map_or(String::new(), |i| {
        format!(" (95 % interval {} to {})", decimals(i.low, 2), decimals(i.high, 2))
    });
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
