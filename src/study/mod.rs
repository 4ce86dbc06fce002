//! The study: models × datasets × input lengths, and what came of them.

pub mod cell;
pub mod embedded;
pub mod grid;
mod markup;
pub mod plots;
pub mod report;
pub mod results;
