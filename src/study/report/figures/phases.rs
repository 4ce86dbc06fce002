//! Where training's time goes: a bar for every model and length, divided by phase.

use super::download::link;
use super::{absent, distinct};
use crate::study::markup::{decimals, escape, push};
use crate::study::report::Study;
use crate::study::report::tables::table;
use crate::study::results::{Cell, field};

/// Phases with a colour of their own; the rest is one more.
const NAMED: usize = 7;
const WIDTH: f64 = 800.0;
const BAR: f64 = 22.0;
const ROW: f64 = 44.0;

pub fn figure(study: &Study) -> String {
    let title = "Training time by phase";
    let mut seen = Vec::new();
    let mut cells: Vec<&Cell> = Vec::new();
    for cell in study.cells.iter().filter(|cell| total(cell) > 0.0) {
        let key = (study.varying.series(cell), &cell.dataset, cell.max_source_length);
        if !seen.contains(&key) {
            seen.push(key);
            cells.push(cell);
        }
    }
    if cells.is_empty() {
        let why = "phases are timed while training on the CPU, and in one go; on a GPU `wattention profile` tells them";
        return absent("phases", title, why, "");
    }
    let mut phases = distinct(cells.iter().flat_map(|cell| cell.phases.iter().map(|p| p.phase.clone())));
    let share = |phase: &str| cells.iter().map(|cell| of(cell, phase) / total(cell)).sum::<f64>();
    phases.sort_by(|a, b| share(b).total_cmp(&share(a)));
    let rest = phases.split_off(phases.len().min(NAMED));
    let height = ROW * cells.len() as f64;
    let describe = |cell: &Cell| {
        let shares = phases.iter().map(|p| format!("{p} {}", percent(of(cell, p) / total(cell))));
        format!("{}: {}", label(study, cell), shares.collect::<Vec<_>>().join(", "))
    };
    let all: Vec<String> = cells.iter().map(|cell| describe(cell)).collect();
    let mut drawn = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" class=\"bars\" \
         aria-labelledby=\"phases-title phases-desc\" font-size=\"13\"><title id=\"phases-title\">{title}</title>\
         <desc id=\"phases-desc\">{}</desc>",
        escape(&all.join("; "))
    );
    for (row, cell) in cells.iter().enumerate() {
        bar(&mut drawn, study, cell, (&phases, &rest), row as f64 * ROW);
    }
    drawn.push_str("</svg>");
    let mut legend = String::from("<ul class=\"legend\" aria-label=\"Legend, from left to right\">");
    let others = (!rest.is_empty()).then(|| "all others".to_string());
    for (slot, phase) in phases.iter().chain(&others).enumerate() {
        push(
            &mut legend,
            format_args!(
                "<li><span class=\"patch\" style=\"background:var(--s{slot})\"></span>{}</li>",
                escape(phase)
            ),
        );
    }
    legend.push_str("</ul>");
    format!(
        "<figure id=\"figure-phases\" class=\"phases\"><figcaption><h3>{title}</h3><p>Forward and backward pass together, with evaluations in between, \
         measured while training; the bars are the whole of each.</p></figcaption>{legend}<div class=\"panel full\">{drawn}\
         </div><div class=\"below\"><p class=\"downloads\">Keep: {} {}</p><details><summary>Numbers</summary>{}</details>\
         </div></figure>\n",
        link("phases.csv", "CSV", "text/csv", &csv(study, &cells)),
        link("phases.svg", "SVG", "image/svg+xml", &alone(&drawn)),
        numbers(study, &cells, &phases, &rest),
    )
}

fn label(study: &Study, cell: &Cell) -> String {
    let dataset = if study.tasks.len() > 1 { format!(", {}", cell.dataset) } else { String::new() };
    format!("{}, {} tokens{dataset}", study.varying.series(cell), cell.max_source_length)
}

fn of(cell: &Cell, phase: &str) -> f64 {
    cell.phases.iter().filter(|p| p.phase == phase).filter_map(|p| p.seconds.value()).sum()
}

fn total(cell: &Cell) -> f64 {
    cell.phases.iter().filter_map(|p| p.seconds.value()).sum()
}

fn percent(share: f64) -> String {
    format!("{} %", decimals(100.0 * share, 0))
}

/// A bar as wide as the drawing, its parts in the order of the legend.
fn bar(out: &mut String, study: &Study, cell: &Cell, (phases, rest): (&[String], &[String]), top: f64) {
    let seconds = crate::units::Seconds(total(cell));
    push(
        out,
        format_args!(
            "<text x=\"0\" y=\"{:.1}\" style=\"fill:var(--ink,#111)\">{}</text><text x=\"{WIDTH}\" y=\"{:.1}\" \
             text-anchor=\"end\" style=\"fill:var(--faint,#555)\">{seconds}</text>",
            top + 13.0,
            escape(&label(study, cell)),
            top + 13.0
        ),
    );
    let mut x = 0.0;
    let others: f64 = rest.iter().map(|phase| of(cell, phase)).sum();
    let parts = phases.iter().map(|phase| (phase.as_str(), of(cell, phase)));
    for (slot, (phase, time)) in parts.chain([("all others", others)]).enumerate() {
        let width = WIDTH * time / total(cell);
        let says = format!("{}: {phase} {}", label(study, cell), percent(time / total(cell)));
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

fn csv(study: &Study, cells: &[&Cell]) -> String {
    let mut out = String::from("model,dataset,max_source_length,phase,pass,seconds\r\n");
    for cell in cells {
        for phase in &cell.phases {
            let row = [
                field(&study.varying.series(cell)),
                field(&cell.dataset),
                cell.max_source_length.to_string(),
                field(&phase.phase),
                field(&phase.pass),
                crate::study::results::number(&phase.seconds),
            ];
            out.push_str(&(row.join(",") + "\r\n"));
        }
    }
    out
}

fn numbers(study: &Study, cells: &[&Cell], phases: &[String], rest: &[String]) -> String {
    let mut titles = vec!["model".to_string(), "dataset".into(), "tokens".into()];
    titles.extend(phases.iter().map(|phase| escape(phase)));
    if !rest.is_empty() {
        titles.push("all others".into());
    }
    let rows: Vec<Vec<String>> = cells
        .iter()
        .map(|cell| {
            let mut row = vec![
                escape(&study.varying.series(cell)),
                escape(&cell.dataset),
                cell.max_source_length.to_string(),
            ];
            row.extend(phases.iter().map(|phase| percent(of(cell, phase) / total(cell))));
            if !rest.is_empty() {
                row.push(percent(rest.iter().map(|phase| of(cell, phase)).sum::<f64>() / total(cell)));
            }
            row
        })
        .collect();
    table("Share of the training time by phase", &titles, 2, &rows)
}
