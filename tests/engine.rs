//! Every test of the library, in one program: linking the library once per file took longer than most of the tests.
//! `cargo test --test engine ops::linear` runs those of one file.

mod support;

mod build_script;
#[path = "cuda/main.rs"]
mod cuda;
mod data;
#[path = "energy/main.rs"]
mod energy;
mod generation;
mod global_attention;
mod int8;
mod interop;
mod kernels;
mod mbart;
mod metrics;
mod models;
mod needle;
#[path = "ops/main.rs"]
mod ops;
mod pegasus;
#[path = "resume/main.rs"]
mod resume;
#[path = "sim/main.rs"]
mod sim;
mod text;
mod to_led;
mod tokenizer_files;
mod training;
#[path = "weights/main.rs"]
mod weights;
mod weights_accuracy;
