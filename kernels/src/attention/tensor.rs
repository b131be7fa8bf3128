//! # Attention by tensor cores
//! The same one pass over the keys for f16 and bf16 by `mma.sync.m16n8k16` and, where the caller allows f32 to be rounded to
//! tf32, by `m16n8k8`, with f32 sums: a block takes 64 queries of a head, each of its 4 warps 16 of them, whose elements stay
//! in shared memory. Keys and their values come in blocks of 64 (of 32 where heads are wider than 128; half as many of f32)
//! by `cp.async`, the next block while this one is multiplied, both in the layout that they have in memory: what is read as
//! a fragment turns the values (`operand.rs`). The scores of a warp are fragments of the first product and, rounded to
//! factors as `p_ij` before they are divided by their sum, those of the second one: they never leave the registers. The sum
//! itself is of what was not rounded.
//!
//! A copy is 16 bytes: widths, the distances of rows, heads and images and the operands' first elements are multiples of
//! 8 elements, 4 of f32, else the kernel of scalar arithmetic takes them. Keys behind the last valid one are read as zero and
//! have no weight; the value of a key that is masked counts `0 · v`, as in the formula, which is NaN where `v` is not finite.
//!
//! Errors: `p` is off by half an ulp of the type, `2⁻¹¹`, or `2⁻⁸` of bf16, and an exponential by 2 ulp and `|s − m| · 2⁻²⁴`.
//! Queries, keys and values of f32 are rounded to tf32 as they are read, each within `2⁻¹¹` of itself.
//!
//! Floor of 1 × 8 × 1024 × 64 on a GPU of 132 multiprocessors: 2.15 · 10⁹ operations at `mma.sync`'s 660 · 10¹² a second are
//! 3.3 µs, the bytes of its four operands 1.3 µs. Predicted: 128 blocks are one for each multiprocessor, 16 blocks of keys
//! each; of one, 4 warps read 36 fragments of 512 bytes from shared memory, 576 clocks, beside 64 products of 2 clocks, 512,
//! and make 32 exponentials a lane, some 12 instructions each with scaling and bounds, 400 clocks on four schedulers. With
//! one warp on a scheduler these hide little of each other: 1,500 clocks a block of keys, 14 µs in all. Nothing of this was
//! measured. Of f32, a block of half as many keys takes as many fragments, products of as many clocks, and a conversion for
//! each word of a fragment, 176 a lane at 2 clocks: it is predicted to take some two and a half times as long in all.
//!
//! Grid `⌈queries / 64⌉ × heads × images`, block 128, shared memory for 64 rows of queries and two times as many keys and
//! values as a block has, rows 16 bytes longer than the widest head of the entry: the eight rows that `ldmatrix` reads
//! at once lie in different banks. f32 heads wider than 128 take 130 KiB, which not every GPU has.

use super::operand::Operand;
use super::{Buffers, Params, Shape, Strides};
use crate::device::{BF16, F16, Global, Shared, async_copy, math, shared, thread, warp};
use crate::element::Element;
use crate::entry;
use crate::gemm::Factors;
use crate::gemm::frame::Factor;
use crate::gemm::tf32::Tf32;
use crate::launch::{Device, Entry, Geometry};

/// Threads of a block.
const THREADS: u32 = 128;
/// Queries of a warp and of a block.
const OWN: u32 = 16;
const QUERIES: u32 = OWN * (THREADS / warp::LANES);

/// Keys of a step, for heads of at most `8 · tiles` elements.
const fn keys<T: Factor>(tiles: u32) -> u32 {
    if tiles > 16 { T::STEP } else { 2 * T::STEP }
}

/// Elements between rows.
const fn pitch<T: Factor>(tiles: u32) -> u32 {
    8 * tiles + T::PIECE
}

const fn shared_bytes<T: Factor>(tiles: u32) -> u32 {
    size_of::<T::Bits>() as u32 * pitch::<T>(tiles) * (QUERIES + 4 * keys::<T>(tiles))
}

/// An operand's rows on their way: those of one head.
struct Rows<T: Factor> {
    elements: Global<T::Bits>,
    first: u64,
    row: u32,
    width: u32,
    limit: u32,
}

impl<T: Factor> Rows<T> {
    /// Starts the thread's copies of `count` rows from `from` on; what is behind the last row, and up to a multiple of 16
    /// elements behind each, is zero.
    #[inline(always)]
    fn start<const TILES: u32>(&self, to: Shared<T::Bits>, from: u32, count: u32) {
        let end = (self.width + 15) & !15;
        let pieces = 8 * TILES / T::PIECE;
        let to = to.cast::<T::Piece>();
        let mut at = thread::thread_idx_x();
        while at < count * pieces {
            let (row, column) = (at / pieces, at % pieces * T::PIECE);
            if column < end {
                let inside = from + row < self.limit && column < self.width;
                let place = self.first + u64::from(from + row) * u64::from(self.row) + u64::from(column);
                let (place, bytes) = if inside { (place / u64::from(T::PIECE), 16) } else { (0, 0) };
                let own = (row * pitch::<T>(TILES) + column) / T::PIECE;
                async_copy::copy_or_zero(to, own as usize, self.elements.cast(), place as usize, bytes);
            }
            at += THREADS;
        }
    }
}

/// What `of` makes of the values of the four lanes that have a row's scores.
#[inline(always)]
fn of_row(own: f32, of: impl Fn(f32, f32) -> f32) -> f32 {
    let pair = of(own, warp::shuffle_xor(warp::ALL, own, 1));
    of(pair, warp::shuffle_xor(warp::ALL, pair, 2))
}

/// `e^x` for `x` at most 0.
#[inline(always)]
fn exp(x: f32) -> f32 {
    math::approximate_exp2(x * core::f32::consts::LOG2_E)
}

/// `tanh x` within some units of 2⁻²³, which is far below the rounding of scores' factors.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let doubled = math::approximate_exp2(2.0 * core::f32::consts::LOG2_E * x);
    1.0 - 2.0 * math::approximate_reciprocal(doubled + 1.0)
}

/// A block of keys: where the fragments of a warp's scores come from and go to.
struct Step<T: Factor> {
    queries: Shared<T::Bits>,
    keys: Shared<T::Bits>,
    values: Shared<T::Bits>,
    /// The warp's first query in the block.
    own: u32,
}

impl<T: Operand> Step<T> {
    /// Terms of a product.
    const TERMS: u32 = T::STEP / 2;

    /// The products of the warp's queries and the block's keys.
    #[inline(always)]
    fn products<const TILES: u32, const KEYS: usize>(&self, width: u32) -> [[f32; 4]; KEYS] {
        let mut scores = [[0.0f32; 4]; KEYS];
        let mut c = 0;
        while c < width {
            let q = T::matrices::<false>(self.queries, pitch::<T>(TILES), [self.own, c], false);
            for pair in 0..KEYS / 2 {
                let at = [16 * pair as u32, c];
                let [k0, k1, k2, k3] = T::matrices::<false>(self.keys, pitch::<T>(TILES), at, true);
                scores[2 * pair] = T::product(q, [k0, k1], scores[2 * pair]);
                scores[2 * pair + 1] = T::product(q, [k2, k3], scores[2 * pair + 1]);
            }
            c += Self::TERMS;
        }
        scores
    }

    /// Adds the block's values by their weights.
    #[inline(always)]
    fn add<const TILES: u32, const COLUMNS: usize, const KEYS: usize>(
        &self,
        weights: &[[f32; 4]; KEYS],
        sums: &mut [[f32; 4]; COLUMNS],
        width: u32,
    ) {
        for number in 0..8 * KEYS / Self::TERMS as usize {
            let p = T::weights(weights, number);
            for pair in 0..COLUMNS / 2 {
                if 16 * (pair as u32) < width {
                    let at = [16 * pair as u32, number as u32 * Self::TERMS];
                    let [left, right] = T::values(self.values, pitch::<T>(TILES), at);
                    sums[2 * pair] = T::product(p, left, sums[2 * pair]);
                    sums[2 * pair + 1] = T::product(p, right, sums[2 * pair + 1]);
                }
            }
        }
    }
}

/// Every thread. Heads have at most `8 · TILES` elements, which `COLUMNS` is too; a step has `8 · KEYS` keys.
#[inline(always)]
fn run<T: Operand, const TILES: u32, const COLUMNS: usize, const KEYS: usize>(p: Params) {
    const { assert!(COLUMNS == TILES as usize && 8 * KEYS == keys::<T>(TILES) as usize) };
    let (step_keys, pitch) = (keys::<T>(TILES), pitch::<T>(TILES));
    let (first, head, image) =
        (thread::block_idx_x() * QUERIES, thread::block_idx_y(), thread::block_idx_z());
    let kv = math::divide(head, p.group).0;
    let (limit, offset) = p.valid(image);
    let size = size_of::<T::Bits>() as u32;
    let queries = shared::array::<T::Bits>(0, QUERIES * pitch);
    let stages = shared::array::<T::Bits>(size * QUERIES * pitch, 4 * step_keys * pitch);
    // The keys of a step and their values, in turn in two stages.
    let [keys_at, values_at] = [0, step_keys * pitch];
    let stage = |step: u32, at: u32| stages.offset((step % 2 * 2 * values_at + at) as usize);
    let rows = |x: Global<u8>, s: &Strides, head: u32, width: u32, limit: u32| {
        let (elements, first) = (x.cast(), s.place(image, head));
        Rows::<T> { elements, first, row: s.row, width, limit }
    };
    let of_q = rows(p.q, &p.of_q, head, p.width, p.queries);
    let of_k = rows(p.k, &p.of_k, kv, p.width, limit);
    let of_v = rows(p.v, &p.of_v, kv, p.value_width, limit);
    let (group, member) = (warp::lane_id() / 4, warp::lane_id() % 4);
    let own = warp::warp_id() * OWN;
    // Of the lane's two rows.
    let mut seen = [(0u32, 0u32); 2];
    let mut mask = [0u64; 2];
    let mut most = [f32::NEG_INFINITY; 2];
    let mut total = [0.0f32; 2];
    let mut sums = [[0.0f32; 4]; COLUMNS];
    for r in 0..2 {
        let query = first + own + group + 8 * r as u32;
        if query < p.queries {
            seen[r] = p.visible(offset + i64::from(query), limit);
            mask[r] = p.of_mask.place(image, head) + u64::from(query) * u64::from(p.of_mask.row);
        }
    }
    let (mut from, until) = p.visible_to_block(first, QUERIES, offset, limit);
    of_q.start::<TILES>(queries, first, QUERIES);
    if from < until {
        of_k.start::<TILES>(stage(0, keys_at), from, step_keys);
        of_v.start::<TILES>(stage(0, values_at), from, step_keys);
    }
    async_copy::commit();
    let mut step = 0;
    while from < until {
        async_copy::wait::<0>();
        // Behind this everybody's copies have arrived, and nobody reads the other stage any more.
        thread::sync_threads();
        if from + step_keys < until {
            of_k.start::<TILES>(stage(step + 1, keys_at), from + step_keys, step_keys);
            of_v.start::<TILES>(stage(step + 1, values_at), from + step_keys, step_keys);
        }
        async_copy::commit();
        let block = Step::<T> { queries, keys: stage(step, keys_at), values: stage(step, values_at), own };
        let mut scores = block.products::<TILES, KEYS>(p.width);
        let mut kept = [0.0f32; 2];
        for r in 0..2 {
            let mut here = most[r];
            for j in 0..KEYS {
                for e in 0..2 {
                    let key = from + 8 * j as u32 + 2 * member + e as u32;
                    let score = &mut scores[j][2 * r + e];
                    let sees = key >= seen[r].0 && key < seen[r].1;
                    *score = if sees { p.score(*score, mask[r], key, tanh) } else { f32::NEG_INFINITY };
                    // A NaN is not larger, and becomes a weight.
                    here = if *score > here { *score } else { here };
                }
            }
            here = of_row(here, |a, b| if b > a { b } else { a });
            let base = if here == f32::NEG_INFINITY { 0.0 } else { here };
            kept[r] = exp(most[r] - base);
            most[r] = here;
            let mut sum = 0.0;
            for j in 0..KEYS {
                for e in 0..2 {
                    let weight = exp(scores[j][2 * r + e] - base);
                    scores[j][2 * r + e] = weight;
                    sum += weight;
                }
            }
            total[r] = total[r] * kept[r] + sum;
        }
        for of_columns in &mut sums {
            for e in 0..4 {
                of_columns[e] *= kept[e / 2];
            }
        }
        block.add::<TILES, COLUMNS, KEYS>(&scores, &mut sums, p.value_width);
        (from, step) = (from + step_keys, step + 1);
    }
    async_copy::wait::<0>();
    let y = p.y.cast::<T::Pair>();
    for r in 0..2 {
        let total = of_row(total[r], |a, b| a + b);
        let factor = if total == 0.0 { 0.0 } else { 1.0 / total };
        let query = first + own + group + 8 * r as u32;
        if query < p.queries {
            let row = p.of_y.place(image, head) + u64::from(query) * u64::from(p.of_y.row);
            for (c, of_columns) in sums.iter().enumerate() {
                let column = 8 * c as u32 + 2 * member;
                if column < p.value_width {
                    let pair = T::pair(of_columns[2 * r] * factor, of_columns[2 * r + 1] * factor);
                    y.store((row / 2 + u64::from(column / 2)) as usize, pair);
                }
            }
        }
    }
}

/// The entries of one type.
macro_rules! entries {
    ($($constant:ident = $symbol:ident: $t:ty, $columns:literal, $keys:literal, $blocks:literal;)*) => { $(
        entry!(
            /// See the module.
            $constant = $symbol(Params): run::<$t, $columns, $columns, $keys>, THREADS,
            with_shared(shared_bytes::<$t>($columns)), with_min_blocks($blocks), with_capability(80),
            with_tensor_cores()
        );
    )* };
}

entries! {
    ATTENTION_TENSOR_F16_64 = attention_tensor_f16_64: F16, 8, 8, 3;
    ATTENTION_TENSOR_F16_128 = attention_tensor_f16_128: F16, 16, 8, 2;
    ATTENTION_TENSOR_F16_256 = attention_tensor_f16_256: F16, 32, 4, 2;
    ATTENTION_TENSOR_BF16_64 = attention_tensor_bf16_64: BF16, 8, 8, 3;
    ATTENTION_TENSOR_BF16_128 = attention_tensor_bf16_128: BF16, 16, 8, 2;
    ATTENTION_TENSOR_BF16_256 = attention_tensor_bf16_256: BF16, 32, 4, 2;
    ATTENTION_TENSOR_TF32_64 = attention_tensor_tf32_64: Tf32, 8, 4, 3;
    ATTENTION_TENSOR_TF32_128 = attention_tensor_tf32_128: Tf32, 16, 4, 2;
    ATTENTION_TENSOR_TF32_256 = attention_tensor_tf32_256: Tf32, 32, 2, 1;
}

/// The entries of a type for heads of up to 64, 128 and 256 elements, and what each shares.
const fn entries<T: Factor>(entries: [&'static Entry<Params>; 3]) -> [(&'static Entry<Params>, u32); 3] {
    let [narrow, middle, wide] = entries;
    [(narrow, shared_bytes::<T>(8)), (middle, shared_bytes::<T>(16)), (wide, shared_bytes::<T>(32))]
}

/// The entry for such an attention and its geometry, where tensor cores take it.
pub(super) fn chosen(
    shape: &Shape,
    buffers: &Buffers,
    device: &Device,
) -> Option<(&'static Entry<Params>, Geometry)> {
    let piece = 16 / shape.element.bytes() as u32;
    let aligned = |s: &Strides| [s.image, s.head, s.row].iter().all(|step| step.is_multiple_of(piece));
    let operands = [buffers.q, buffers.k, buffers.v, buffers.y];
    let whole = [shape.width, shape.value_width].iter().all(|width| width.is_multiple_of(piece))
        && shape.strides.iter().all(aligned)
        && operands.iter().all(|buffer| buffer.address.is_multiple_of(16));
    if device.capability < 80 || !whole {
        return None;
    }
    let of_type = match (shape.element, shape.factors) {
        (Element::F32, Factors::Own) => return None,
        (Element::F32, Factors::Tf32) => entries::<Tf32>([
            &ATTENTION_TENSOR_TF32_64,
            &ATTENTION_TENSOR_TF32_128,
            &ATTENTION_TENSOR_TF32_256,
        ]),
        (Element::F16, _) => {
            entries::<F16>([&ATTENTION_TENSOR_F16_64, &ATTENTION_TENSOR_F16_128, &ATTENTION_TENSOR_F16_256])
        }
        (Element::BF16, _) => entries::<BF16>([
            &ATTENTION_TENSOR_BF16_64,
            &ATTENTION_TENSOR_BF16_128,
            &ATTENTION_TENSOR_BF16_256,
        ]),
    };
    let (entry, bytes) = match shape.width.max(shape.value_width) {
        0..=64 => of_type[0],
        65..=128 => of_type[1],
        _ => of_type[2],
    };
    let linear = Geometry::linear(1, THREADS).with_shared(bytes);
    (bytes <= device.shared_bytes).then_some(())?;
    Some((entry, Geometry { grid: [shape.queries.div_ceil(QUERIES), shape.heads, shape.images], ..linear }))
}
