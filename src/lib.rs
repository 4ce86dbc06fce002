//! wattention: fine-tunes and runs LED and BigBird-Pegasus, and knows what every phase of it costs.

pub mod error;
pub mod models;
pub mod study;
