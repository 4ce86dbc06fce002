//! Which executor the goldens run on.

use wattention::device::{Device, Precision};

/// The one that `WATTENTION_TEST_DEVICE` names, or the CPU.
pub fn named(precision: Precision) -> Device {
    let name = std::env::var("WATTENTION_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    Device::open(&name, precision).unwrap()
}

/// Whether it is the simulator, which takes long over what the CPU does at once.
pub fn simulated() -> bool {
    std::env::var("WATTENTION_TEST_DEVICE").is_ok_and(|device| device == "sim")
}
