//! # Convolutions of quantised tensors
//! `y[n, m, p] = Σ_{c, t} (w[m, c, t] − w₀[m]) · (x[n, g(m)·C/G + c, p·stride + t·dilation − begin] − x₀)` over up to three
//! spatial axes, nothing from outside the input, bytes signed or not, 32-bit integers; X and Y lie as
//! `[images, channels, positions]`, w₀ is one number or one for each filter.
//!
//! A block computes a tile of 64 filters × 64 positions, a thread 8 × 8 of it, four terms by one instruction. Unsigned bytes
//! are made signed less 128, and so are their zero points, which leaves every difference; what is outside the input is x₀.
//! Steps of 16 terms pass through two buffers in shared memory, `[4, 64 + 4]` words of four bytes for each operand, while
//! the next step's bytes are on their way in registers: a thread brings one filter's and one position's, and sums them up,
//! since `Σ(w − w₀)(x − x₀) = Σwx − x₀Σw − w₀Σx + k·w₀x₀`. Terms follow one another without divisions.
//!
//! Sums wrap, which they do not before k is 2¹⁵: the result is exact.
//!
//! Grid `⌈positions / 64⌉ × ⌈filters of a group / 64⌉ × groups`, block 64, shared memory 4352 bytes.

use crate::conv::{Axis, MOST_AXES};
use crate::device::{Global, shared, thread};
use crate::entry;
use crate::gemm::integer::{Brought, SHARED, STEP, TILE, WORDS, buffers, multiply, place};
use crate::implicit::{Column, Extents, Field, Term};
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    w: Global<u8>,
    /// Zero points of their types; null: none.
    x_zero: Global<u8>,
    w_zero: Global<u8>,
    y: Global<i32>,
    field: Field,
    /// What makes bytes signed: 0x80 where they are not.
    x_flip: u32,
    w_flip: u32,
    /// 1 where each filter has its zero point.
    w_step: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Params>() == 192);

/// Threads of a block.
pub const THREADS: u32 = TILE;

/// The launch of a convolution of so many positions.
pub const fn geometry(positions: u32, filters: u32, groups: u32) -> Geometry {
    let grid = [positions.div_ceil(TILE), filters.div_ceil(TILE), groups];
    Geometry { grid, ..Geometry::linear(1, THREADS).with_shared(SHARED) }
}

impl Params {
    /// The zero points of X and of a filter, as signed bytes.
    #[inline(always)]
    fn x_zero(&self) -> i32 {
        let zero = if self.x_zero.is_null() { 0 } else { self.x_zero.load(0) };
        i32::from((zero ^ self.x_flip as u8) as i8)
    }

    #[inline(always)]
    fn w_zero(&self, group: u32, filter: u32) -> i32 {
        let at = (group * self.field.filters + filter) * self.w_step;
        let there = !self.w_zero.is_null() && filter < self.field.filters;
        let zero = if there { self.w_zero.load(at as usize) } else { 0 };
        i32::from((zero ^ self.w_flip as u8) as i8)
    }

    /// A position's bytes of the step that begins at `term`, of number `number`; gives the term behind them.
    #[inline(always)]
    fn fetch_column(&self, column: Column, zero: i32, number: u32, mut term: Term) -> ([u32; WORDS], Term) {
        let mut words = [0; WORDS];
        for word in 0..WORDS {
            for byte in 0..4 {
                if number + (4 * word + byte) as u32 >= self.field.terms {
                    continue;
                }
                let (inside, at) = self.field.place(column, term);
                let value = if inside {
                    u32::from(self.x.load(at as usize)) ^ self.x_flip
                } else {
                    zero as u32 & 0xff
                };
                words[word] |= value << (8 * byte);
                term = self.field.next(term);
            }
        }
        (words, term)
    }

    /// A filter's bytes of the step that begins at term `number`.
    #[inline(always)]
    fn fetch_row(&self, group: u32, filter: u32, number: u32) -> [u32; WORDS] {
        let first = u64::from(group * self.field.filters + filter) * u64::from(self.field.terms);
        let mut words = [0; WORDS];
        for word in 0..WORDS {
            for byte in 0..4 {
                let at = number + (4 * word + byte) as u32;
                if filter < self.field.filters && at < self.field.terms {
                    let value = u32::from(self.w.load((first + u64::from(at)) as usize)) ^ self.w_flip;
                    words[word] |= value << (8 * byte);
                }
            }
        }
        words
    }
}

/// Every thread.
#[inline(always)]
fn run(p: Params) {
    let (own, group) = (thread::thread_idx_x(), thread::block_idx_z());
    let [first_row, first_column] = [thread::block_idx_y() * TILE, thread::block_idx_x() * TILE];
    let (filter, column) = (first_row + own, p.field.column(first_column + own, group));
    let x_zero = p.x_zero();
    let (tx, ty) = (own as usize % 8, own as usize / 8);
    let mut sums = [[0i32; 8]; 8];
    let (words, mut behind) = p.fetch_column(column, x_zero, 0, Term { channel: 0, tap: [0; MOST_AXES] });
    let (mut row, mut of_x) = (Brought::NONE.with(p.fetch_row(group, filter, 0)), Brought::NONE.with(words));
    let put = |turn: usize, row: &Brought, of_x: &Brought| {
        let [of_w, of_positions] = buffers(turn);
        row.put(of_w);
        of_x.put(of_positions);
    };
    put(0, &row, &of_x);
    thread::sync_threads();
    let (mut term, mut turn) = (0, 0);
    while term < p.field.terms {
        let next = term + STEP;
        if next < p.field.terms {
            row = row.with(p.fetch_row(group, filter, next));
            let words;
            (words, behind) = p.fetch_column(column, x_zero, next, behind);
            of_x = of_x.with(words);
        }
        multiply(&mut sums, buffers(turn));
        turn = 1 - turn;
        if next < p.field.terms {
            put(turn, &row, &of_x);
        }
        thread::sync_threads();
        term = next;
    }
    // What the zero points take away from a filter's results, and from a position's, and each filter's zero point.
    let totals = shared::array::<i32>(0, 3 * TILE);
    let (at, w_zero) = (own as usize, p.w_zero(group, filter));
    let all = (p.field.terms as i32).wrapping_mul(w_zero).wrapping_mul(x_zero);
    totals.store(at, x_zero.wrapping_mul(row.sum).wrapping_sub(all));
    totals.store(TILE as usize + at, of_x.sum);
    totals.store(2 * TILE as usize + at, w_zero);
    thread::sync_threads();
    for j in 0..8 {
        let x_total = totals.load((TILE + place(j, tx)) as usize);
        for i in 0..8 {
            let of_tile = place(i, ty);
            let (number, left) = p.field.result(group, first_row + of_tile, first_column + place(j, tx));
            if left > 0 {
                let of_filter = totals.load(of_tile as usize);
                let zero = totals.load((2 * TILE + of_tile) as usize);
                let sum = sums[i][j].wrapping_sub(of_filter).wrapping_sub(zero.wrapping_mul(x_total));
                p.y.store(number as usize, sum);
            }
        }
    }
}

entry!(
    /// Bytes.
    CONV_INTEGER = conv_integer(Params): run, THREADS, with_shared(SHARED), with_min_blocks(4)
);

/// A convolution as the caller describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Images.
    pub images: u32,
    /// Groups.
    pub groups: u32,
    /// Channels of a group.
    pub channels: u32,
    /// Filters of a group.
    pub filters: u32,
    /// Spatial axes; those that are not there come first and are [`Axis::NONE`].
    pub axes: [Axis; MOST_AXES],
    /// Whether X, and whether W, has signed bytes.
    pub signed: [bool; 2],
    /// Whether each filter has its zero point, where there are some.
    pub each: bool,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// Its zero point, or none.
    pub x_zero: Buffer,
    /// W, `[groups · filters, channels, taps]`.
    pub w: Buffer,
    /// Its zero points, or none.
    pub w_zero: Buffer,
    /// Y, dense 32-bit integers.
    pub y: Buffer,
}

impl Shape {
    fn extents(&self) -> Extents {
        let Self { images, groups, channels, filters, axes, .. } = *self;
        Extents { images, groups, channels, filters, axes }
    }

    /// Whether Y has no elements.
    pub fn is_empty(&self) -> bool {
        self.extents().is_empty()
    }

    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        self.extents().accepts()
    }

    /// A launch that has been checked.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Prepared<Params>, Reject> {
        self.accepts()?;
        let [x, w, y] = self.extents().elements();
        buffers.x.holds("x", x, 1)?;
        buffers.w.holds("w", w, 1)?;
        buffers.y.holds("y", y.saturating_mul(4), 4)?;
        let filters = u64::from(self.groups) * u64::from(self.filters);
        let each = if self.each { filters } else { 1 };
        for (operand, zero, count) in
            [("the zero point of x", buffers.x_zero, 1), ("zero points of w", buffers.w_zero, each)]
        {
            if zero.is_some() {
                zero.holds(operand, count, 1)?;
            }
        }
        let flip = |signed: bool| if signed { 0 } else { 0x80 };
        let params = Params {
            x: Global::from_address(buffers.x.address),
            w: Global::from_address(buffers.w.address),
            x_zero: Global::from_address(buffers.x_zero.address),
            w_zero: Global::from_address(buffers.w_zero.address),
            y: Global::from_address(buffers.y.address),
            field: self.extents().field(),
            x_flip: flip(self.signed[0]),
            w_flip: flip(self.signed[1]),
            w_step: self.each.into(),
            reserved: 0,
        };
        let geometry = geometry(params.field.positions, self.filters, self.groups);
        Prepared::new(&CONV_INTEGER, geometry, params, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let axis = Axis { input: 8, output: 6, kernel: 3, stride: 1, dilation: 1, begin: 0 };
        let axes = [Axis::NONE, Axis::NONE, axis];
        let shape =
            Shape { images: 1, groups: 1, channels: 2, filters: 4, axes, signed: [true, false], each: true };
        assert!(Shape { images: 0, ..shape }.accepts().is_err());
        assert!(Shape { channels: u32::MAX, ..shape }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good =
            Buffers { x: buffer(16), x_zero: buffer(1), w: buffer(24), w_zero: buffer(4), y: buffer(96) };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let refused = |buffers: Buffers| shape.prepare(&buffers, &EMULATED).err();
        let short = |operand, needed| Some(Reject::Length { operand, needed, got: needed - 1 });
        assert_eq!(refused(Buffers { x: buffer(15), ..good }), short("x", 16));
        assert_eq!(refused(Buffers { w: buffer(23), ..good }), short("w", 24));
        assert_eq!(refused(Buffers { w_zero: buffer(3), ..good }), short("zero points of w", 4));
        assert_eq!(refused(Buffers { y: buffer(95), ..good }), short("y", 96));
        let none = Buffers { x_zero: Buffer::default(), w_zero: Buffer::default(), ..good };
        assert_eq!(refused(none), None);
        let many = Shape { groups: 70_000, ..shape };
        let all = buffer(u64::from(u32::MAX));
        let wide = Buffers { x: all, w: all, y: all, w_zero: all, ..good };
        assert!(matches!(many.prepare(&wide, &EMULATED).err(), Some(Reject::Grid { .. })));
    }
}
