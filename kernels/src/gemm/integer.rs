//! # Products of quantised matrices
//! `C = (A − zₐ) · (B − z_b)` over a batch, A of `m × k` and B of `k × n` bytes, signed or not, C dense 32-bit integers; a
//! zero point for all of a matrix, or one for each row of A and each column of B. Batches have two axes, as in
//! [`gemm`](super).
//!
//! A block makes a tile of 64 × 64 in steps of 16 along k: bytes less their zero points are staged as 32-bit integers, each
//! thread takes 8 × 8 products of every step. Sums wrap, which they do not before k is 2¹⁵: the result is exact.
//!
//! Grid `⌈m / 64⌉ × ⌈n / 64⌉ × batch`; block 64; shared memory `2 · 16 · 68 · 4` bytes.

use crate::device::math::divide;
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
    /// 1 for signed bytes.
    signed: u32,
    reserved: u32,
}

/// Threads of a block.
pub const THREADS: u32 = 64;
pub(crate) const TILE: u32 = 64;
const STEP: u32 = 16;
/// Words between the steps of a staged tile, so that four lie in a row of 16 bytes.
pub(crate) const PITCH: u32 = TILE + 4;
const SHARED: u32 = 2 * STEP * PITCH * 4;

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

    #[inline(always)]
    fn widened(&self, byte: u8) -> i32 {
        if self.signed != 0 { i32::from(byte as i8) } else { i32::from(byte) }
    }

    /// The zero point of row or column `at`.
    #[inline(always)]
    fn zero(&self, at: u32) -> i32 {
        if self.zero.is_null() { 0 } else { self.widened(self.zero.load((at * self.step) as usize)) }
    }

    /// Element `column` of row `row`.
    #[inline(always)]
    fn load(&self, row: u32, column: u32) -> i32 {
        let at = u64::from(row) * u64::from(self.row) + u64::from(column);
        self.widened(self.x.load(at as usize))
    }
}

/// Eight words of a step of a tile: four from `at` on, four half a tile on.
#[inline(always)]
pub(crate) fn eight(tile: Shared<i32>, step: usize, at: usize) -> [i32; 8] {
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
    let of_a = shared::array::<i32>(0, STEP * PITCH);
    let of_b = shared::array::<i32>(4 * STEP * PITCH, STEP * PITCH);
    // Of A a thread stages one step of every fourth row, of B one column.
    let (own_step, own_row, column) = (own % STEP, own / STEP, first_column + own);
    let zero = if column < p.n { b.zero(column) } else { 0 };
    let (tx, ty) = ((own % 8) as usize, (own / 8) as usize);
    let mut sums = [[0i32; 8]; 8];
    let mut term = 0;
    while term < p.k {
        for piece in 0..TILE / (THREADS / STEP) {
            let at = own_row + piece * (THREADS / STEP);
            let (row, k) = (first_row + at, term + own_step);
            let value = if row < p.m && k < p.k { a.load(row, k) - a.zero(row) } else { 0 };
            of_a.store((own_step * PITCH + at) as usize, value);
        }
        for step in 0..STEP {
            let k = term + step;
            let value = if column < p.n && k < p.k { b.load(k, column) - zero } else { 0 };
            of_b.store((step * PITCH + own) as usize, value);
        }
        thread::sync_threads();
        for step in 0..STEP as usize {
            let (left, right) = (eight(of_a, step, ty), eight(of_b, step, tx));
            for i in 0..8 {
                for j in 0..8 {
                    sums[i][j] = sums[i][j].wrapping_add(left[i] * right[j]);
                }
            }
        }
        thread::sync_threads();
        term += STEP;
    }
    let y = p.y.offset(thread::block_idx_z() as usize * p.m as usize * p.n as usize);
    for i in 0..8 {
        let row = first_row + place(i, ty);
        for j in 0..8 {
            let column = first_column + place(j, tx);
            if row < p.m && column < p.n {
                y.store(row as usize * p.n as usize + column as usize, sums[i][j]);
            }
        }
    }
}

entry!(
    /// Bytes.
    GEMM_INTEGER = gemm_integer(Params): run, THREADS, with_shared(SHARED)
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
            signed: of.signed.into(),
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
