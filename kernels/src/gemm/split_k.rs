//! # The sum of a product's parts
//! `C = program(Σ_s part_s, …)`, parts in their order, of a product or a convolution. One thread for four elements of C.
//!
//! Grid `⌈batches·m·n / 1024⌉`, block 256, shared memory `4 KiB` for each register of the program.

use super::{Params, divided};
use crate::device::{Global, shared, thread};
use crate::entry;
use crate::epilogue::{Epilogue, MOST_SLOTS, shared_bytes};
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject};
use crate::map::interpreter::GROUP;

const THREADS: u32 = 256;

/// The launch for so many elements of C and registers of the program.
pub(super) fn geometry(elements: u64, slots: u32) -> Result<Geometry, Reject> {
    let limit = u64::from(u32::MAX / 2);
    if elements > limit {
        return Err(Reject::Extent { name: "elements of C", got: elements, limit });
    }
    let blocks = elements.div_ceil(u64::from(THREADS * GROUP));
    Ok(Geometry::linear(blocks as u32, THREADS).with_shared(shared_bytes(0, THREADS, slots)))
}

/// The sum of so many parts of `count` elements each, one part behind the other.
pub(crate) fn sum(
    parts: Buffer,
    (splits, count): (u32, u64),
    epilogue: Epilogue,
    device: &Device,
) -> Result<Prepared<Params>, Reject> {
    let geometry = geometry(count, epilogue.slots())?;
    let params = Params {
        a: Global::from_address(0),
        b: Global::from_address(0),
        partials: Global::from_address(parts.address),
        a_batch: [0, 0],
        b_batch: [0, 0],
        a_row: 0,
        b_row: 0,
        epilogue,
        m: 1,
        n: count as u32,
        k: 0,
        batches: [1, 1],
        splits,
        split_terms: 0,
        transposed: 0,
    };
    Prepared::new(&GEMM_SUM, geometry, params, device)
}

#[inline(always)]
fn run(p: Params) {
    let (first, size) = (thread::index_1d() * GROUP, p.m * p.n);
    let count = size * p.batch_count();
    if first >= count {
        return;
    }
    let valid = if count - first < GROUP { count - first } else { GROUP };
    let mut sums = [0.0; 4];
    let mut i = 0;
    while i < GROUP {
        if i < valid {
            let (batch, element) = divided(first + i, size);
            let mut split = 0;
            while split < p.splits {
                let part = u64::from(batch * p.splits + split) * u64::from(size);
                sums[i as usize] += p.partials.load((part + u64::from(element)) as usize);
                split += 1;
            }
        }
        i += 1;
    }
    let registers = shared::array(0, p.epilogue.slots() * THREADS);
    p.epilogue.store(registers, (first.into(), valid), || sums);
}

entry!(
    /// C of any type.
    GEMM_SUM = gemm_sum(Params): run, THREADS, with_shared(shared_bytes(0, THREADS, MOST_SLOTS))
);
