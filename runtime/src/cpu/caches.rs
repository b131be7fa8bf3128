//! What is known of the processor's caches, where how fast they are decides what is computed.

/// Bytes of a matrix that `threads` threads read again and again, from which on it comes from memory, or as slowly: those
/// that are decoded at 55 GB/s as they are read may then be fewer than they are.
pub(super) fn out_of_reach(threads: usize) -> usize {
    match shared_among_neighbours() {
        // A core reads some 90 GB/s of it; half as large again, and what is turned around at the ends is little.
        Some(cache) => cache / 2 * 3,
        // Twice the second cache: the last one is slower than the decoder (29 GB/s a core where it was measured).
        None => threads.max(1).saturating_mul(5 << 20),
    }
}

/// Bytes of a last cache that a few neighbouring cores share, as processors of AMD have it since Zen.
#[cfg(target_arch = "x86_64")]
pub(super) fn shared_among_neighbours() -> Option<usize> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    let vendor = __cpuid(0);
    let is_amd = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD";
    if !is_amd || __cpuid(0x8000_0000).eax < 0x8000_001d {
        return None;
    }
    // Leaf 0x8000_001d, "cache topology": its fourth is the last cache; sets, ways and bytes of a line, less one each.
    let cache = __cpuid_count(0x8000_001d, 3);
    let (kind, level) = (cache.eax % 32, cache.eax / 32 % 8);
    if kind == 0 || level != 3 {
        return None;
    }
    let sizes = [cache.ecx, cache.ebx >> 22, cache.ebx >> 12 & 0x3ff, cache.ebx & 0xfff];
    sizes.into_iter().try_fold(1usize, |bytes, less| bytes.checked_mul(less as usize + 1))
}

/// As on other processors.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn shared_among_neighbours() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least is a matrix that second caches do not hold, whatever the processor.
    #[test]
    fn what_is_out_of_reach_is_more_than_second_caches_hold() {
        for threads in [0, 1, 2, 64] {
            assert!(out_of_reach(threads) >= 4 << 20, "{threads} threads: {}", out_of_reach(threads));
        }
        if let Some(cache) = shared_among_neighbours() {
            assert!(cache.is_multiple_of(1 << 20) && cache <= 1 << 30, "{cache} bytes");
        }
    }
}
