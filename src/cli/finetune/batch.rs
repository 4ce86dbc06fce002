//! How many examples a step takes: as asked, or as many as memory holds.

use super::super::values::bytes;
use std::num::NonZeroUsize;
use wattention::error::{Error, Result};
use wattention::units::Bytes;

/// Examples that are trained on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// As many as fit.
    Auto,
    Of(usize),
}

#[derive(clap::Args, Debug)]
pub struct Batch {
    /// Examples that are trained on at once, or auto: as many as memory holds
    #[arg(long, value_name = "N|auto", default_value = "8", aliases = ["batch-size", "per-gpu-train-batch-size"], value_parser = size)]
    pub per_device_train_batch_size: Size,

    /// Batches whose gradients are added up for one optimizer step
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "global_batch_size")]
    pub gradient_accumulation_steps: usize,

    /// Examples of one optimizer step: batches are added up until there are so many
    #[arg(long, value_name = "N")]
    pub global_batch_size: Option<NonZeroUsize>,

    /// Memory that the run may take, such as 48GiB [default: what is free on the device]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<Bytes>,
}

impl Batch {
    /// The batch that is asked for, or the smallest where it is looked for.
    pub fn size(&self) -> usize {
        match self.per_device_train_batch_size {
            Size::Of(size) => size,
            Size::Auto => 1,
        }
    }

    /// The largest batch up to `most` that keeps the global batch.
    pub fn divisor(&self, most: usize) -> usize {
        self.global_batch_size.map_or(most, |all| largest_divisor(all.get(), most))
    }

    /// Batches of `size` examples that are added up for one step.
    pub fn accumulation(&self, size: usize) -> Result<usize> {
        match self.global_batch_size.map(NonZeroUsize::get) {
            None => Ok(self.gradient_accumulation_steps),
            Some(all) if size > 0 && all.is_multiple_of(size) => Ok(all / size),
            Some(all) => {
                let above = (size + 1..=all).find(|&n| all.is_multiple_of(n));
                let above = above.map_or(String::new(), |above| format!(" or {above}"));
                Err(Error::usage(format!(
                    "--global-batch-size {all} is no multiple of --per-device-train-batch-size {size}; make that {}{above}",
                    largest_divisor(all, size),
                )))
            }
        }
    }
}

/// The largest divisor of `all` that is at most `most`, and at least 1.
fn largest_divisor(all: usize, most: usize) -> usize {
    (1..=most.min(all)).rev().find(|&n| all.is_multiple_of(n)).unwrap_or(1)
}

fn size(text: &str) -> Result<Size, String> {
    match text {
        "auto" => Ok(Size::Auto),
        _ => text.parse().map(Size::Of).map_err(|_| "give a number, or auto".into()),
    }
}
