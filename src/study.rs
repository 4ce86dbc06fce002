//! The study: models × datasets × input lengths, and what came of them.

pub mod cell;
pub mod compare;
pub mod folder;
pub mod forecast;
pub mod grid;
pub mod presets;
pub mod published;
pub mod recommend;
pub mod report;
pub mod results;
pub mod submit;
mod total_cost;
mod trade_off;
