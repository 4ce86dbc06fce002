//! Tables: every number of every cell, each saying how it came to be.

use super::Study;
use crate::study::markup::{Quantity, decimals, escape, integer, push, significant};
use crate::study::results::{Cell, Mark, Reading};

/// The reasons numbers are missing, numbered in the order they are met.
#[derive(Default)]
pub struct Footnotes(Vec<String>);

impl Footnotes {
    /// A number as it stands in a table: plain if measured, marked if predicted, else `n/a` and a note.
    pub fn reading(&mut self, reading: &Reading, show: impl Fn(f64) -> String) -> String {
        match (reading.marked(), reading.why()) {
            (Some((value, Mark::Measured)), _) => escape(&show(value)),
            (Some((value, Mark::Predicted)), _) => {
                format!("<i class=\"predicted\">{}</i> <small>predicted</small>", escape(&show(value)))
            }
            (None, why) => {
                let why = why.unwrap_or_default();
                let number = match self.0.iter().position(|known| *known == why) {
                    Some(index) => index + 1,
                    None => {
                        self.0.push(why);
                        self.0.len()
                    }
                };
                format!("<span class=\"absent\">n/a<sup>{number}</sup></span>")
            }
        }
    }

    pub fn html(&self) -> String {
        let mut out = String::new();
        if !self.0.is_empty() {
            out.push_str("<ol class=\"footnotes\">");
            for why in &self.0 {
                push(&mut out, format_args!("<li>{}</li>", escape(why)));
            }
            out.push_str("</ol>\n");
        }
        out
    }
}

/// A table in a frame that scrolls sideways on its own. Fields are HTML; the first `names` columns are
/// left-aligned, and the first of all is each row's header.
pub fn table(caption: &str, titles: &[String], names: usize, rows: &[Vec<String>]) -> String {
    let caption = escape(caption);
    let mut out = format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\"><table><caption>{caption}</caption><thead><tr>"
    );
    let class = |column: usize| {
        if column < names { " class=\"name\"" } else { "" }
    };
    for (column, title) in titles.iter().enumerate() {
        push(&mut out, format_args!("<th scope=\"col\"{}>{title}</th>", class(column)));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (column, field) in row.iter().enumerate() {
            let (tag, scope) = if column == 0 { ("th", " scope=\"row\"") } else { ("td", "") };
            push(&mut out, format_args!("<{tag}{scope}{}>{field}</{tag}>", class(column)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

/// Fields longer than this are sentences and may break into lines.
const PROSE: usize = 28;

/// How a column's numbers are written.
#[derive(Clone, Copy)]
enum Form {
    /// Two decimals.
    Score,
    /// Three significant digits.
    Plain,
    /// In the unit the column's largest value asks for.
    In(Quantity),
}

/// A reading of every cell under its title.
type Column = (&'static str, Form, fn(&Cell) -> &Reading);
/// What is known of a cell before it runs, under its title.
type Fact = (&'static str, fn(&Cell) -> String);

/// All cells, in one table per theme so that each fits a page.
pub fn section(study: &Study) -> String {
    let mut out = String::from(
        "<section id=\"cells\" aria-labelledby=\"cells-title\">\n<h2 id=\"cells-title\">All numbers</h2>\n",
    );
    if study.cells.is_empty() {
        out.push_str("<p>No cell has been run yet.</p>\n</section>\n");
        return out;
    }
    let accuracy: [Column; 9] = [
        ("ROUGE\u{2011}1", Form::Score, |c| &c.rouge1),
        ("ROUGE\u{2011}2", Form::Score, |c| &c.rouge2),
        ("ROUGE\u{2011}L", Form::Score, |c| &c.rouge_l),
        ("geometric mean", Form::Score, |c| &c.geometric_mean),
        ("F1", Form::Score, |c| &c.f1),
        ("interval from", Form::Score, |c| &c.score_low),
        ("interval to", Form::Score, |c| &c.score_high),
        ("evaluation loss", Form::Plain, |c| &c.eval_loss),
        ("last training loss", Form::Plain, |c| &c.train_loss_final),
    ];
    let time: [Column; 7] = [
        ("training time", Form::In(Quantity::Time), |c| &c.train_seconds),
        ("with evaluations", Form::In(Quantity::Time), |c| &c.train_wall_seconds),
        ("training examples/s", Form::Plain, |c| &c.train_samples_per_second),
        ("training tokens/s", Form::Plain, |c| &c.train_tokens_per_second),
        ("evaluation time", Form::In(Quantity::Time), |c| &c.eval_seconds),
        ("evaluation examples/s", Form::Plain, |c| &c.eval_samples_per_second),
        ("best step", Form::Plain, |c| &c.best_step),
    ];
    let memory: [Column; 5] = [
        ("peak memory, measured", Form::In(Quantity::Memory), |c| &c.peak_bytes_measured),
        ("peak memory, planned", Form::In(Quantity::Memory), |c| &c.peak_bytes_planned),
        ("device memory, mean", Form::In(Quantity::Memory), |c| &c.device_memory_mean_bytes),
        ("device memory, peak", Form::In(Quantity::Memory), |c| &c.device_memory_peak_bytes),
        ("utilisation (%)", Form::Plain, |c| &c.utilisation_percent),
    ];
    let energy: [Column; 9] = [
        ("training energy", Form::In(Quantity::Energy), |c| &c.energy_joules),
        ("mean power (W)", Form::Plain, |c| &c.mean_power_watts),
        ("peak power (W)", Form::Plain, |c| &c.peak_power_watts),
        ("samples/s/W", Form::Plain, |c| &c.samples_per_second_per_watt),
        ("joules per sample", Form::Plain, |c| &c.joules_per_sample),
        ("joules per token", Form::Plain, |c| &c.joules_per_token),
        ("evaluation energy", Form::In(Quantity::Energy), |c| &c.eval_energy_joules),
        ("power as the paper (W)", Form::Plain, |c| &c.paper_power_watts),
        ("energy as the paper", Form::In(Quantity::Energy), |c| &c.paper_energy_joules),
    ];
    out.push_str("<p>Numbers are measured unless they say <i class=\"predicted\">predicted</i>; scores run from 0 to 100.</p>\n");
    out.push_str(&theme(
        study,
        "Accuracy",
        &[("judged by", |c| c.headline_metric.label().into()), ("protocol", |c| c.protocol.clone())],
        &accuracy,
    ));
    let sizes: [Fact; 3] = [
        ("steps (planned)", |c| match c.planned_steps {
            0 => integer(c.steps),
            planned => format!("{} ({})", integer(c.steps), integer(planned)),
        }),
        ("training examples", |c| integer(c.train_examples)),
        ("evaluation examples", |c| integer(c.eval_examples)),
    ];
    out.push_str(&theme(study, "Time", &sizes, &time));
    let machine: [Fact; 2] =
        [("parameters", |c| integer(c.parameters)), ("batch size", |c| integer(c.batch_size))];
    out.push_str(&theme(study, "Memory and utilisation", &machine, &memory));
    out.push_str(&theme(study, "Energy", &[("energy covers", |c| c.energy_note.clone())], &energy));
    out.push_str(&theme(study, "Time and energy by activity", &[], &activities()));
    out.push_str(
        "<p class=\"note\">The activities of a cell's run sum to its whole: data is reading, tokenising and waiting \
         for batches, evaluation that of every protocol, the rest mostly reading and planning the model.</p>\n",
    );
    out.push_str("</section>\n");
    out
}

/// Of each activity its time and its energy, side by side.
fn activities() -> [Column; 12] {
    let (time, energy) = (Form::In(Quantity::Time), Form::In(Quantity::Energy));
    [
        ("data", time, |c| &c.activities.data.seconds),
        ("data", energy, |c| &c.activities.data.energy_joules),
        ("training", time, |c| &c.activities.training.seconds),
        ("training", energy, |c| &c.activities.training.energy_joules),
        ("evaluation", time, |c| &c.activities.evaluation.seconds),
        ("evaluation", energy, |c| &c.activities.evaluation.energy_joules),
        ("checkpoint", time, |c| &c.activities.checkpoint.seconds),
        ("checkpoint", energy, |c| &c.activities.checkpoint.energy_joules),
        ("rest", time, |c| &c.activities.rest.seconds),
        ("rest", energy, |c| &c.activities.rest.energy_joules),
        ("whole", time, |c| &c.activities.whole.seconds),
        ("whole", energy, |c| &c.activities.whole.energy_joules),
    ]
}

fn theme(study: &Study, caption: &str, facts: &[Fact], columns: &[Column]) -> String {
    let mut titles = vec!["model".to_string(), "dataset".into(), "tokens".into()];
    titles.extend(facts.iter().map(|(title, _)| escape(title)));
    let units: Vec<_> = columns
        .iter()
        .map(|(title, form, of)| {
            let Form::In(quantity) = form else {
                titles.push(escape(title));
                return 1.0;
            };
            let values = study.cells.iter().filter_map(|cell| of(cell).value());
            let unit = quantity.unit(values.fold(0.0, f64::max));
            titles.push(format!("{} ({})", escape(title), unit.name));
            unit.size
        })
        .collect();
    let mut notes = Footnotes::default();
    let rows: Vec<Vec<String>> = study
        .cells
        .iter()
        .map(|cell| {
            let mut row = vec![
                escape(&study.varying.row(cell)),
                escape(&cell.dataset),
                integer(cell.max_source_length),
            ];
            row.extend(facts.iter().map(|(_, of)| match escape(&of(cell)) {
                long if long.len() > PROSE => format!("<span class=\"prose\">{long}</span>"),
                short => short,
            }));
            for ((_, form, of), unit) in columns.iter().zip(&units) {
                row.push(notes.reading(of(cell), |value| match form {
                    Form::Score => decimals(value, 2),
                    Form::Plain | Form::In(_) => significant(value / unit),
                }));
            }
            row
        })
        .collect();
    table(caption, &titles, 2, &rows) + &notes.html()
}
