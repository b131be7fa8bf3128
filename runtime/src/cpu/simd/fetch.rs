//! Instructions that have no result: lines asked for ahead of their use, and the order of stores past the caches.

/// Puts all streaming stores of this thread before whatever it does next.
pub(crate) fn order_streams() {
    // SAFETY: every processor of this architecture has the instruction, which has no operand.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Asks for the lines of `bytes` ahead of their use.
#[inline]
pub(crate) fn fetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        // SAFETY: every processor of this architecture has the instruction, which reads nothing that the program
        // could notice; the address lies inside the slice.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// Asks for the line of element `at` of `data`, where there is one.
#[inline(always)]
pub(crate) fn fetch_at<T>(data: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(element) = data.get(at) {
        // SAFETY: as in `fetch`.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(
                std::ptr::from_ref(element).cast(),
            );
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, at);
}

/// Asks for the lines of `data`, in the first cache, ahead of their use.
#[inline(always)]
pub(crate) fn fetch_near<T>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for element in data.iter().step_by((64 / size_of::<T>().max(1)).max(1)) {
        // SAFETY: as in `fetch`.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                std::ptr::from_ref(element).cast(),
            );
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}
