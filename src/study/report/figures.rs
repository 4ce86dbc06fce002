//! The figures: each a set of panels (one per dataset), a legend, its numbers as a table, words, and files to keep.

mod by_length;
mod download;
mod pareto;
mod phases;
mod total_cost;
mod trade_off;

use super::{Study, distinct};
use crate::markup::{escape, push};
use crate::metrics::Headline;
use crate::plot::{Plot, Point, Series, svg, swatch};
use crate::reading::Mark;
use crate::study::results::{Cell, Metric, SCORE};
use crate::study::trade_off::{Choice, choices};
use crate::table::{Column, Table};
use crate::units::Unit;

pub use total_cost::sentence as break_even;

/// All figures, each with what it shows or why it shows nothing.
pub fn section(study: &Study) -> String {
    let mut out = String::from(
        "<section id=\"figures\" aria-labelledby=\"figures-title\">\n<h2 id=\"figures-title\">Figures</h2>\n",
    );
    if study.cells.is_empty() {
        out.push_str("<p>No cell has been run yet.</p>\n</section>\n");
        return out;
    }
    out.push_str(
        "<p class=\"note\">Figures 1 to 6 are those of Ang et al. 2022 (arXiv 2204.07288), drawn from the cells \
         of this study.</p>\n",
    );
    out.push_str("<div class=\"figures\">\n");
    out.push_str(&by_length::accuracy(study));
    out.push_str(&trade_off::figures(study));
    out.push_str(&by_length::costs(study));
    out.push_str("</div>\n<h3 class=\"group\">What is worth its cost</h3>\n");
    out.push_str("<div class=\"figures\">\n");
    out.push_str(&pareto::figures(study));
    out.push_str(&total_cost::figure(study));
    out.push_str("</div>\n");
    out.push_str(&phases::figures(study));
    out.push_str("</section>\n");
    out
}

/// A figure before it is written.
struct Figure<'a> {
    /// Unique in the page.
    id: &'a str,
    title: &'a str,
    /// HTML.
    note: &'a str,
    /// With their headings.
    panels: Vec<(String, Plot)>,
    /// What is drawn: below the panels, and as a file to keep.
    numbers: Table,
    /// HTML below the panels.
    below: String,
}

impl Figure<'_> {
    fn html(&self) -> String {
        let Figure { id, title, note, panels, numbers, below } = self;
        let plots: Vec<&Plot> = panels.iter().map(|(_, plot)| plot).collect();
        let class = match panels.len() {
            0 | 1 => "",
            // Four panels stand two by two rather than three and one.
            2 | 4 => " class=\"wide pairs\"",
            _ => " class=\"wide\"",
        };
        let mut out = format!(
            "<figure id=\"figure-{id}\"{class}><figcaption><h3>{title}</h3><p>{note}</p></figcaption>{}<div class=\"panels\">",
            legend(&plots)
        );
        for (heading, plot) in panels {
            let heading = match heading.is_empty() {
                true => String::new(),
                false => format!("<h4>{}</h4>", escape(heading)),
            };
            push(&mut out, format_args!("<div class=\"panel\">{heading}{}</div>", svg(plot)));
        }
        let (files, numbers) = (download::links(id, panels, &numbers.csv()), numbers.html(title));
        push(
            &mut out,
            format_args!(
                "</div><div class=\"below\">{below}{files}<details><summary>Numbers</summary>{numbers}</details></div></figure>\n"
            ),
        );
        out
    }
}

/// The headings of a figure with one panel per task: a single dataset is named at the top of the page.
fn heading(study: &Study, task: &str) -> String {
    if study.tasks.len() > 1 { task.into() } else { String::new() }
}

/// A figure that cannot be drawn, and why.
fn absent(id: &str, title: &str, why: &str, instead: &str) -> String {
    format!(
        "<figure id=\"figure-{id}\" class=\"absent-figure\"><figcaption><h3>{title}</h3><p>Not drawn: {}. {instead}</p></figcaption></figure>\n",
        escape(why.trim_end_matches('.'))
    )
}

/// The reasons for which no cell has a number.
fn reasons<'a>(cells: impl IntoIterator<Item = &'a Cell>, metric: &Metric) -> String {
    distinct(cells.into_iter().filter_map(|cell| (metric.of)(cell).why())).join("; ")
}

/// Whether any cell has both a score and a number of `cost`.
fn is_drawn<'a>(cells: impl IntoIterator<Item = &'a Cell>, cost: &Metric) -> bool {
    cells.into_iter().any(|cell| (cost.of)(cell).value().is_some() && cell.headline().value().is_some())
}

/// Scores against `cost` in `unit`, a point for every cell of a task; with `joined`, a line through the lengths of each
/// series.
fn against(study: &Study, task: &str, cost: &Metric, unit: Option<Unit>, joined: bool) -> Vec<Series> {
    let size = unit.map_or(1.0, |unit| unit.size);
    let title = cost.titled(unit);
    lines(
        study,
        task,
        |cell| {
            let (score, mark) = cell.headline().marked()?;
            let (spent, cost_mark) = (cost.of)(cell).marked()?;
            let says = format!(
                "{}, {} tokens: score {}, {title} {}",
                study.varying.row(cell),
                cell.max_source_length,
                SCORE.format.shown(score, None),
                cost.format.shown(spent, unit)
            );
            let tag = Some(cell.max_source_length.to_string());
            Some(Point { x: spent / size, y: score, mark: both(mark, cost_mark), says, tag })
        },
        |choice| {
            let (score, mark) = choice.score().marked()?;
            let (spent, cost_mark) = choice.mean(cost).marked()?;
            joined.then_some((spent / size, score, both(mark, cost_mark)))
        },
    )
}

/// The points of every series of a task, and the line through them: per length, the mean over seeds.
fn lines(
    study: &Study,
    task: &str,
    point: impl Fn(&Cell) -> Option<Point>,
    corner: impl Fn(&Choice) -> Option<(f64, f64, Mark)>,
) -> Vec<Series> {
    let of_task: Vec<Choice> =
        choices(study.cells).into_iter().filter(|choice| choice.task == task).collect();
    let of_series = |(style, name): (usize, &String)| {
        let points: Vec<Point> = study.run(task, name).iter().filter_map(|cell| point(cell)).collect();
        let mut along: Vec<&Choice> = of_task.iter().filter(|choice| choice.series == *name).collect();
        along.sort_by_key(|choice| choice.length);
        let line = along.into_iter().filter_map(&corner).collect();
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

/// Predicted if either is.
fn both(one: Mark, other: Mark) -> Mark {
    if one == Mark::Measured { other } else { one }
}

/// The numbers behind a figure, one row per cell.
fn numbers<'a>(study: &Study, cells: impl IntoIterator<Item = &'a Cell>, metrics: &[Metric]) -> Table {
    let mut columns = vec![
        Column::file("model", |c: &Cell| study.varying.series(c)),
        Column::words("model", |c: &Cell| study.varying.row(c)),
        Column::words("dataset", |c: &Cell| c.dataset.clone()).key("dataset"),
        Column::size("tokens", |c: &Cell| c.max_source_length).key("max_source_length"),
        Column::file("seed", |c: &Cell| c.seed),
        Column::file("protocol", |c: &Cell| c.protocol.clone()),
        Column::file("weights", |c: &Cell| c.weights.name()),
    ];
    columns.extend(metrics.iter().map(Metric::column));
    Table::new(&columns, cells)
}

/// Whether a task is question answering: its figure is the fifth.
fn is_answers(cells: &[&Cell]) -> bool {
    cells.iter().any(|cell| cell.headline_metric == Headline::F1)
}

/// The series that occur in the panels, and what hollow markers and the lines mean where it matters.
fn legend(panels: &[&Plot]) -> String {
    let all: Vec<&Series> = panels.iter().flat_map(|plot| &plot.series).collect();
    let named = all.iter().filter(|series| !series.points.is_empty());
    let mut entries = distinct(named.map(|series| (series.style, series.name.as_str())));
    entries.sort_unstable();
    let mut out = String::from("<ul class=\"legend\" aria-label=\"Legend\">");
    for (style, name) in entries {
        push(&mut out, format_args!("<li>{}{}</li>", swatch(style, Mark::Measured), escape(name)));
    }
    let points = all.iter().flat_map(|series| &series.points);
    if points.clone().any(|point| point.mark == Mark::Predicted) {
        out.push_str("<li class=\"mark\">hollow, dashed: predicted</li>");
    }
    if all.iter().any(|series| !series.line.is_empty() && series.points.len() > series.line.len()) {
        out.push_str("<li class=\"mark\">line: mean over seeds</li>");
    }
    out.push_str("</ul>");
    out
}
