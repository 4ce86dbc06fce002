//! The shape of the sources, read from the sources: floors, sizes, words, names, the op registry.

mod floors;
mod kernels;
mod registry;
mod sizes;
mod source;
mod tests;
mod words;
