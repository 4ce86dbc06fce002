//! Sentences about which choice beats which, computed from the cells; nothing is claimed where intervals overlap.

use super::Study;
use super::figures::break_even;
use crate::study::results::{Metric, TRAIN_ENERGY, TRAIN_TIME};
use crate::study::total_cost::Expense;
use crate::study::trade_off::{Choice, choices, front};
use crate::units::{decimals, significant};

/// The sentences of all tasks.
pub fn statements(study: &Study) -> Vec<String> {
    let all = choices(study.cells);
    let mut out = Vec::new();
    for task in &study.tasks {
        let here: Vec<&Choice> =
            all.iter().filter(|choice| choice.task == *task && choice.score().value().is_some()).collect();
        out.extend(best(task, &here));
        out.extend(bargain(task, &here));
        out.extend(models(task, &here));
        out.extend(totals(task, &here));
        let (mut changed, mut alike) = (Vec::new(), Vec::new());
        for series in &study.series {
            match lengths(task, series, &here) {
                Some(Lengths::Apart(sentence)) => changed.push(sentence),
                Some(Lengths::Alike(what)) => alike.push(what),
                None => {}
            }
        }
        out.extend(changed);
        if !alike.is_empty() {
            let what = alike.join("; ");
            out.push(format!(
                "On {task}, the difference between the longest input and the shortest lies within the 95 % intervals: \
                 {what}."
            ));
        }
    }
    out
}

/// What training once and inference of many documents come to, among the choices that are worth their training.
fn totals(task: &str, here: &[&Choice]) -> Option<String> {
    let expense = Expense::of(here);
    let best: Vec<&Choice> = front(here, &expense.once).best.into_iter().map(|at| here[at]).collect();
    let is_known = best.iter().all(|choice| expense.total(choice, 1.0).value().is_some());
    (best.len() > 1 && is_known).then(|| break_even(task, &expense, &best))
}

pub fn points(choice: &Choice) -> f64 {
    choice.score().value().unwrap_or(f64::NAN)
}

/// What a choice scores beside `other`, as a predicate.
pub fn against(by: f64, differs: Option<bool>, other: &str) -> String {
    let more = if by > 0.0 { "more" } else { "less" };
    match differs {
        Some(true) => format!("scores {} points {more} than {other}", decimals(by.abs(), 2)),
        Some(false) => format!("differs from {other} by no more than the 95 % intervals"),
        None => format!(
            "scores {} points {more} than {other}, of which there is no interval",
            decimals(by.abs(), 2)
        ),
    }
}

/// The highest score, and from which others its difference lies within the intervals.
fn best(task: &str, here: &[&Choice]) -> Option<String> {
    let first = here.iter().copied().max_by(|a, b| points(a).total_cmp(&points(b)))?;
    if here.len() < 2 {
        return None;
    }
    let interval = first.interval()?;
    let others: Vec<&&Choice> = here
        .iter()
        .filter(|other| !std::ptr::eq(**other, first) && first.differs(other) == Some(false))
        .collect();
    let unknown = here.iter().filter(|other| first.differs(other).is_none()).count();
    let claim = match others.len() {
        0 if unknown > 0 => format!("above all others whose interval is known; of {unknown} it is not"),
        0 => "above all others by more than the 95 % intervals".to_string(),
        1 => format!("but its difference from {} lies within the 95 % intervals", others[0].name()),
        all if all + 1 == here.len() => {
            "but its differences from all others lie within the 95 % intervals".into()
        }
        many => format!(
            "but its differences from {many} of the {} others lie within the 95 % intervals",
            here.len() - 1
        ),
    };
    Some(format!(
        "On {task}, {} scores highest, {} (95 % interval {} to {}), {claim}.",
        first.name(),
        decimals(points(first), 2),
        decimals(interval.low, 2),
        decimals(interval.high, 2)
    ))
}

/// How many times less `one` costs than `other`: in energy where both have it, else in training time.
fn saving(one: &Choice, other: &Choice) -> Option<(Metric, f64)> {
    let factor = |cost: Metric| Some((cost, other.mean(&cost).value()? / one.mean(&cost).value()?));
    factor(TRAIN_ENERGY).or_else(|| factor(TRAIN_TIME))
}

/// The shorter input of one model that beats a longer one of another for the least of its cost.
fn bargain(task: &str, here: &[&Choice]) -> Option<String> {
    let mut found: Option<(f64, Metric, &Choice, &Choice)> = None;
    for &one in here {
        for &other in here {
            let is_bargain = one.series != other.series
                && one.length < other.length
                && points(one) > points(other)
                && one.is_apart(other);
            if let Some((cost, by)) = saving(one, other).filter(|(_, by)| is_bargain && *by > 1.0)
                && found.as_ref().is_none_or(|(most, ..)| by > *most)
            {
                found = Some((by, cost, one, other));
            }
        }
    }
    let (by, cost, one, other) = found?;
    Some(format!(
        "On {task}, {} beats {} by {} points for {} times less {}.",
        one.name(),
        other.name(),
        decimals(points(one) - points(other), 2),
        significant(by),
        cost.title
    ))
}

/// What each model adds to the cheapest one, both at the longest input that several have.
fn models(task: &str, here: &[&Choice]) -> Option<String> {
    let at = |length| here.iter().copied().filter(move |choice| choice.length == length);
    let length = here.iter().map(|choice| choice.length).filter(|&length| at(length).count() > 1).max()?;
    let is_cheaper = |one: &&Choice, other: &&Choice| match saving(one, other) {
        Some((_, by)) => 1.0_f64.total_cmp(&by),
        None => std::cmp::Ordering::Equal,
    };
    let cheapest = at(length).min_by(is_cheaper)?;
    let others: Vec<String> = at(length)
        .filter(|other| other.series != cheapest.series && other.interval().is_some())
        .filter_map(|other| {
            let (cost, by) = saving(cheapest, other)?;
            let by_points = points(other) - points(cheapest);
            let what = match other.is_apart(cheapest) {
                false => "differs from it by no more than the 95 % intervals".to_string(),
                true if by_points > 0.0 => format!("scores {} points more", decimals(by_points, 2)),
                true => format!("scores {} points less", decimals(-by_points, 2)),
            };
            Some(format!("{}, at {} times the {}, {what}", other.series, significant(by), cost.title))
        })
        .collect();
    let none = others.is_empty() || cheapest.interval().is_none();
    (!none).then(|| format!("On {task}, beside {}: {}.", cheapest.name(), others.join("; ")))
}

/// What a model's longest input adds to its shortest.
enum Lengths {
    /// A sentence.
    Apart(String),
    /// A part of one.
    Alike(String),
}

fn lengths(task: &str, series: &str, here: &[&Choice]) -> Option<Lengths> {
    let of: Vec<&&Choice> = here.iter().filter(|choice| choice.series == series).collect();
    let (short, long) = (of.iter().min_by_key(|c| c.length)?, of.iter().max_by_key(|c| c.length)?);
    if short.length == long.length || short.interval().is_none() || long.interval().is_none() {
        return None;
    }
    let by = points(long) - points(short);
    let cost = saving(short, long);
    let cost =
        cost.map_or(String::new(), |(cost, by)| format!("{} times the {}", significant(by), cost.title));
    let (from, to) = (short.length, long.length);
    Some(match short.is_apart(long) {
        true => {
            let verb = if by > 0.0 { "gains" } else { "loses" };
            let by = decimals(by.abs(), 2);
            let cost = if cost.is_empty() { cost } else { format!(" for {cost}") };
            Lengths::Apart(format!(
                "On {task}, {series} {verb} {by} points from {from} to {to} tokens{cost}."
            ))
        }
        false => {
            let cost = if cost.is_empty() { cost } else { format!(", at {cost}") };
            Lengths::Alike(format!("{series}, {from} to {to} tokens{cost}"))
        }
    })
}
