//! Constant right matrices of products, stored in the format of the session: `y = a · w`, with `w` widened as it is read.
//!
//! A product of few rows is bound by reading the matrix, which is done once ([`super::skinny`]); of more rows, panels of it
//! are widened and multiplied as others are. Integers have a factor for each column of `w`, by which sums are multiplied at
//! the end: `Σ a·(f·q) = f·Σ a·q`.

use super::contraction::{PANEL_DEPTH, SHARED, add_product, scratch_of};
use super::gemm::{Matrix, MatrixMut};
use super::skinny::multiply_few;
use super::stored::{Weight, factor, out_of_range};
use crate::Tensor;
use crate::dtype::Element;
use crate::error::OpError;
use crate::memory::Buffer;
use crate::ops::PackSite;
use crate::precision::{Kept, Precision};
use half::{bf16, f16};
use std::ops::Range;

/// Bytes read from a constant between two calls to let go of them.
const PIECE: usize = 1 << 20;
/// Rows up to which the matrix is read once, straight from where it is stored.
const FEW: usize = SHARED;

/// A matrix of `f32` in another format, its elements in the order of the constant.
#[derive(Debug)]
pub(crate) struct StoredMatrix {
    format: Precision,
    weights: Buffer,
    /// A factor for each column, where the format has them.
    factors: Buffer,
    /// Distance of neighbours in a column and in a row.
    strides: (usize, usize),
    depth: usize,
    cols: usize,
}

/// Stores `tensor`, input `index` of a product of `rows` rows where these are known, `first` rows of `second` elements, in
/// the session's format; `None` where that is its own or cannot hold it.
pub(super) fn pack(
    site: &PackSite<'_>,
    index: usize,
    tensor: &Tensor,
    form: (usize, usize, bool),
    rows: Option<usize>,
) -> Result<Option<StoredMatrix>, OpError> {
    let (precision, bytes) = (site.storing.precision, tensor.bytes());
    let kept = match (rows, precision) {
        (_, Precision::F32 | Precision::Tf32) => return Ok(None),
        (Some(rows), _) if rows > FEW => Some(Kept::ManyRows { rows }),
        (_, Precision::F16) => misfit::<f16>(bytes, site.release),
        (_, Precision::Bf16) => misfit::<bf16>(bytes, site.release),
        (_, Precision::Int8) => misfit::<i8>(bytes, site.release),
    };
    if kept.is_some() {
        site.storing.note(index, tensor.len(), [bytes.len(); 2], kept);
        return Ok(None);
    }
    let stored = match precision {
        Precision::F16 => store::<f16>(bytes, form, precision, site),
        Precision::Bf16 => store::<bf16>(bytes, form, precision, site),
        Precision::Int8 | Precision::F32 | Precision::Tf32 => store::<i8>(bytes, form, precision, site),
    }?;
    let held = stored.weights.bytes().len() + stored.factors.bytes().len();
    site.storing.note(index, tensor.len(), [bytes.len(), held], None);
    Ok(Some(stored))
}

/// The `f32` that `bytes` are.
fn read(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(size_of::<f32>()).map(bytemuck::pod_read_unaligned)
}

/// Why format `E` cannot hold these weights.
fn misfit<E: Weight<f32>>(bytes: &[u8], release: &dyn Fn(&[u8])) -> Option<Kept> {
    let mut part = Vec::with_capacity(PIECE / size_of::<f32>());
    bytes.chunks(PIECE).find_map(|piece| {
        part.clear();
        part.extend(read(piece));
        release(piece);
        out_of_range::<f32, E>(&part).map(|weight| Kept::OutOfRange { weight })
    })
}

/// `bytes`, `first` rows of `second` elements, as `E`.
fn store<E: Weight<f32>>(
    bytes: &[u8],
    (first, second, transposed): (usize, usize, bool),
    format: Precision,
    site: &PackSite<'_>,
) -> Result<StoredMatrix, OpError> {
    let (depth, cols) = if transposed { (second, first) } else { (first, second) };
    let strides = if transposed { (1, second) } else { (second, 1) };
    let mut weights = Buffer::zeroed_for::<E>(first * second, site.budget)?;
    let mut factors = Buffer::zeroed_for::<f32>(if E::SCALED { cols } else { 0 }, site.budget)?;
    let row_bytes = second * size_of::<f32>();
    if first * row_bytes == 0 {
        return Ok(StoredMatrix { format, weights, factors, strides, depth, cols });
    }
    let mut row = vec![0f32; second];
    let load = |bytes: &[u8], row: &mut [f32]| row.iter_mut().zip(read(bytes)).for_each(|(to, w)| *to = w);
    let all = factors.elements_mut::<f32>();
    if E::SCALED {
        for (at, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
            load(bytes, &mut row);
            if transposed {
                all[at] = factor(&row).unwrap_or_default();
            } else {
                for (most, weight) in all.iter_mut().zip(&row) {
                    let own = factor(&[*weight]).unwrap_or_default();
                    *most = if own > *most { own } else { *most };
                }
            }
        }
    }
    let mut released = 0;
    let rows = weights.elements_mut::<E>().chunks_exact_mut(second);
    for (at, (to, from)) in rows.zip(bytes.chunks_exact(row_bytes)).enumerate() {
        load(from, &mut row);
        if E::SCALED && transposed {
            E::round(&row, all[at], to);
        } else if E::SCALED {
            // Columns have factors of their own.
            for ((w, factor), to) in row.chunks(1).zip(all.iter()).zip(to.chunks_mut(1)) {
                E::round(w, *factor, to);
            }
        } else {
            E::round(&row, 1.0, to);
        }
        let end = (at + 1) * row_bytes;
        if end - released >= PIECE || at + 1 == first {
            (site.release)(&bytes[released..end]);
            released = end;
        }
    }
    Ok(StoredMatrix { format, weights, factors, strides, depth, cols })
}

impl StoredMatrix {
    /// Scratch bytes that [`StoredMatrix::product`] needs for a block, whose left rows lie in one piece or do not.
    pub(crate) fn scratch(rows: usize, cols: usize, depth: usize, in_pieces: bool) -> usize {
        let panel = depth.min(PANEL_DEPTH).saturating_mul(cols).saturating_mul(size_of::<f32>());
        if rows <= FEW && in_pieces { 0 } else { panel }
    }

    /// `out = a · w`, of columns `cols` of the matrix.
    pub(crate) fn product(
        &self,
        out: &mut MatrixMut<'_, f32>,
        a: Matrix<'_, f32>,
        cols: Range<usize>,
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        match self.format {
            Precision::F16 => self.product_of::<f16>(out, a, cols.clone(), scratch)?,
            Precision::Bf16 => self.product_of::<bf16>(out, a, cols.clone(), scratch)?,
            Precision::Int8 | Precision::F32 | Precision::Tf32 => {
                self.product_of::<i8>(out, a, cols.clone(), scratch)?;
            }
        }
        if let Some(factors) = self.factors.elements::<f32>().get(cols) {
            for i in 0..out.rows() {
                out.row(i).iter_mut().zip(factors).for_each(|(y, factor)| *y *= factor);
            }
        }
        Ok(())
    }

    fn product_of<E: Weight<f32> + Element>(
        &self,
        out: &mut MatrixMut<'_, f32>,
        a: Matrix<'_, f32>,
        cols: Range<usize>,
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        let (rows, depth, width) = (out.rows(), self.depth, cols.len());
        let weights = Matrix::new(self.weights.elements::<E>(), (depth, self.cols), self.strides)?;
        if rows <= FEW && multiply_few(out, a, weights.block(0..depth, cols.clone()), false) {
            return Ok(());
        }
        if depth == 0 {
            (0..rows).for_each(|i| out.row(i).fill(0.0));
            return Ok(());
        }
        let most = depth.min(PANEL_DEPTH);
        let panel = scratch_of::<f32>(scratch, most * width)?;
        let mut at = 0;
        while at < depth {
            let many = (depth - at).min(most);
            let block = weights.block(at..at + many, cols.clone());
            let across = block.strides().1 == 1;
            let lines = if across { block } else { block.transposed() };
            for (i, line) in panel.chunks_exact_mut(lines.cols().max(1)).take(lines.rows()).enumerate() {
                line.iter_mut().zip(lines.piece(i)).for_each(|(to, w)| *to = w.widen());
            }
            let strides = if across { (width, 1) } else { (1, many) };
            let widened = Matrix::new(&*panel, (many, width), strides)?;
            add_product(out, a.block(0..rows, at..at + many), widened, at > 0)?;
            at += many;
        }
        Ok(())
    }
}
