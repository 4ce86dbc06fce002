//! wattention: fine-tunes and runs LED and BigBird-Pegasus, and knows what every phase of it costs.

pub mod data;
pub mod device;
pub mod error;
pub mod files;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
pub mod shape;
pub mod tape;
pub mod tensor;
pub mod text;
pub mod trace;
pub mod units;
pub mod weights;
pub mod study;
