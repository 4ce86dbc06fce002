//! The study: models × datasets × input lengths, and what came of them.

mod markup;
pub mod plots;
pub mod report;
pub mod results;
