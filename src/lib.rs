//! wattention: fine-tunes and runs LED and BigBird-Pegasus, and knows what every phase costs.

// The command line is compiled here, once, and calls the crate by its name.
extern crate self as wattention;

pub mod bench;
pub mod cases;
#[doc(hidden)]
pub mod cli;
pub mod data;
pub mod device;
pub mod energy;
pub mod error;
pub mod evaluate;
pub mod files;
pub mod generate;
pub mod hub;
pub mod limits;
pub mod markup;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod noise;
pub mod ops;
pub mod plot;
pub mod profile;
pub mod run;
pub mod settings;
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

/// What tests here share with those in `tests`.
#[cfg(test)]
#[path = "../tests/support"]
pub mod support {
    pub mod attention;
    pub mod compare;
}
