//! Constant right matrices of products, as they are kept: in panels, or in another format.

use super::contraction::SKINNY;
use super::gemm::{Matrix, MatrixMut};
use super::panel_matrix::{self, PanelMatrix};
use super::stored_matrix::{self, StoredMatrix};
use crate::dtype::DType;
use crate::error::OpError;
use crate::ops::{PackSite, Packed};
use std::ops::Range;
use std::sync::Arc;

/// A constant right matrix of `f32`.
#[derive(Debug)]
pub(crate) enum ConstantMatrix {
    /// In the order in which products of any number of rows read it.
    Panels(PanelMatrix),
    /// In the format of the session.
    Stored(StoredMatrix),
}

/// Rows up to which panels are worth while: of more, the library brings the matrix into its own order for a small part
/// of what the product takes.
const MOST_ROWS: usize = 256;

/// Elements of a matrix whose columns lie in one piece up to which panels are worth while for few rows: it stays in a
/// second cache, where a panel is read faster than columns whose sums end after a few vectors. Larger ones are read as fast
/// either way.
const MOST_BY_COLUMNS: usize = 1 << 17;

/// Packs input `index` of a product of `rows` rows, where these are known, if it is a constant matrix of `f32`; with its
/// rows and columns exchanged if `transposed`. A product that is known to have very many rows, or few with a large matrix
/// whose columns lie in one piece, reads the matrix as it lies.
pub(crate) fn pack(
    site: &PackSite<'_>,
    index: usize,
    transposed: bool,
    rows: Option<usize>,
) -> Result<Option<Packed>, OpError> {
    let constant = site.inputs.optional(index)?.and_then(|fact| fact.as_constant());
    let Some(tensor) = constant.filter(|t| t.dtype() == DType::F32) else { return Ok(None) };
    let &[first, second] = tensor.shape() else { return Ok(None) };
    let form = (first, second, transposed);
    let cols = if transposed { first } else { second };
    let matrix = if let Some(stored) = stored_matrix::pack(site, index, tensor, form, rows)? {
        ConstantMatrix::Stored(stored)
    } else if panel_matrix::suits(cols) && rows.is_none_or(|rows| pays(rows, transposed, tensor.len())) {
        ConstantMatrix::Panels(panel_matrix::pack(tensor.bytes(), form, site.budget, site.release)?)
    } else {
        return Ok(None);
    };
    Ok(Some(Packed { data: Arc::new(matrix), consumed: vec![index] }))
}

/// Whether panels are worth while for a product that is known to have `rows` rows.
fn pays(rows: usize, transposed: bool, elements: usize) -> bool {
    rows <= MOST_ROWS && (rows > SKINNY || !transposed || elements <= MOST_BY_COLUMNS)
}

impl ConstantMatrix {
    /// Scratch bytes that [`ConstantMatrix::product`] needs for a block, whose left rows lie in one piece or do not.
    pub(super) fn scratch(&self, rows: usize, cols: usize, depth: usize, in_pieces: bool) -> usize {
        match self {
            Self::Panels(_) => PanelMatrix::scratch(rows, depth, in_pieces),
            Self::Stored(_) => StoredMatrix::scratch(rows, cols, depth, in_pieces),
        }
    }

    /// `out = a · w`, of columns `cols` of the matrix.
    pub(super) fn product(
        &self,
        out: &mut MatrixMut<'_, f32>,
        a: Matrix<'_, f32>,
        cols: Range<usize>,
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        match self {
            Self::Panels(matrix) => matrix.product(out, a, cols, scratch),
            Self::Stored(matrix) => matrix.product(out, a, cols, scratch),
        }
    }
}
