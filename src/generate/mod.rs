//! Autoregressive decoding with cached keys and values.

mod greedy;

pub use greedy::{GenerateOptions, State, generate, state};

#[cfg(test)]
mod tests;
