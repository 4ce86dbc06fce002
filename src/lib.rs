//! wattention: fine-tunes and runs LED and BigBird-Pegasus, and knows what every phase of it costs.

pub mod bench;
pub mod cases;
pub mod data;
pub mod device;
pub mod energy;
pub mod error;
pub mod evaluate;
pub mod files;
pub mod generate;
pub mod hub;
pub mod limits;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
pub mod shape;
pub mod stats;
pub mod study;
pub mod tape;
pub mod tensor;
pub mod text;
pub mod trace;
pub mod train;
pub mod units;
pub mod weights;
