//! A forecast for a terminal.

use super::Forecast;
use crate::limits::Limits;
use crate::markup::plain;
use crate::table::{Column, Table, wrapped};
use crate::units::{Format, Quantity, significant};

/// One line per cell in at most `width` characters, then what the numbers are and what they add up to.
pub fn text(forecasts: &[Forecast], limits: Option<&Limits>, width: usize) -> String {
    const TIME: Format = Format::Each(Quantity::Time);
    const ENERGY: Format = Format::KilowattHours;
    let or_na = |n: Option<u64>| n.map_or("n/a".into(), |n| n.to_string());
    let with_paper = forecasts.iter().any(|one| one.paper_batch_size.is_some());
    let columns = [
        Column::words("model", |one: &Forecast| one.model.clone()),
        Column::words("dataset", |one: &Forecast| one.dataset.clone()),
        Column::size("tokens", |one: &Forecast| one.max_source_length),
        Column::size(if with_paper { "batch (paper)" } else { "batch" }, |one: &Forecast| {
            let batch = or_na(one.batch_size.map(|n| n as u64));
            let paper = one.paper_batch_size.map_or("-".into(), |n| n.to_string());
            if with_paper { format!("{batch} ({paper})") } else { batch }
        }),
        Column::number("memory", Format::Each(Quantity::Memory), |one: &Forecast| one.memory_bytes.clone()),
        Column::size("steps/epoch", |one: &Forecast| or_na(one.steps_per_epoch)).rank(2),
        Column::number("epoch", TIME, |one: &Forecast| one.least_epoch_seconds.clone()).rank(1),
        Column::number("all epochs", TIME, |one: &Forecast| one.least_train_seconds.clone()),
        Column::number("its energy", ENERGY, |one: &Forecast| one.train_joules.clone()),
        Column::number("inference", TIME, |one: &Forecast| one.inference(|of| &of.least_seconds)),
        Column::number("its energy", ENERGY, |one: &Forecast| one.inference(|of| &of.joules)),
    ];
    let table = Table::new(&columns, forecasts);
    let notes = notes(forecasts, limits).into_iter().map(|note| wrapped(&note, width, 2));
    [table.text(width)].into_iter().chain(notes).collect::<Vec<_>>().join("\n")
}

fn notes(forecasts: &[Forecast], limits: Option<&Limits>) -> Vec<String> {
    let mut notes =
        vec!["All numbers are predicted, by plans of every step; nothing has been run.".to_string()];
    if forecasts.iter().any(|one| one.paper_batch_size.is_some()) {
        notes.push("(paper): the batch of Ang et al. 2022 on a card of 48 GB, where it is published.".into());
    }
    match limits {
        None => notes.push("Times need a GPU's limits: --gpu NAME.".into()),
        Some(limits) => {
            notes.push(format!(
                "Times are the least that the data sheet of the {} allows, real kernels take longer; \
                 energy is that time at its power limit. Inference is once over the validation split after training, \
                 generated answers as long as they may be; evaluations while training are not in these times.",
                limits.device
            ));
            let sum = |of: &dyn Fn(&Forecast) -> Option<f64>| forecasts.iter().map(of).sum::<Option<f64>>();
            let training =
                [sum(&|one| one.least_train_seconds.value()), sum(&|one| one.train_joules.value())];
            let inference = [
                sum(&|one| one.inference(|inference| &inference.least_seconds).value()),
                sum(&|one| one.inference(|inference| &inference.joules).value()),
            ];
            let said = [(training, "training, all epochs"), (inference, "inference")].into_iter().filter_map(
                |([seconds, joules], what)| {
                    let (hours, kwh) = (significant(seconds? / 3600.0), significant(joules? / 3.6e6));
                    Some(format!("{hours} h and {kwh} kWh of {what}"))
                },
            );
            let said: Vec<String> = said.collect();
            if !said.is_empty() {
                notes.push(format!(
                    "All {} cells: at least {}; runs that stop early take less.",
                    forecasts.len(),
                    said.join(", ")
                ));
            }
        }
    }
    let mut problems: Vec<String> = Vec::new();
    for one in forecasts {
        if let Some(problem) = &one.problem {
            problems.push(format!("{}: {}", plain(&one.cell), plain(problem)));
        }
    }
    notes.extend(problems);
    notes
}
