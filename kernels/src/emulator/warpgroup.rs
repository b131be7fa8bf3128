//! Products of a warpgroup from shared memory: operands are found by decoding their descriptors as PTX defines them.
//!
//! Each lane checks and records its share of what its warp reads, and computes its own sums from all of it: products are
//! exact, and the 16 of an instruction are summed in f64 and rounded once.

use super::lane::{Here, Source};
use super::matrix::element;
use super::report::Fault;
use super::shared::SharedAddress;
use super::warp::{Exchange, Product};
use crate::device::warp::LANES;
use crate::device::wgmma::SUMS;

/// Terms of an instruction.
const DEPTH: u32 = 16;
/// Rows of A that a warp's sums are of, and columns of B.
const ROWS: u32 = 16;
const COLUMNS: u32 = 128;
/// Threads of a warpgroup.
const THREADS: u32 = 4 * LANES;

/// An operand of one instruction.
struct Operand {
    /// All in bytes: where it begins, between the blocks of its edge, and between its atoms.
    start: u32,
    block: u32,
    atom: u32,
    /// Whether its lines run along its edge, not along k.
    edge: bool,
}

impl Operand {
    fn decode(bits: u64, edge: bool) -> Result<Self, &'static str> {
        if bits >> 62 != 1 {
            return Err("a matrix descriptor of another layout than the 128-byte swizzle");
        }
        if bits >> 49 & 7 != 0 {
            return Err("a matrix descriptor whose atoms are not aligned to 1024 bytes");
        }
        let field = |at: u32| (bits >> at & 0x3fff) as u32 * 16;
        Ok(Self { start: field(0), block: field(16), atom: field(32), edge })
    }

    /// Where element `x` along the edge, term `k`, lies.
    fn place(&self, x: u32, k: u32) -> u32 {
        let inside = if self.edge {
            x / 64 * self.block + k / 8 * self.atom + k % 8 * 128 + x % 64 * 2
        } else {
            x / 8 * self.atom + x % 8 * 128 + k * 2
        };
        let address = self.start + inside;
        address ^ (address >> 7 & 7) << 4
    }

    /// Where each 16 bytes of `count` rows or columns from `first` on lie.
    fn pieces(&self, first: u32, count: u32) -> impl Iterator<Item = u32> + '_ {
        (0..count * DEPTH / 8).map(move |i| {
            if self.edge {
                self.place(first + i / DEPTH * 8, i % DEPTH)
            } else {
                self.place(first + i / 2, i % 2 * 8)
            }
        })
    }
}

impl Here<'_> {
    /// Four instructions, one after the other: descriptors of A and of B, and whether they lie edge first.
    pub(crate) fn warpgroup_product(
        self,
        product: Product,
        sums: &mut [f32; SUMS],
        [(a, a_edge), (b, b_edge)]: [([u64; 4], bool); 2],
        at: Source,
    ) {
        self.lane.last.set(at);
        if !self.group.run.geometry.threads().is_multiple_of(THREADS) {
            self.fail(Fault::Misuse { what: "a product of a warpgroup that is not whole" });
        }
        let halves = |bits: u64| [bits as u32, (bits >> 32) as u32];
        let ([a0, a1], [b0, b1]) = (halves(a[0]), halves(b[0]));
        self.exchange(u32::MAX, Exchange::Operands, [a0, a1, b0, b1, 0, 0, 0, 0, 0, 0], at);
        let decode =
            |bits, edge| Operand::decode(bits, edge).unwrap_or_else(|what| self.fail(Fault::Misuse { what }));
        for (a, b) in a.into_iter().zip(b) {
            let (a, b) = (decode(a, a_edge), decode(b, b_edge));
            self.instruction(product, sums, [&a, &b], at);
        }
    }

    fn instruction(self, product: Product, sums: &mut [f32; SUMS], [a, b]: [&Operand; 2], at: Source) {
        let (lane, end) = (self.lane.position.lane, self.group.run.geometry.shared_bytes);
        let first_row = self.lane.rank % THREADS / LANES * ROWS;
        let pieces = a.pieces(first_row, ROWS).chain(b.pieces(0, COLUMNS));
        for offset in pieces.skip(lane as usize).step_by(LANES as usize) {
            self.load_row_async(SharedAddress { offset, start: 0, end }, at);
        }
        let blocks = self.group.blocks.borrow();
        let memory = &blocks[self.lane.member].shared;
        let line = |operand: &Operand, x: u32| -> [f64; DEPTH as usize] {
            std::array::from_fn(|k| element(product, memory.load(operand.place(x, k as u32), 2) as u32, 0))
        };
        let (group, member) = (lane / 4, lane % 4);
        let rows = [line(a, first_row + group), line(a, first_row + group + 8)];
        for (pair, four) in sums.chunks_exact_mut(4).enumerate() {
            let column = 8 * pair as u32 + 2 * member;
            let columns = [line(b, column), line(b, column + 1)];
            for (i, sum) in four.iter_mut().enumerate() {
                let terms = rows[i / 2].iter().zip(&columns[i % 2]);
                *sum = terms.fold(f64::from(*sum), |sum, (x, y)| sum + x * y) as f32;
            }
        }
    }
}
