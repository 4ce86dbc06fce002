//! What the cells did not read of their data, in sentences.

use super::{Study, distinct};
use crate::study::results::{Cell, INPUT_READ};
use crate::units::integer;

/// A sentence for each task whose inputs were cut, or whose records were passed over.
pub fn left_out(study: &Study) -> Vec<String> {
    study.tasks.iter().flat_map(|task| [cut(study, task), skipped(study, task)]).flatten().collect()
}

/// How much of the documents is read at each length.
fn cut(study: &Study, task: &str) -> Option<String> {
    let cells = study.task(task);
    let lengths: Vec<String> = study
        .lengths()
        .into_iter()
        .filter_map(|length| {
            let of_length = cells.iter().filter(|cell| cell.max_source_length == length);
            let cut: Vec<&&Cell> =
                of_length.filter(|cell| cell.eval_left_out.cut.documents_cut > 0).collect();
            // Tokenizers differ a little in how long a document is.
            let least = cut.into_iter().min_by(|a, b| read(a).total_cmp(&read(b)))?;
            let of = least.eval_left_out.cut;
            Some(format!(
                "{} tokens cut {} of {} and leave {:.0} % of their tokens",
                integer(length),
                of.documents_cut,
                of.documents,
                read(least).floor()
            ))
        })
        .collect();
    (!lengths.is_empty()).then(|| format!("Of the documents of {task}, {}.", lengths.join("; ")))
}

fn read(cell: &Cell) -> f64 {
    (INPUT_READ.of)(cell).value().unwrap_or(f64::NAN)
}

/// Records that no cell of the task has read.
fn skipped(study: &Study, task: &str) -> Option<String> {
    let cells = study.task(task);
    let counts = cells.iter().map(|cell| [cell.train_left_out.skipped, cell.eval_left_out.skipped]);
    let [train, validation] = distinct(counts).into_iter().reduce(|a, b| [a[0].max(b[0]), a[1].max(b[1])])?;
    (train + validation > 0).then(|| {
        format!("Records of {task} were passed over: {train} of the training split, {validation} of the validation split.")
    })
}
