//! Checkpoints: safetensors or PyTorch files, alone or in shards, as transformers writes and reads them.
//!
//! Files are read in ranges, never mapped, so that one that shrinks meanwhile is an error and not a signal.

mod checkpoint;
mod convert;
mod elements;
mod file;
mod header;
mod load;
mod mismatch;
mod save;
mod torch;

pub use checkpoint::{Format, entry};
pub use convert::{Converted, convert};
pub use file::{Tensors, read_file};
pub use load::{load, load_each};
pub use safetensors::Dtype;
pub use save::{Named, Values, save, write_file};
pub use torch::read_file as read_torch_file;

#[cfg(target_endian = "big")]
compile_error!("safetensors is little-endian, and its values are read and written as they are");

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What a model wants to find in a checkpoint.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub name: String,
    pub shape: Vec<usize>,
    /// Other names that the same tensor may be stored under (tied weights).
    pub aliases: Vec<String>,
    /// Whether the tensor may be absent.
    pub optional: bool,
}
