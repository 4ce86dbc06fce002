//! The study: models × datasets × input lengths, and what came of them.

pub mod cell;
pub mod embedded;
pub mod grid;
pub mod report;
pub mod results;

use crate::{markup, plot as plots};
