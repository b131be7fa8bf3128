//! # Det
//! The determinant of each matrix of the last two axes: the product of the pivots of an elimination with row
//! exchanges, in f64 whatever the type. Opsets 11, 22.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Det",
    domain: "",
    since: &[11, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct Det;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Det))
}

/// The determinant of the `n` × `n` matrix `a`, which is overwritten.
fn determinant(a: &mut [f64], n: usize) -> f64 {
    let mut product = 1.0;
    for column in 0..n {
        let size = |r: &usize| a[r * n + column].abs();
        // A NaN must not hide among the rows that are not chosen.
        let pivot = (column..n).max_by(|x, y| size(x).total_cmp(&size(y))).unwrap_or(column);
        if pivot != column {
            let (upper, lower) = a.split_at_mut(pivot * n);
            upper[column * n..][..n].swap_with_slice(&mut lower[..n]);
            product = -product;
        }
        let (upper, lower) = a.split_at_mut((column + 1) * n);
        let top = &upper[column * n..];
        product *= top[column];
        if top[column] == 0.0 {
            return product;
        }
        for row in lower.chunks_exact_mut(n) {
            let factor = row[column] / top[column];
            row[column..].iter_mut().zip(&top[column..]).for_each(|(r, t)| *r -= factor * t);
        }
    }
    product
}

impl Op for Det {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, FLOATS)?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let [batch @ .., rows, columns] = shape.as_slice() else {
            return Err(OpError::input(0, "is not a matrix"));
        };
        if rows.known().zip(columns.known()).is_some_and(|(r, c)| r != c) {
            return Err(OpError::shape(format!("a matrix of {rows} × {columns} has no determinant")));
        }
        Ok(vec![TensorFact::new(x.dtype, batch.to_vec()).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(0)?;
        let n = shape[shape.len() - 1];
        let size = n.saturating_mul(n);
        let scratch = size.saturating_mul(size_of::<f64>());
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| {
            let x = io.input::<T>(0)?;
            let (out, scratch) = io.output_and_scratch::<T>(0)?;
            let matrix: &mut [f64] = bytemuck::try_cast_slice_mut(&mut scratch[..size * size_of::<f64>()])
                .map_err(|_| OpError::internal("scratch memory is not aligned"))?;
            for (i, y) in out.iter_mut().enumerate() {
                matrix.iter_mut().zip(&x[i * size..]).for_each(|(m, x)| *m = x.to_f64());
                *y = T::from_f64(determinant(matrix, n));
            }
            Ok(())
        }).with_scratch(scratch)))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(0)?;
        let (batch, n) = (&shape[..shape.len() - 2], shape[shape.len() - 1]);
        families::lines::determinants(site, batch.iter().product(), n)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        /// The expansion along the first row.
        fn expand(rows: &[Vec<f64>]) -> f64 {
            let Some((top, rest)) = rows.split_first() else { return 1.0 };
            let minor = |c: usize| -> Vec<Vec<f64>> {
                rest.iter().map(|r| [&r[..c], &r[c + 1..]].concat()).collect()
            };
            let signed = |c: usize| if c.is_multiple_of(2) { top[c] } else { -top[c] };
            (0..top.len()).map(|c| signed(c) * expand(&minor(c))).sum()
        }
        let x = inputs.tensor(0)?;
        let values = x.as_floats()?;
        let (batch, n) = (&x.shape[..x.shape.len() - 2], x.shape[x.shape.len() - 1]);
        let count: usize = batch.iter().product();
        let one = |i: usize| {
            let rows: Vec<Vec<f64>> = (0..n).map(|r| values[(i * n + r) * n..][..n].to_vec()).collect();
            expand(&rows)
        };
        Ok(vec![RefTensor::floats(x.dtype, batch, (0..count).map(one).collect()).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 2);
    let mut shape = g.shape(rank);
    let n = g.size(0, 5);
    shape.extend([n, n]);
    let dtype = *g.pick(FLOATS);
    Case::new([g.tensor(dtype, &shape)]).opset(*g.pick(&[11, 22]))
}
