//! Profiles: where the time, the work and the joules of a step, a generation or an evaluation go.

pub mod compare;
pub mod energy;
mod host;
pub mod measure;
pub mod predict;
mod rank;
pub mod report;
pub mod rows;
pub mod runs;
pub mod timeline;
