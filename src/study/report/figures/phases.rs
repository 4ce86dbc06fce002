//! Where training's energy and time go: a bar for every model and length, divided by phase.

use super::download::link;
use super::{absent, distinct};
use crate::markup::{escape, push};
use crate::reading::Reading;
use crate::study::report::Study;
use crate::study::results::{Cell, PhaseTime};
use crate::table::{Column, Table};
use crate::units::{Format, Quantity, decimals, significant};

/// Phases with a colour of their own; the rest is one more.
const NAMED: usize = 7;
const WIDTH: f64 = 800.0;
const BAR: f64 = 22.0;
const ROW: f64 = 44.0;

/// What the bars divide.
struct Divided {
    id: &'static str,
    title: &'static str,
    note: &'static str,
    /// What has no colour of its own.
    others: &'static str,
    column: &'static str,
    quantity: Quantity,
    of: fn(&PhaseTime) -> &Reading,
    /// What the phases divide, where it is more than their sum.
    whole: Option<fn(&Cell) -> f64>,
}

const ENERGY: Divided = Divided {
    id: "phase-energy",
    title: "Training energy by phase",
    note: "Forward and backward pass together, of the training steps: the counter's changes divided by what ran \
           between them; the bars are the whole of each.",
    others: "others, or not told apart",
    column: "joules",
    quantity: Quantity::Energy,
    of: |phase| &phase.energy_joules,
    whole: Some(|cell| {
        let parts: f64 = cell.phases.iter().filter_map(|phase| phase.energy_joules.value()).sum();
        // The parts of a fit may exceed what they divide.
        if parts > 0.0 { cell.phases_energy_joules.value().unwrap_or(0.0).max(parts) } else { 0.0 }
    }),
};

const TIME: Divided = Divided {
    id: "phases",
    title: "Training time by phase",
    note: "Forward and backward pass together, of the training steps, by the processor's clock; the bars are the \
           whole of each.",
    others: "all others",
    column: "seconds",
    quantity: Quantity::Time,
    of: |phase| &phase.seconds,
    whole: None,
};

pub fn figures(study: &Study) -> String {
    if study.cells.iter().all(|cell| cell.phases.is_empty()) {
        let why = "phases are timed while training on the CPU, and in one go; on a GPU `wattention profile` tells them";
        return absent(TIME.id, "Training energy and time by phase", why, "");
    }
    let energy = match bars(study, &ENERGY) {
        Some(figure) => figure,
        None => {
            let cells = study.cells.iter().filter(|cell| !cell.phases.is_empty());
            let whole = distinct(cells.clone().filter_map(|cell| cell.phases_energy_joules.why()));
            let why = match whole.is_empty() {
                true => "the counter tells no phase from the others in steps so few".to_string(),
                false => whole.join("; "),
            };
            absent(ENERGY.id, ENERGY.title, &why, "Shown instead: training time by phase.")
        }
    };
    energy + &bars(study, &TIME).unwrap_or_default()
}

/// None where no cell has a number.
fn bars(study: &Study, what: &Divided) -> Option<String> {
    let mut seen = Vec::new();
    let mut cells: Vec<&Cell> = Vec::new();
    for cell in study.cells.iter().filter(|cell| total(what, cell) > 0.0) {
        let key = (study.varying.series(cell), &cell.dataset, cell.max_source_length);
        if !seen.contains(&key) {
            seen.push(key);
            cells.push(cell);
        }
    }
    if cells.is_empty() {
        return None;
    }
    let mut phases = distinct(cells.iter().flat_map(|cell| cell.phases.iter().map(|p| p.phase.clone())));
    phases.retain(|phase| cells.iter().any(|cell| of(what, cell, phase) > 0.0));
    let share = |phase: &str| cells.iter().map(|cell| of(what, cell, phase) / total(what, cell)).sum::<f64>();
    phases.sort_by(|a, b| share(b).total_cmp(&share(a)));
    phases.truncate(NAMED);
    let rows: Vec<Row> = cells.iter().map(|cell| Row::of(study, what, cell, &phases)).collect();
    let height = ROW * rows.len() as f64;
    let Divided { id, title, note, others, .. } = what;
    let all: Vec<String> = rows.iter().map(Row::text).collect();
    let mut drawn = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" class=\"bars\" \
         aria-labelledby=\"{id}-title {id}-desc\" font-size=\"13\"><title id=\"{id}-title\">{title}</title>\
         <desc id=\"{id}-desc\">{}</desc>",
        escape(&all.join("; "))
    );
    rows.iter().enumerate().for_each(|(at, row)| row.draw(&mut drawn, at as f64 * ROW));
    drawn.push_str("</svg>");
    let mut legend = String::from("<ul class=\"legend\" aria-label=\"Legend, from left to right\">");
    let rest = rows.iter().any(|row| row.parts.iter().any(|(name, share)| name == others && *share >= 0.005));
    let named = phases.iter().map(String::as_str).chain(rest.then_some(*others));
    for (slot, phase) in named.enumerate() {
        push(
            &mut legend,
            format_args!(
                "<li><span class=\"patch\" style=\"background:var(--s{slot})\"></span>{}</li>",
                escape(phase)
            ),
        );
    }
    legend.push_str("</ul>");
    Some(format!(
        "<figure id=\"figure-{id}\" class=\"phases\"><figcaption><h3>{title}</h3><p>{note}</p></figcaption>{legend}\
         <div class=\"panel full\">{drawn}</div><div class=\"below\"><p class=\"downloads\">Keep: {} {}</p>\
         <details><summary>Numbers</summary>{}</details></div></figure>\n",
        link(&format!("{id}.csv"), "CSV", "text/csv", &csv(study, what, &cells)),
        link(&format!("{id}.svg"), "SVG", "image/svg+xml", &alone(&drawn)),
        numbers(what, &cells, &rows),
    ))
}

fn of(what: &Divided, cell: &Cell, phase: &str) -> f64 {
    cell.phases.iter().filter(|p| p.phase == phase).filter_map(|p| (what.of)(p).value()).sum()
}

fn total(what: &Divided, cell: &Cell) -> f64 {
    match what.whole {
        Some(whole) => whole(cell),
        None => cell.phases.iter().filter_map(|p| (what.of)(p).value()).sum(),
    }
}

fn percent(share: f64) -> String {
    format!("{} %", decimals(100.0 * share, 0))
}

/// A bar: shares in the order of the legend, what has no colour of its own last.
struct Row {
    label: String,
    whole: String,
    model: String,
    parts: Vec<(String, f64)>,
}

impl Row {
    fn of(study: &Study, what: &Divided, cell: &Cell, phases: &[String]) -> Self {
        let dataset = if study.tasks.len() > 1 { format!(", {}", cell.dataset) } else { String::new() };
        let model = study.varying.series(cell);
        let whole = total(what, cell);
        let unit = what.quantity.unit(whole);
        let mut parts: Vec<(String, f64)> =
            phases.iter().map(|phase| (phase.clone(), of(what, cell, phase) / whole)).collect();
        let named: f64 = parts.iter().map(|(_, share)| share).sum();
        parts.push((what.others.into(), (1.0 - named).max(0.0)));
        Row {
            label: format!("{model}, {} tokens{dataset}", cell.max_source_length),
            whole: format!("{} {}", significant(whole / unit.size), unit.name),
            model,
            parts,
        }
    }

    fn text(&self) -> String {
        let shares = self.parts.iter().map(|(phase, share)| format!("{phase} {}", percent(*share)));
        format!("{}: {}", self.label, shares.collect::<Vec<_>>().join(", "))
    }

    /// A bar as wide as the drawing.
    fn draw(&self, out: &mut String, top: f64) {
        push(
            out,
            format_args!(
                "<text x=\"0\" y=\"{:.1}\" style=\"fill:var(--ink,#111)\">{}</text><text x=\"{WIDTH}\" y=\"{:.1}\" \
                 text-anchor=\"end\" style=\"fill:var(--faint,#555)\">{}</text>",
                top + 13.0,
                escape(&self.label),
                top + 13.0,
                self.whole
            ),
        );
        let mut x = 0.0;
        for (slot, (phase, share)) in self.parts.iter().enumerate() {
            let width = WIDTH * share;
            let says = format!("{}: {phase} {}", self.label, percent(*share));
            if width > 0.05 {
                push(
                    out,
                    format_args!(
                        "<rect x=\"{x:.2}\" y=\"{:.1}\" width=\"{width:.2}\" height=\"{BAR}\" \
                         style=\"fill:var(--s{slot},#777);stroke:var(--paper,#fff)\"><title>{}</title></rect>",
                        top + 18.0,
                        escape(&says)
                    ),
                );
            }
            x += width;
        }
    }
}

/// The drawing for a file of its own.
fn alone(drawn: &str) -> String {
    const COLOURS: [&str; 8] =
        ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D", "#B8A800"];
    let mut out = drawn.replacen("<svg ", "<svg font-family=\"sans-serif\" ", 1);
    for (slot, colour) in COLOURS.iter().enumerate() {
        out = out.replace(&format!("var(--s{slot},#777)"), colour);
    }
    out
}

/// Every phase and pass, as a file.
fn csv(study: &Study, what: &Divided, cells: &[&Cell]) -> String {
    let rows: Vec<(&Cell, &PhaseTime)> =
        cells.iter().flat_map(|cell| cell.phases.iter().map(|phase| (*cell, phase))).collect();
    let columns = [
        Column::file("model", |(cell, _): &(&Cell, &PhaseTime)| study.varying.series(cell)),
        Column::file("dataset", |(cell, _): &(&Cell, &PhaseTime)| cell.dataset.clone()),
        Column::file("max_source_length", |(cell, _): &(&Cell, &PhaseTime)| cell.max_source_length),
        Column::file("phase", |(_, phase): &(&Cell, &PhaseTime)| phase.phase.clone()),
        Column::file("pass", |(_, phase): &(&Cell, &PhaseTime)| phase.pass.clone()),
        Column::file(what.column, |(_, phase): &(&Cell, &PhaseTime)| (what.of)(phase).clone()),
    ];
    Table::new(&columns, &rows).csv()
}

/// The shares of every bar.
fn numbers(what: &Divided, cells: &[&Cell], rows: &[Row]) -> String {
    let rows: Vec<(&Cell, &Row)> = cells.iter().copied().zip(rows).collect();
    let mut columns = vec![
        Column::words("model", |(_, row): &(&Cell, &Row)| row.model.clone()),
        Column::words("dataset", |(cell, _): &(&Cell, &Row)| cell.dataset.clone()),
        Column::size("tokens", |(cell, _): &(&Cell, &Row)| cell.max_source_length),
        Column::size("whole", |(_, row): &(&Cell, &Row)| row.whole.clone()),
    ];
    let parts = rows.first().map_or(&[][..], |(_, row)| &row.parts);
    columns.extend(parts.iter().enumerate().map(|(at, (phase, _))| {
        Column::number(phase.as_str(), Format::Percent, move |(_, row): &(&Cell, &Row)| row.parts[at].1)
    }));
    Table::new(&columns, &rows).html(&format!("{}, shares", what.title))
}
