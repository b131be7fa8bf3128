//! An allocator that counts what each thread holds. Sessions of one thread run on the caller's, so that a test
//! sees exactly what its own calls allocate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[derive(Clone, Copy)]
struct Counts {
    held: isize,
    peak: isize,
    calls: usize,
}

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { held: 0, peak: 0, calls: 0 }) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Notes that this thread holds `bytes` more.
fn note(bytes: isize) {
    // The cell is gone while a thread ends; what it frees then is of no interest.
    let _ = COUNTS.try_with(|cell| {
        let mut counts = cell.get();
        counts.held += bytes;
        counts.peak = counts.peak.max(counts.held);
        counts.calls += usize::from(bytes > 0);
        cell.set(counts);
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as isize);
        note(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `realloc`, and `pointer` came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `body`; returns its answer and the most bytes that this thread held meanwhile, above what it held
/// before.
pub(crate) fn peak_of<T>(body: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNTS.with(|cell| {
        let mut counts = cell.get();
        counts.peak = counts.held;
        cell.set(counts);
        counts.held
    });
    let answer = body();
    let peak = COUNTS.with(Cell::get).peak - before;
    (answer, peak.max(0) as usize)
}

/// Runs `body`; returns its answer and how often this thread allocated.
pub(crate) fn allocations_of<T>(body: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNTS.with(Cell::get).calls;
    let answer = body();
    (answer, COUNTS.with(Cell::get).calls - before)
}

#[test]
fn held_bytes_and_calls_are_counted() {
    let (len, peak) = peak_of(|| vec![1u8; 1 << 20].len());
    assert!(len == 1 << 20 && (1 << 20..2 << 20).contains(&peak), "{peak}");
    let (_, calls) = allocations_of(|| Box::new(1u64));
    assert_eq!(calls, 1);
    let (_, calls) = allocations_of(|| [0u8; 64]);
    assert_eq!(calls, 0);
}
