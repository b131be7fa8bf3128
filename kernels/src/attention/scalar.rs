//! # Attention by scalar arithmetic
//! A block takes 16 queries of a head, a warp four of them. Keys come in blocks of 32 through shared memory: a lane scores
//! one key for each query of its warp, the warp finds the largest score and the sum of exponentials, and what there was so far
//! is rescaled by `exp(m_old − m_new)` (Milakov and Gimelshein 2018; Dao et al. 2022). The values of the same keys then take
//! the keys' place: a lane keeps the weighted sums of up to 8 columns of each query in registers.
//!
//! Hazard: `−∞ − (−∞)` where a query has seen nothing but masked keys: such keys take no part. Sums are f32; an exponential
//! is off by 2 ulp and half an ulp of `s − m`.
//!
//! Grid `⌈queries / 16⌉ × heads × images`, block 128, shared memory `4 · (16 · width + 32 · (max(width, value width) + 1))` bytes.

use super::{MOST_WIDTH, Params, Strides};
use crate::device::math::divide;
use crate::device::{BF16, F16, Global, Shared, shared, thread, warp};
use crate::element::Real;
use crate::elementary::{exp, tanh};
use crate::entry;
use crate::launch::Geometry;

/// Threads of a block.
pub const THREADS: u32 = 128;
/// Queries of a block and of a warp, and keys of a step.
const ROWS: u32 = 16;
const OWN: usize = (ROWS / (THREADS / warp::LANES)) as usize;
const KEYS: u32 = warp::LANES;
/// Columns of the widest head that a lane keeps.
const COLUMNS: usize = (MOST_WIDTH / warp::LANES) as usize;
const SHARED: u32 = shared_bytes(MOST_WIDTH, MOST_WIDTH);

const fn shared_bytes(width: u32, value_width: u32) -> u32 {
    let wider = if width > value_width { width } else { value_width };
    4 * (ROWS * width + KEYS * (wider + 1))
}

/// The launch for such heads.
pub const fn geometry(images: u32, heads: u32, queries: u32, width: u32, value_width: u32) -> Geometry {
    let linear = Geometry::linear(1, THREADS).with_shared(shared_bytes(width, value_width));
    Geometry { grid: [queries.div_ceil(ROWS), heads, images], ..linear }
}

/// Rows `from..from + rows` of an operand into shared memory, zero behind `limit`; `pitch` elements from row to row.
#[inline(always)]
fn stage<T: Real>(
    to: Shared<f32>,
    pitch: u32,
    x: Global<T>,
    (first, row, width): (u64, u32, u32),
    (from, rows, limit): (u32, u32, u32),
) {
    let mut at = thread::thread_idx_x();
    while at < rows * width {
        let (r, c) = divide(at, width);
        let mut value = 0.0;
        if from + r < limit {
            let place = first + u64::from(from + r) * u64::from(row) + u64::from(c);
            value = x.load(place as usize).widen();
        }
        to.store((r * pitch + c) as usize, value);
        at += THREADS;
    }
}

/// Every thread.
#[inline(always)]
fn run<T: Real>(p: Params) {
    let (first, head, image) = (thread::block_idx_x() * ROWS, thread::block_idx_y(), thread::block_idx_z());
    let kv = divide(head, p.group).0;
    let place = |s: &Strides, head: u32| s.place(image, head);
    let wider = if p.width > p.value_width { p.width } else { p.value_width };
    let queries = shared::array::<f32>(0, ROWS * p.width);
    let block = shared::array::<f32>(4 * ROWS * p.width, KEYS * (wider + 1));
    let of_q = (place(&p.of_q, head), p.of_q.row, p.width);
    stage(queries, p.width, p.q.cast::<T>(), of_q, (first, ROWS, p.queries));
    let (limit, offset) = p.valid(image);
    let (lane, row) = (warp::lane_id(), warp::warp_id() * OWN as u32);
    let mut seen = [(0u32, 0u32); OWN];
    let mut mask = [0u64; OWN];
    let mut most = [f32::NEG_INFINITY; OWN];
    let mut total = [0.0f32; OWN];
    let mut sums = [[0.0f32; COLUMNS]; OWN];
    for r in 0..OWN {
        let query = first + row + r as u32;
        if query < p.queries {
            seen[r] = p.visible(offset + i64::from(query), limit);
            mask[r] = place(&p.of_mask, head) + u64::from(query) * u64::from(p.of_mask.row);
        }
    }
    let (mut from, until) = p.visible_to_block(first, ROWS, offset, limit);
    while from < until {
        thread::sync_threads();
        let of_k = (place(&p.of_k, kv), p.of_k.row, p.width);
        stage(block, wider + 1, p.k.cast::<T>(), of_k, (from, KEYS, limit));
        thread::sync_threads();
        let key = from + lane;
        let mut weights = [0.0f32; OWN];
        for r in 0..OWN {
            let mut score = f32::NEG_INFINITY;
            if key >= seen[r].0 && key < seen[r].1 {
                let (mut product, mut c) = (0.0, 0);
                while c < p.width {
                    let of_query = queries.load(((row + r as u32) * p.width + c) as usize);
                    product += of_query * block.load((lane * (wider + 1) + c) as usize);
                    c += 1;
                }
                score = p.score(product, mask[r], key, tanh);
            }
            let here = warp::reduce(score, |a, b| if b > a || b.is_nan() { b } else { a });
            let larger = if here > most[r] || here.is_nan() { here } else { most[r] };
            if score != f32::NEG_INFINITY {
                weights[r] = exp(score - larger);
            }
            let here = warp::reduce(weights[r], |a, b| a + b);
            let kept = if most[r] == f32::NEG_INFINITY { 0.0 } else { exp(most[r] - larger) };
            total[r] = total[r] * kept + here;
            for c in 0..COLUMNS {
                sums[r][c] *= kept;
            }
            most[r] = larger;
        }
        thread::sync_threads();
        let of_v = (place(&p.of_v, kv), p.of_v.row, p.value_width);
        stage(block, wider + 1, p.v.cast::<T>(), of_v, (from, KEYS, limit));
        thread::sync_threads();
        let mut j = 0;
        while j < KEYS {
            let mut of_key = [0.0f32; OWN];
            for r in 0..OWN {
                of_key[r] = warp::shuffle_idx(warp::ALL, weights[r], j);
            }
            for c in 0..COLUMNS {
                let column = lane + c as u32 * warp::LANES;
                if column < p.value_width {
                    let value = block.load((j * (wider + 1) + column) as usize);
                    for r in 0..OWN {
                        // What a key that takes no part holds has no influence.
                        if of_key[r] != 0.0 {
                            sums[r][c] += of_key[r] * value;
                        }
                    }
                }
            }
            j += 1;
        }
        from += KEYS;
    }
    let y = p.y.cast::<T>();
    for r in 0..OWN {
        let query = first + row + r as u32;
        if query < p.queries {
            let at = place(&p.of_y, head) + u64::from(query) * u64::from(p.of_y.row);
            let factor = if total[r] == 0.0 { 0.0 } else { 1.0 / total[r] };
            for c in 0..COLUMNS {
                let column = lane + c as u32 * warp::LANES;
                if column < p.value_width {
                    y.store((at + u64::from(column)) as usize, T::narrow(sums[r][c] * factor));
                }
            }
        }
    }
}

entry!(
    /// bf16.
    ATTENTION_BF16 = attention_bf16(Params): run::<BF16>, THREADS, with_shared(SHARED)
);
entry!(
    /// f16.
    ATTENTION_F16 = attention_f16(Params): run::<F16>, THREADS, with_shared(SHARED)
);
entry!(
    /// f32.
    ATTENTION_F32 = attention_f32(Params): run::<f32>, THREADS, with_shared(SHARED)
);
