//! How large the caches of a core are.

use std::sync::OnceLock;

/// Where the processor does not say.
const USUAL: usize = 1 << 20;

/// Bytes of the second-level cache.
pub fn second_level() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| ask().unwrap_or(USUAL))
}

#[cfg(target_arch = "x86_64")]
fn ask() -> Option<usize> {
    use std::arch::x86_64::{__cpuid_count, CpuidResult};
    /// Leaves in which Intel and AMD describe each cache, in the same words.
    const LEAVES: [u32; 2] = [4, 0x8000_001d];
    /// The one for the second level alone, for processors whose hypervisor hides AMD's newer one.
    const OLDER: u32 = 0x8000_0006;
    // SAFETY: every x86-64 processor has CPUID. Newer compilers know that.
    #[allow(unused_unsafe)]
    let say = |leaf, at| unsafe { __cpuid_count(leaf, at) };
    // The first leaf of a range says which is its last.
    let here = |leaf: &u32| *leaf <= say(leaf & 1 << 31, 0).eax;
    let mut caches = LEAVES.into_iter().filter(here).flat_map(|leaf| (0..8).map(move |at| say(leaf, at)));
    let described = caches.find_map(|CpuidResult { eax, ebx, ecx, .. }| {
        let (kind, level) = (eax & 31, eax >> 5 & 7);
        let holds_data = kind == 1 || kind == 3;
        // Ways, partitions, the bytes of a line, and sets, each less one.
        let fields = [ebx >> 22, ebx >> 12 & 0x3ff, ebx & 0xfff, ecx];
        (holds_data && level == 2).then(|| fields.iter().map(|&field| field as usize + 1).product())
    });
    let older = || Some(OLDER).filter(here).map(|leaf| (say(leaf, 0).ecx as usize >> 16) << 10);
    described.or_else(older).filter(|&bytes| bytes > 0)
}

#[cfg(not(target_arch = "x86_64"))]
fn ask() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    /// The kernel's own reading.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn the_kernel_says_the_same() {
        let cache = std::path::Path::new("/sys/devices/system/cpu/cpu0/cache/index2");
        let read = |name| std::fs::read_to_string(cache.join(name)).unwrap_or_default();
        let size = read("size");
        let Some(kilobytes) = size.trim().strip_suffix('K') else {
            return println!("skipped: the kernel does not describe the caches");
        };
        assert_eq!(read("level").trim(), "2");
        assert_eq!(super::second_level(), kilobytes.parse::<usize>().unwrap() << 10);
    }
}
