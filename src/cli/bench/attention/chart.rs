//! Throughput against length, a line for each kind and pass.

use crate::bench::attention::Row;
use crate::plot::{self, Axis, Plot, Point, Series};
use crate::reading::Mark;
use crate::units::Seconds;

/// The text of an SVG file.
pub fn chart(rows: &[Row], device: &str) -> String {
    let names: Vec<String> = rows.iter().map(|row| name(row, rows)).collect();
    let mut series: Vec<Series> = Vec::new();
    for (row, name) in rows.iter().zip(&names) {
        let at = series.iter().position(|series| series.name == *name).unwrap_or_else(|| {
            let (style, points, line) = (series.len(), Vec::new(), Vec::new());
            series.push(Series { name: name.clone(), style, points, line });
            series.len() - 1
        });
        let (x, y) = (row.length as f64, row.gflops_per_second);
        let says = format!("{name}: {x} tokens, {y:.1} GFLOP/s, {}", Seconds(row.quantiles.median_s));
        series[at].points.push(Point { x, y, mark: Mark::Measured, says, tag: None });
    }
    for series in &mut series {
        series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
        series.line = series.points.iter().map(|point| (point.x, point.y, point.mark)).collect();
    }
    let points = || series.iter().flat_map(|series| &series.points);
    let lengths: Vec<f64> = points().map(|point| point.x).collect();
    let rates: Vec<f64> = points().map(|point| point.y).collect();
    let plot = Plot {
        id: "attention".into(),
        title: format!("Attention on {device}"),
        description:
            "Floating-point operations a second inside each pattern, against the length of the input.".into(),
        x: Axis::lengths("tokens", &lengths),
        y: Axis::from_zero("GFLOP/s", &rates),
        series,
    };
    plot::file(&plot)
}

/// Kind and pass, and whatever else differs among the rows of that kind.
fn name(row: &Row, rows: &[Row]) -> String {
    let varies = |of: fn(&Row) -> String| {
        let alike = rows.iter().filter(|other| other.kind == row.kind);
        alike.clone().any(|other| of(other) != of(row)).then(|| of(row))
    };
    let parts = [
        Some(format!("{} {}", row.kind.name(), row.pass.name())),
        varies(|row| row.pattern.clone()),
        varies(|row| format!("{} heads of {}", row.heads, row.head_size)),
        varies(|row| format!("batch {}", row.batch_size)),
        varies(|row| row.precision.to_string()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
