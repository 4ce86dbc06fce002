//! The shape of the sources, read from the sources: floors, circles, sizes, words, names, the op registry.

mod circles;
mod floors;
mod kernels;
mod paths;
mod registry;
mod sizes;
mod source;
mod tests;
mod words;
