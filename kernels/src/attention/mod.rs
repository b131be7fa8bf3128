//! # Attention
//! `y_i = Σ_j p_ij · v_j`, `p_ij = exp(s_ij − m_i) / Σ_j exp(s_ij − m_i)`, `s_ij = cap(scale · q_i·k_j) + mask_ij`, in one pass
//! over the keys, without the matrix of all scores. Heads of queries may share heads of keys; keys may be bounded by a
//! window around each query's position and by a number per image. A query that sees no key gives zeros.
//!
//! A block takes 16 queries of a head, a warp four of them. Keys come in blocks of 32 through shared memory: a lane scores
//! one key for each query of its warp, the warp finds the largest score and the sum of exponentials, and what there was so far
//! is rescaled by `exp(m_old − m_new)` (Milakov and Gimelshein 2018; Dao et al. 2022). The values of the same keys then take
//! the keys' place: a lane keeps the weighted sums of up to 8 columns of each query in registers.
//!
//! Hazard: `−∞ − (−∞)` where a query has seen nothing but masked keys: such keys take no part. Sums are f32; an exponential
//! is off by 2 ulp and half an ulp of `s − m`.
//!
//! Grid `⌈queries / 16⌉ × heads × images`, block 128, shared memory `4 · (16 · width + 32 · (max(width, value width) + 1))` bytes.

use crate::device::math::divide;
use crate::device::{BF16, F16, Global, Shared, shared, thread, warp};
use crate::element::{Element, Real};
use crate::elementary::{exp, tanh};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Geometry, Prepared, Reject};
use crate::wide::load_real;

pub mod tensor;

/// Elements between images, heads and rows of an operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Strides {
    /// Between images.
    pub image: u32,
    /// Between heads.
    pub head: u32,
    /// Between rows.
    pub row: u32,
}

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    q: Global<u8>,
    k: Global<u8>,
    v: Global<u8>,
    /// Null: none.
    mask: Global<u8>,
    /// Keys of each image that are valid. Null: all.
    lengths: Global<u64>,
    y: Global<u8>,
    of_q: Strides,
    of_k: Strides,
    of_v: Strides,
    of_y: Strides,
    /// Of the mask: images, heads and queries; keys are side by side or, where `mask_step` is 0, one for all.
    of_mask: Strides,
    mask_step: u32,
    /// Keys that the mask tells of; those behind are masked.
    mask_keys: u32,
    /// Type of the mask: that of an element, or `BOOL`.
    mask_type: u32,
    queries: u32,
    keys: u32,
    /// Heads of queries per head of keys.
    group: u32,
    width: u32,
    value_width: u32,
    /// Position of the first query among the keys, where `lengths` is null.
    past: u32,
    /// Keys before and behind a query's position that it sees.
    left: u32,
    right: u32,
    scale: f32,
    /// Bound of the scores; 0: none.
    cap: f32,
    reserved: u32,
}

const _: () = assert!(size_of::<Params>() == 168);

/// Threads of a block.
pub const THREADS: u32 = 128;
/// Queries of a block and of a warp, and keys of a step.
const ROWS: u32 = 16;
const OWN: usize = (ROWS / (THREADS / warp::LANES)) as usize;
const KEYS: u32 = warp::LANES;
/// The widest head, and columns of it that a lane keeps.
pub const MOST_WIDTH: u32 = 256;
const COLUMNS: usize = (MOST_WIDTH / warp::LANES) as usize;
const SHARED: u32 = shared_bytes(MOST_WIDTH, MOST_WIDTH);
/// The type of a mask of truth values.
const BOOL: u32 = 0xff;
/// No bound of a window.
pub const UNBOUNDED: u32 = u32::MAX;

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

impl Strides {
    /// The first element of a head of an image.
    #[inline(always)]
    fn place(&self, image: u32, head: u32) -> u64 {
        u64::from(image) * u64::from(self.image) + u64::from(head) * u64::from(self.head)
    }
}

impl Params {
    /// How many keys of an image are valid, and the position of its first query among them.
    #[inline(always)]
    fn valid(&self, image: u32) -> (u32, i64) {
        if self.lengths.is_null() {
            return (self.keys, i64::from(self.past));
        }
        let length = self.lengths.load(image as usize) as i64;
        let inside = if length < 0 { 0 } else { length };
        let limit = if inside < i64::from(self.keys) { inside as u32 } else { self.keys };
        (limit, length - i64::from(self.queries))
    }

    /// The keys that any of `count` queries from `first` on sees of the first `limit`.
    #[inline(always)]
    fn visible_to_block(&self, first: u32, count: u32, offset: i64, limit: u32) -> (u32, u32) {
        let last = if first + count < self.queries { first + count } else { self.queries };
        let (from, _) = self.visible(offset + i64::from(first), limit);
        let (_, until) = self.visible(offset + i64::from(last) - 1, limit);
        (from, until)
    }

    /// The keys that a query at `position` sees of the first `limit`.
    #[inline(always)]
    fn visible(&self, position: i64, limit: u32) -> (u32, u32) {
        let clip = |at: i64| {
            let at = if at > 0 { at } else { 0 };
            if at < i64::from(limit) { at as u32 } else { limit }
        };
        let first = if self.left == UNBOUNDED { 0 } else { clip(position - i64::from(self.left)) };
        let last = if self.right == UNBOUNDED { limit } else { clip(position + i64::from(self.right) + 1) };
        (first, last)
    }

    /// The score of a key by the product of it and a query, bounded by this tanh: −∞ where it is masked.
    #[inline(always)]
    fn score(&self, product: f32, mask: u64, key: u32, tanh: impl Fn(f32) -> f32) -> f32 {
        let mut score = product * self.scale;
        if self.cap > 0.0 {
            score = self.cap * tanh(score / self.cap);
        }
        if self.mask.is_null() {
            return score;
        }
        if key >= self.mask_keys {
            return f32::NEG_INFINITY;
        }
        let at = (mask + u64::from(key) * u64::from(self.mask_step)) as usize;
        if self.mask_type == BOOL {
            return if self.mask.load(at) != 0 { score } else { f32::NEG_INFINITY };
        }
        let term = load_real(self.mask, self.mask_type, at);
        if term == f32::NEG_INFINITY { term } else { score + term }
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

/// A mask: how it lies over scores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mask {
    /// Between images, heads and queries; 0 where it is for all of them.
    pub strides: Strides,
    /// Whether there is an element for each key, or one for all.
    pub by_key: bool,
    /// Keys that it tells of; those behind are masked.
    pub keys: u32,
    /// The type of terms, or none for truth values.
    pub element: Option<Element>,
}

/// An attention as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Type of queries, keys, values and Y.
    pub element: Element,
    /// Images.
    pub images: u32,
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys, which divide those of queries.
    pub kv_heads: u32,
    /// Queries.
    pub queries: u32,
    /// Keys.
    pub keys: u32,
    /// Elements of a query and a key.
    pub width: u32,
    /// Elements of a value.
    pub value_width: u32,
    /// Where queries lie, then keys, values and Y.
    pub strides: [Strides; 4],
    /// The mask.
    pub mask: Option<Mask>,
    /// Position of the first query among the keys.
    pub past: u32,
    /// Keys before a query's position that it sees, or [`UNBOUNDED`].
    pub left: u32,
    /// Keys behind it, or [`UNBOUNDED`].
    pub right: u32,
    /// The factor of products.
    pub scale: f32,
    /// The bound of scores; 0: none.
    pub cap: f32,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buffers {
    /// The queries.
    pub q: Buffer,
    /// The keys.
    pub k: Buffer,
    /// The values.
    pub v: Buffer,
    /// The mask, where the shape has one.
    pub mask: Buffer,
    /// A 64-bit number of valid keys for each image, or none. Queries are the last ones of them.
    pub lengths: Buffer,
    /// Y.
    pub y: Buffer,
}

impl Strides {
    /// Elements up to the last one of `width` along each row.
    fn reach(&self, images: u32, heads: u32, rows: u32, width: u32) -> u64 {
        let along = |extent: u32, step: u32| u64::from(extent.saturating_sub(1)) * u64::from(step);
        let first = along(images, self.image).saturating_add(along(heads, self.head));
        first.saturating_add(along(rows, self.row)).saturating_add(width.into())
    }
}

impl Shape {
    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        let limit = u64::from(u32::MAX / 4);
        for (name, got, limit) in [
            ("width", self.width.into(), MOST_WIDTH.into()),
            ("width of values", self.value_width.into(), MOST_WIDTH.into()),
            ("queries", self.queries.into(), limit),
            ("keys", u64::from(self.keys) + u64::from(self.past), limit),
        ] {
            if got > limit {
                return Err(Reject::Extent { name, got, limit });
            }
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) || self.width == 0 {
            return Err(Reject::Multiple { name: "heads", got: self.heads.into(), of: self.kv_heads.into() });
        }
        Ok(())
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        self.accepts()?;
        if self.images == 0 || self.heads == 0 || self.queries == 0 || self.value_width == 0 {
            return Ok(None);
        }
        let size = self.element.bytes();
        let [q, k, v, y] = self.strides;
        for (operand, buffer, reach) in [
            ("q", buffers.q, q.reach(self.images, self.heads, self.queries, self.width)),
            ("k", buffers.k, k.reach(self.images, self.kv_heads, self.keys, self.width)),
            ("v", buffers.v, v.reach(self.images, self.kv_heads, self.keys, self.value_width)),
            ("y", buffers.y, y.reach(self.images, self.heads, self.queries, self.value_width)),
        ] {
            let empty = self.keys == 0 && (operand == "k" || operand == "v");
            if !empty {
                buffer.holds(operand, reach.saturating_mul(size), size)?;
            }
        }
        let mut mask = (Strides::default(), 0, 0, BOOL);
        if let Some(given) = &self.mask {
            let size = given.element.map_or(1, Element::bytes);
            let along = if given.by_key { given.keys } else { 1 };
            let reach = given.strides.reach(self.images, self.heads, self.queries, along);
            buffers.mask.holds("mask", reach.saturating_mul(size), size)?;
            let element = given.element.map_or(BOOL, |element| element as u32);
            mask = (given.strides, u32::from(given.by_key), given.keys, element);
        }
        if buffers.lengths.is_some() {
            buffers.lengths.holds("lengths", 8 * u64::from(self.images), 8)?;
        }
        let params = Params {
            q: Global::from_address(buffers.q.address),
            k: Global::from_address(buffers.k.address),
            v: Global::from_address(buffers.v.address),
            mask: Global::from_address(if self.mask.is_some() { buffers.mask.address } else { 0 }),
            lengths: Global::from_address(buffers.lengths.address),
            y: Global::from_address(buffers.y.address),
            of_q: q,
            of_k: k,
            of_v: v,
            of_y: y,
            of_mask: mask.0,
            mask_step: mask.1,
            mask_keys: mask.2,
            mask_type: mask.3,
            queries: self.queries,
            keys: self.keys,
            group: self.heads / self.kv_heads,
            width: self.width,
            value_width: self.value_width,
            past: self.past,
            left: self.left,
            right: self.right,
            scale: self.scale,
            cap: self.cap,
            reserved: 0,
        };
        let entry: &'static Entry<Params> = match self.element {
            Element::F32 => &ATTENTION_F32,
            Element::F16 => &ATTENTION_F16,
            Element::BF16 => &ATTENTION_BF16,
        };
        let geometry = geometry(self.images, self.heads, self.queries, self.width, self.value_width);
        let (entry, geometry) = tensor::chosen(self, buffers, device).unwrap_or((entry, geometry));
        Prepared::new(entry, geometry, params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;
    use crate::launch::Launch;

    #[test]
    fn what_does_not_fit_is_refused() {
        let rows = Strides { image: 0, head: 0, row: 8 };
        let shape = Shape {
            element: Element::F32,
            images: 1,
            heads: 1,
            kv_heads: 1,
            queries: 2,
            keys: 3,
            width: 8,
            value_width: 8,
            strides: [rows; 4],
            mask: None,
            past: 0,
            left: UNBOUNDED,
            right: UNBOUNDED,
            scale: 1.0,
            cap: 0.0,
        };
        assert!(Shape { width: 257, ..shape }.accepts().is_err());
        assert!(Shape { kv_heads: 2, ..shape }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good =
            Buffers { q: buffer(64), k: buffer(96), v: buffer(96), y: buffer(64), ..Buffers::default() };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = shape.prepare(&Buffers { v: buffer(92), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "v", needed: 96, got: 92 }));
        let halves = Shape { element: Element::F16, ..shape };
        let entry = |shape: &Shape, device: &Device| {
            shape.prepare(&good, device).map(|prepared| prepared.map(|p| p.kernel().entry))
        };
        assert_eq!(entry(&shape, &EMULATED), Ok(Some("attention_f32")));
        assert_eq!(entry(&halves, &EMULATED), Ok(Some("attention_tensor_f16_64")));
        assert_eq!(entry(&halves, &Device { capability: 75, ..EMULATED }), Ok(Some("attention_f16")));
        let apart = Shape { strides: [rows, Strides { row: 9, ..rows }, rows, rows], ..halves };
        assert_eq!(entry(&apart, &EMULATED), Ok(Some("attention_f16")));
        let mask = Mask { strides: Strides::default(), by_key: true, keys: 3, element: None };
        let masked = Shape { mask: Some(mask), ..shape };
        assert_eq!(masked.prepare(&good, &EMULATED).err(), Some(Reject::Absent { operand: "mask" }));
    }
}
