//! Products of quantised matrices against sums of whole numbers.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use crate::gemm::integer::{Buffers, Bytes, Shape};
use crate::launch::Buffer;

/// One operand on the host.
struct Operand {
    of: Bytes,
    x: Vec<u8>,
    zero: Option<Vec<u8>>,
}

impl Operand {
    /// `rows × columns`, perhaps with gaps between rows, once for each matrix of the batch or for all; zero points along
    /// `side`.
    fn draw(g: &mut Draw, [rows, columns, side]: [u32; 3], batches: [u32; 2]) -> Self {
        let row = columns + g.pick(&[0, 0, 3]);
        let matrix = u64::from(rows) * u64::from(row);
        let batch =
            [if g.bool() { u64::from(batches[1]) * matrix } else { 0 }, if g.bool() { matrix } else { 0 }];
        let of = Bytes { signed: g.bool(), row, batch, each: g.bool() };
        let last = u64::from(batches[0] - 1) * batch[0] + u64::from(batches[1] - 1) * batch[1];
        let mut bytes = |count: u64| (0..count).map(|_| g.bits() as u8).collect::<Vec<u8>>();
        let x = bytes(last + matrix);
        let points = bytes(if of.each { side.into() } else { 1 });
        Self { of, x, zero: if g.bool() { Some(points) } else { None } }
    }

    fn upload(&self, name: &str, lab: &mut Lab<'_>) -> Result<[Buffer; 2], Failure> {
        let zero =
            self.zero.as_ref().map_or(Ok(Buffer::default()), |zero| lab.upload("zero points", zero))?;
        Ok([lab.upload(name, &self.x)?, zero])
    }

    /// Element `(row, column)` of a matrix less the zero point of `at`.
    fn value(&self, matrix: [u32; 2], [row, column]: [u32; 2], at: u32) -> i64 {
        let widened = |byte: u8| if self.of.signed { i64::from(byte as i8) } else { i64::from(byte) };
        let first = u64::from(matrix[0]) * self.of.batch[0] + u64::from(matrix[1]) * self.of.batch[1];
        let place = first + u64::from(row) * u64::from(self.of.row) + u64::from(column);
        let zero =
            self.zero.as_ref().map_or(0, |zero| widened(zero[if self.of.each { at as usize } else { 0 }]));
        widened(self.x[place as usize]) - zero
    }
}

/// Extents at the edges of tiles and of steps.
pub(super) fn shapes(_: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let (m, n) = (g.edge(&[1, 63, 64, 65], 1..=70), g.edge(&[1, 63, 64, 65], 1..=70));
    let k = g.edge(&[0, 1, 15, 16, 17, 32], 1..=40);
    let batches = [g.pick(&[1, 1, 2]), g.pick(&[1, 1, 3])];
    let (a, b) = (Operand::draw(g, [m, k, m], batches), Operand::draw(g, [k, n, n], batches));
    let shape = Shape { m, n, k, batches, a: a.of, b: b.of };
    let ([of_a, a_zero], [of_b, b_zero]) = (a.upload("A", lab)?, b.upload("B", lab)?);
    let count = batches[0] * batches[1] * m * n;
    let y = lab.room("C", 4 * u64::from(count))?;
    let buffers = Buffers { a: of_a, a_zero, b: of_b, b_zero, y };
    if let Some(launch) = shape.prepare(&buffers, &lab.device())? {
        lab.run(launch)?;
    }
    let got = lab.bytes(y)?;
    let mut got = got.chunks_exact(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    for outer in 0..batches[0] {
        for inner in 0..batches[1] {
            for row in 0..m {
                for column in 0..n {
                    let matrix = [outer, inner];
                    let term =
                        |at: u32| a.value(matrix, [row, at], row) * b.value(matrix, [at, column], column);
                    let (want, got) = ((0..k).map(term).sum::<i64>(), got.next());
                    if got.map(i64::from) != Some(want) {
                        let at = (outer, inner, row, column);
                        return Err(Failure::Wrong(format!("{shape:?} {at:?}: {got:?} instead of {want}")));
                    }
                }
            }
        }
    }
    Ok(())
}
