//! Which executor the goldens run on.

use wattention::device::{Device, Precision};

/// The one that `WATTENTION_TEST_DEVICE` names, or the CPU.
pub fn named(precision: Precision) -> Device {
    let name = std::env::var("WATTENTION_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    Device::open(&name, precision).unwrap()
}
