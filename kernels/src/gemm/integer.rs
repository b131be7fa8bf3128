//! # Products of quantised matrices
//! `C = (A − zₐ) · (B − z_b)` over a batch, A of `m × k` and B of `k × n` bytes, signed or not, C dense 32-bit integers; a
//! zero point for all of a matrix, or one for each row of A and each column of B. Batches have two axes, as in
//! [`gemm`](super).
//!
//! A block makes a tile of 64 × 64, a thread 8 × 8 of it, four terms by one instruction. Unsigned bytes are made signed less
//! 128, and so are their zero points, which leaves every difference. Steps of 16 terms pass through two buffers in shared
//! memory, `[4, 64 + 4]` words of four bytes for each operand, while the next step's bytes are on their way in registers: a
//! thread brings one row's of A and one column's of B, and sums them up, since
//! `Σ(a − zₐ)(b − z_b) = Σab − z_b·Σa − zₐ·Σb + k·zₐ·z_b`. What is behind the last term counts nothing in any of these.
//!
//! Sums wrap, which they do not before k is 2¹⁵: the result is exact.
//!
//! Grid `⌈m / 64⌉ × ⌈n / 64⌉ × batch`; block 64; shared memory 4352 bytes.

use crate::device::math::{divide, dot_bytes};
use crate::device::{Global, Shared, Vector, shared, thread};
use crate::entry;
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    a: Side,
    b: Side,
    y: Global<i32>,
    m: u32,
    n: u32,
    k: u32,
    /// Matrices of the inner axis of the batch.
    inner: u32,
}

const _: () = assert!(size_of::<Params>() == 120);

/// One operand: its bytes, its zero points, and how both lie.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Side {
    x: Global<u8>,
    /// Null: none.
    zero: Global<u8>,
    /// Elements between the matrices of the outer and inner axis of the batch.
    batch: [u64; 2],
    /// Elements between rows.
    row: u32,
    /// 1 where each row of A, or column of B, has its zero point.
    step: u32,
    /// What makes bytes signed: 0x80 where they are not.
    flip: u32,
    reserved: u32,
}

/// Threads of a block.
pub const THREADS: u32 = 64;
pub(crate) const TILE: u32 = 64;
/// Words of a step, four terms each.
pub(crate) const WORDS: usize = 4;
/// Terms of a step.
pub(crate) const STEP: u32 = 4 * WORDS as u32;
/// Words between the words of a step, so that four lie in a row of 16 bytes.
pub(crate) const PITCH: u32 = TILE + 4;
/// Words of a buffer.
pub(crate) const BUFFER: usize = WORDS * PITCH as usize;
pub(crate) const SHARED: u32 = 2 * 2 * BUFFER as u32 * 4;
/// Four times 1: a product with it sums the bytes of a word up.
const ONES: u32 = 0x0101_0101;

/// The launch of so many matrices.
pub const fn geometry(m: u32, n: u32, batches: u32) -> Geometry {
    let grid = [m.div_ceil(TILE), n.div_ceil(TILE), batches];
    Geometry { grid, ..Geometry::linear(1, THREADS).with_shared(SHARED) }
}

impl Side {
    /// The first element of a matrix of the batch.
    #[inline(always)]
    fn of_batch(&self, outer: u32, inner: u32) -> Self {
        let first = u64::from(outer) * self.batch[0] + u64::from(inner) * self.batch[1];
        Self { x: self.x.offset(first as usize), ..*self }
    }

    /// The zero point of row or column `at`, as a signed byte.
    #[inline(always)]
    fn zero(&self, at: u32) -> i32 {
        let zero = if self.zero.is_null() { 0 } else { self.zero.load((at * self.step) as usize) };
        i32::from((zero ^ self.flip as u8) as i8)
    }

    /// Element `column` of row `row`, as the bits of a signed byte.
    #[inline(always)]
    fn load(&self, row: u32, column: u32) -> u32 {
        let at = u64::from(row) * u64::from(self.row) + u64::from(column);
        u32::from(self.x.load(at as usize)) ^ self.flip
    }

    /// The words of the step that begins at `term`, of the elements that `at` places, where there are any.
    #[inline(always)]
    fn fetch(&self, [term, terms]: [u32; 2], there: bool, at: impl Fn(u32) -> (u32, u32)) -> [u32; WORDS] {
        let mut words = [0; WORDS];
        for word in 0..WORDS {
            for byte in 0..4 {
                let k = term + (4 * word + byte) as u32;
                if there && k < terms {
                    let (row, column) = at(k);
                    words[word] |= self.load(row, column) << (8 * byte);
                }
            }
        }
        words
    }
}

/// The words of a step that a thread brings, and the sum of all bytes that it brought.
#[derive(Clone, Copy)]
pub(crate) struct Brought {
    words: [u32; WORDS],
    pub(crate) sum: i32,
}

impl Brought {
    /// Nothing yet.
    pub(crate) const NONE: Self = Self { words: [0; WORDS], sum: 0 };

    /// With the words of another step.
    #[inline(always)]
    pub(crate) fn with(self, words: [u32; WORDS]) -> Self {
        let mut sum = self.sum;
        for k in 0..WORDS {
            sum = dot_bytes(words[k], ONES, sum);
        }
        Self { words, sum }
    }

    /// Puts the words into a buffer.
    #[inline(always)]
    pub(crate) fn put(&self, buffer: Shared<u32>) {
        for k in 0..WORDS {
            buffer.store(k * PITCH as usize + thread::thread_idx_x() as usize, self.words[k]);
        }
    }
}

/// The buffers of both operands, by turns.
#[inline(always)]
pub(crate) fn buffers(turn: usize) -> [Shared<u32>; 2] {
    let stage = shared::array::<u32>(0, SHARED / 4);
    [stage.offset(2 * turn * BUFFER), stage.offset((2 * turn + 1) * BUFFER)]
}

/// Adds the products of a step to a thread's sums.
#[inline(always)]
pub(crate) fn multiply(sums: &mut [[i32; 8]; 8], [a, b]: [Shared<u32>; 2]) {
    let own = thread::thread_idx_x() as usize;
    for k in 0..WORDS {
        let (left, right) = (eight(a.cast(), k, own / 8), eight(b.cast(), k, own % 8));
        for i in 0..8 {
            for j in 0..8 {
                sums[i][j] = dot_bytes(left[i] as u32, right[j] as u32, sums[i][j]);
            }
        }
    }
}

/// Eight words of a step of a tile: four from `at` on, four half a tile on.
#[inline(always)]
fn eight(tile: Shared<i32>, step: usize, at: usize) -> [i32; 8] {
    let row = tile.offset(step * PITCH as usize).cast::<Vector<i32, 4>>();
    let (Vector([a, b, c, d]), Vector([e, f, g, h])) = (row.load(at), row.load(at + TILE as usize / 8));
    [a, b, c, d, e, f, g, h]
}

/// The place in the tile of number `number` of the eight that `quad` has: four neighbours, and four half a tile on.
#[inline(always)]
pub(crate) fn place(number: usize, quad: usize) -> u32 {
    (number % 4 + 4 * quad + number / 4 * 32) as u32
}

/// Every thread.
#[inline(always)]
fn run(p: Params) {
    let own = thread::thread_idx_x();
    let (outer, inner) = divide(thread::block_idx_z(), p.inner);
    let (a, b) = (p.a.of_batch(outer, inner), p.b.of_batch(outer, inner));
    let (first_row, first_column) = (thread::block_idx_x() * TILE, thread::block_idx_y() * TILE);
    let (row, column) = (first_row + own, first_column + own);
    let of_row = |term: u32| a.fetch([term, p.k], row < p.m, |k| (row, k));
    let of_column = |term: u32| b.fetch([term, p.k], column < p.n, |k| (k, column));
    let mut sums = [[0i32; 8]; 8];
    let (mut left, mut right) = (Brought::NONE.with(of_row(0)), Brought::NONE.with(of_column(0)));
    let put = |turn: usize, left: &Brought, right: &Brought| {
        let [of_a, of_b] = buffers(turn);
        left.put(of_a);
        right.put(of_b);
    };
    put(0, &left, &right);
    thread::sync_threads();
    let (mut term, mut turn) = (0, 0);
    while term < p.k {
        let next = term + STEP;
        if next < p.k {
            left = left.with(of_row(next));
            right = right.with(of_column(next));
        }
        multiply(&mut sums, buffers(turn));
        turn = 1 - turn;
        if next < p.k {
            put(turn, &left, &right);
        }
        thread::sync_threads();
        term = next;
    }
    // What the zero points take away from a row's results, and what is left to take from a column's, and their zero points.
    let totals = shared::array::<i32>(0, 4 * TILE);
    let (at, tile) = (own as usize, TILE as usize);
    let a_zero = if row < p.m { a.zero(row) } else { 0 };
    let b_zero = if column < p.n { b.zero(column) } else { 0 };
    totals.store(at, left.sum.wrapping_sub((p.k as i32).wrapping_mul(a_zero)));
    totals.store(tile + at, right.sum);
    totals.store(2 * tile + at, a_zero);
    totals.store(3 * tile + at, b_zero);
    thread::sync_threads();
    let y = p.y.offset(thread::block_idx_z() as usize * p.m as usize * p.n as usize);
    let (tx, ty) = ((own % 8) as usize, (own / 8) as usize);
    for i in 0..8 {
        let in_tile = place(i, ty);
        let row = first_row + in_tile;
        let (of_row, a_zero) = (totals.load(in_tile as usize), totals.load(2 * tile + in_tile as usize));
        for j in 0..8 {
            let in_tile = place(j, tx) as usize;
            let column = first_column + in_tile as u32;
            if row < p.m && column < p.n {
                let of_zeros = totals.load(3 * tile + in_tile).wrapping_mul(of_row);
                let of_column = a_zero.wrapping_mul(totals.load(tile + in_tile));
                let sum = sums[i][j].wrapping_sub(of_zeros).wrapping_sub(of_column);
                y.store(row as usize * p.n as usize + column as usize, sum);
            }
        }
    }
}

entry!(
    /// Bytes.
    GEMM_INTEGER = gemm_integer(Params): run, THREADS, with_shared(SHARED), with_min_blocks(4)
);

/// How an operand lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bytes {
    /// Whether they are signed.
    pub signed: bool,
    /// Elements between rows; those of a row are neighbours.
    pub row: u32,
    /// Elements between the matrices of the outer and inner axis of the batch.
    pub batch: [u64; 2],
    /// Whether each row of A, or column of B, has its zero point, where there are some.
    pub each: bool,
}

/// A product as the caller describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Rows of A.
    pub m: u32,
    /// Columns of B.
    pub n: u32,
    /// Terms.
    pub k: u32,
    /// Matrices of the outer and inner axis of the batch.
    pub batches: [u32; 2],
    /// The left operand.
    pub a: Bytes,
    /// The right operand.
    pub b: Bytes,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buffers {
    /// A.
    pub a: Buffer,
    /// Its zero points, of its type, or none.
    pub a_zero: Buffer,
    /// B.
    pub b: Buffer,
    /// Its zero points, of its type, or none.
    pub b_zero: Buffer,
    /// C, dense 32-bit integers.
    pub y: Buffer,
}

/// Most elements of an operand.
const MOST: u64 = u32::MAX as u64 / 2;

impl Shape {
    /// Bytes up to the last one of an operand of so many rows and columns.
    fn reach(&self, of: &Bytes, rows: u32, columns: u32) -> u64 {
        if rows == 0 || columns == 0 {
            return 0;
        }
        let along = |extent: u32, step: u64| u64::from(extent.saturating_sub(1)).saturating_mul(step);
        let batch = along(self.batches[0], of.batch[0]).saturating_add(along(self.batches[1], of.batch[1]));
        batch.saturating_add(along(rows, of.row.into())).saturating_add(columns.into())
    }

    fn results(&self) -> u64 {
        let [outer, inner] = self.batches;
        [outer, inner, self.m, self.n]
            .iter()
            .fold(1, |count: u64, &extent| count.saturating_mul(extent.into()))
    }

    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        for (name, got) in [
            ("elements of A", self.reach(&self.a, self.m, self.k)),
            ("elements of B", self.reach(&self.b, self.k, self.n)),
            ("elements", self.results()),
            ("terms", u64::from(self.k) + u64::from(STEP)),
        ] {
            if got > MOST {
                return Err(Reject::Extent { name, got, limit: MOST });
            }
        }
        Ok(())
    }

    /// A launch that has been checked; nothing is to be done where C is empty.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        self.accepts()?;
        if self.results() == 0 {
            return Ok(None);
        }
        buffers.a.holds("A", self.reach(&self.a, self.m, self.k), 1)?;
        buffers.b.holds("B", self.reach(&self.b, self.k, self.n), 1)?;
        buffers.y.holds("C", 4 * self.results(), 4)?;
        let zeros = [
            ("zero points of A", buffers.a_zero, self.a, self.m),
            ("zero points of B", buffers.b_zero, self.b, self.n),
        ];
        for (operand, zero, of, count) in zeros {
            if zero.is_some() {
                zero.holds(operand, if of.each { count.into() } else { 1 }, 1)?;
            }
        }
        let side = |x: Buffer, zero: Buffer, of: &Bytes| Side {
            x: Global::from_address(x.address),
            zero: Global::from_address(zero.address),
            batch: of.batch,
            row: of.row,
            step: of.each.into(),
            flip: if of.signed { 0 } else { 0x80 },
            reserved: 0,
        };
        let params = Params {
            a: side(buffers.a, buffers.a_zero, &self.a),
            b: side(buffers.b, buffers.b_zero, &self.b),
            y: Global::from_address(buffers.y.address),
            m: self.m,
            n: self.n,
            k: self.k,
            inner: self.batches[1],
        };
        // What the grid does not take is refused by its check.
        let batches = self.batches[0].saturating_mul(self.batches[1]);
        Prepared::new(&GEMM_INTEGER, geometry(self.m, self.n, batches), params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let of = |row| Bytes { signed: true, row, batch: [0, 0], each: true };
        let shape = Shape { m: 2, n: 3, k: 4, batches: [1, 1], a: of(4), b: of(3) };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good =
            Buffers { a: buffer(8), b: buffer(12), y: buffer(24), a_zero: buffer(2), b_zero: buffer(3) };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let refused = |buffers: Buffers| shape.prepare(&buffers, &EMULATED).err();
        let short = Reject::Length { operand: "zero points of B", needed: 3, got: 2 };
        assert_eq!(refused(Buffers { b_zero: buffer(2), ..good }), Some(short));
        let short = Reject::Length { operand: "C", needed: 24, got: 20 };
        assert_eq!(refused(Buffers { y: buffer(20), ..good }), Some(short));
        assert_eq!(refused(Buffers { a_zero: Buffer::default(), ..good }), None);
        assert!(Shape { m: u32::MAX, ..shape }.accepts().is_err());
        let deep = Shape { batches: [1 << 9, 1 << 9], ..shape };
        let many = Buffers { y: buffer(24 << 18), ..good };
        assert!(matches!(deep.prepare(&many, &EMULATED).err(), Some(Reject::Grid { .. })));
    }
}
