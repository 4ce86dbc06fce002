//! What NCCL takes of a GPU's memory for itself: an estimate, for NCCL tells nobody.
//!
//! A rank has for each of its neighbours in rings and trees, and for each channel, a buffer that it receives in and one that
//! it sends from: 10 MiB and 2 MiB as NCCL logs them (NCCL_DEBUG_SUBSYS=ALLOC), of which NCCL_BUFFSIZE is 4. On top come its
//! code and its state. That gives 1 GiB on GPUs with three ranks or more, where 1.06 GB were seen on 8 H100 (NVIDIA/nccl,
//! issue 1685), and 640 MiB with two, where 544 MB were seen on A100 (issue 964).

use crate::units::Bytes;
use std::env;

const MIB: u64 = 1 << 20;

/// The most channels, as of NCCL 2.19.
const CHANNELS: u64 = 32;
/// NCCL_BUFFSIZE where it is not set.
const BUFFER: u64 = 4 * MIB;
/// What a channel has for a neighbour beside that.
const BESIDE: u64 = 8 * MIB;
/// Code and state.
const FIXED: u64 = 256 * MIB;

/// On each of `size` GPUs, about; NCCL_BUFFSIZE and NCCL_MAX_NCHANNELS are those of this process.
pub fn nccl(size: usize) -> Bytes {
    let number = |name: &str| env::var(name).ok()?.trim().parse().ok().filter(|number| *number > 0);
    with(size, number("NCCL_MAX_NCHANNELS"), number("NCCL_BUFFSIZE"))
}

fn with(size: usize, channels: Option<u64>, buffer: Option<u64>) -> Bytes {
    if size < 2 {
        return Bytes(0);
    }
    let channels = channels.unwrap_or(CHANNELS).min(CHANNELS);
    let neighbours = if size == 2 { 1 } else { 2 };
    let each = buffer.unwrap_or(BUFFER).saturating_add(BESIDE);
    Bytes(each.saturating_mul(channels * neighbours).saturating_add(FIXED))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not less than what was seen, and not twice as much.
    #[test]
    fn the_estimate_is_near_what_was_seen() {
        for (size, seen) in [(2, 544e6), (4, 688e6), (8, 1.06e9)] {
            let estimate = with(size, None, None).0 as f64;
            assert!(estimate >= seen && estimate < 2.0 * seen, "{estimate} for {seen} on {size} GPUs");
        }
        assert_eq!(with(1, None, None), Bytes(0));
        // Neighbours are two however many GPUs there are.
        assert_eq!(with(1024, None, None), with(3, None, None));
    }

    #[test]
    fn settings_of_nccl_change_it() {
        assert_eq!(with(2, Some(4), None), Bytes((4 * 12 + 256) * MIB));
        assert_eq!(with(3, Some(4), Some(MIB)), Bytes((2 * 4 * 9 + 256) * MIB));
        assert_eq!(with(2, Some(1000), None), with(2, None, None));
    }
}
