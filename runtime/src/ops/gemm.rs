//! # Gemm
//! `y = α · A' · B' + β · C`, where `A'` is `A` or its transpose and `C` broadcasts to `y` from the right.
//! Opsets 7, 9 (integers), 11 (`C` optional), 13 (bfloat16). Integers wrap; with another factor than 1 they are
//! scaled in f64 and truncated toward zero.

use super::attributes::NodeSpec;
use super::mat_mul::{DTYPES, product_cost};
use super::{Accuracy, Cost, Making, Op, OpDef, PackSite, Packed, Product};
use crate::cpu::constant_matrix::{self, ConstantMatrix};
use crate::cpu::contraction::{Contraction, Left, Right, Term, tail};
use crate::cpu::number::{Compute, Number, dispatch};
use crate::cpu::program::Layout;
use crate::cpu::row_epilogue::Finish;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::families::product;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, broadcast_index, extents, operand};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Gemm",
    domain: "",
    since: &[7, 9, 11, 13],
    until: None,
    dtypes: DTYPES,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct Gemm {
    alpha: f32,
    beta: f32,
    transpose_a: bool,
    transpose_b: bool,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    // Exporters write any non-zero number for true.
    let flag = |name| Ok::<bool, OpError>(node.int_or(name, 0)? != 0);
    Ok(Arc::new(Gemm {
        alpha: node.float_or("alpha", 1.0)?,
        beta: node.float_or("beta", 1.0)?,
        transpose_a: flag("transA")?,
        transpose_b: flag("transB")?,
    }))
}

impl Gemm {
    /// Extents (rows, columns) of an operand after its transposition.
    fn matrix(index: usize, shape: &[Dim], transposed: bool) -> Result<(Dim, Dim), OpError> {
        match shape {
            [rows, cols] if transposed => Ok((cols.clone(), rows.clone())),
            [rows, cols] => Ok((rows.clone(), cols.clone())),
            _ => Err(OpError::input(index, format!("has rank {}; a matrix is meant", shape.len()))),
        }
    }

    /// The product of operands that lie so, A of shape `a`, the output of shape `y`.
    fn contraction(
        &self,
        a: &[usize],
        y: &[usize],
        [of_a, of_b]: [&Layout; 2],
    ) -> Result<Contraction, OpError> {
        let strides = |transposed: bool, layout: &Layout| match (transposed, layout.strides.as_slice()) {
            (false, &[down, across]) => Ok((down, across)),
            (true, &[down, across]) => Ok((across, down)),
            _ => Err(OpError::internal("an operand that is no matrix")),
        };
        Ok(Contraction {
            batch: Vec::new(),
            m: y[0],
            n: y[1],
            k: a[usize::from(!self.transpose_a)],
            a: strides(self.transpose_a, of_a)?,
            b: strides(self.transpose_b, of_b)?,
            y: y[1],
        })
    }

    /// Elements between rows and columns of C; 0 along an axis of extent 1, so that it is read again and again.
    fn steps(c: &[usize]) -> (usize, usize) {
        let cols = c.last().copied().unwrap_or(1);
        let rows = if c.len() > 1 { c[0] } else { 1 };
        (if rows == 1 { 0 } else { cols }, usize::from(cols != 1))
    }

    fn kernel<T: Term>(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (a, y) = (site.input_shape(0)?, site.output_shape(0)?);
        let (of_a, of_b) = (site.input_layout(0)?, site.input_layout(1)?);
        let product = self.contraction(&a, &y, [&of_a, &of_b])?;
        let c = match site.inputs.optional(2)? {
            Some(_) if self.beta != 0.0 => Some(Self::steps(&site.input_shape(2)?)),
            _ => None,
        };
        let (alpha, beta) = (f64::from(self.alpha), f64::from(self.beta));
        let exact = self.alpha == 1.0 && self.beta == 1.0 || T::DTYPE.is_float();
        let (epilogue, fill) = (site.epilogue.cloned(), site.prologue.cloned());
        let constant = site.packed_as::<ConstantMatrix>();
        let scratch = product.scratch::<T>(site.threads, fill.is_some(), constant.as_deref());
        let kernel = Kernel::new(move |io| {
            let right = match &constant {
                Some(matrix) => Right::Constant(matrix),
                None => Right::Given(tail(io.input::<T>(1)?, of_b.offset)),
            };
            let filler = fill.as_deref().map(|fill| fill.bind(io)).transpose()?;
            let make = |row: usize, rows: &mut [T]| filler.as_ref().map_or(Ok(()), |f| f.fill(row, rows));
            let left = match filler {
                Some(_) => Left::Made(&make),
                None => Left::Given(tail(io.input::<T>(0)?, of_a.offset)),
            };
            let bias = if c.is_some() { io.input::<T>(2)? } else { &[] };
            let (down, across) = c.unwrap_or_default();
            let finish = Finish::bind(epilogue.as_deref(), io)?;
            let context = io.context;
            let (scale, bias_scale) = (T::Compute::from_f64(alpha), T::Compute::from_f64(beta));
            product.run_from(context, (left, right), io.output_and_scratch::<T>(0)?, &|row, col, block| {
                for i in 0..block.rows() {
                    let y = block.row(i);
                    let bias = bias.get((row + i) * down + col * across..).unwrap_or(&[]);
                    if !exact {
                        for (j, y) in y.iter_mut().enumerate() {
                            let term = bias.get(j * across).map_or(0.0, |b| beta * b.to_f64());
                            *y = T::Compute::from_f64(alpha * y.to_f64() + term);
                        }
                        continue;
                    }
                    if alpha != 1.0 {
                        for y in y.iter_mut() {
                            *y = y.mul(scale);
                        }
                    }
                    if across == 1 {
                        let scaled = |b: &T| if beta == 1.0 { b.load() } else { b.load().mul(bias_scale) };
                        y.iter_mut().zip(bias).for_each(|(y, b)| *y = y.add(scaled(b)));
                    } else if let Some(b) = bias.first() {
                        let term = b.load().mul(bias_scale);
                        for y in y.iter_mut() {
                            *y = y.add(term);
                        }
                    }
                }
                finish.apply_block(row, col, block)
            })
        });
        Ok(kernel.with_scratch(scratch))
    }
}

impl Op for Gemm {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        let (a, b, c) = (inputs.typed(0, DTYPES)?, inputs.tensor(1)?, inputs.optional(2)?);
        for (index, fact) in [(1, Some(b)), (2, c)] {
            if let Some(fact) = fact.filter(|f| f.dtype != a.dtype) {
                return Err(OpError::DType { index, got: fact.dtype });
            }
        }
        let side = |index, fact: &TensorFact, transposed| match &fact.shape {
            Some(shape) => Self::matrix(index, shape, transposed),
            None => Ok((Dim::Unknown, Dim::Unknown)),
        };
        let (m, k) = side(0, a, self.transpose_a)?;
        let (depth, n) = side(1, b, self.transpose_b)?;
        if let (Some(x), Some(y)) = (k.known(), depth.known())
            && x != y
        {
            return Err(OpError::shape(format!("inner extents {x} and {y} differ")));
        }
        if let Some(shape) = c.and_then(|c| c.shape.as_ref()) {
            if shape.len() > 2 {
                return Err(OpError::input(2, format!("has rank {}", shape.len())));
            }
            for (from, to) in shape.iter().rev().zip([&n, &m]) {
                if let (Some(x), Some(y)) = (from.known(), to.known())
                    && x != y
                    && x != 1
                {
                    return Err(OpError::shape(format!("C's extent {x} does not broadcast to {y}")));
                }
            }
        }
        Ok(vec![TensorFact::new(a.dtype, vec![m, n]).into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let at = usize::from(!self.transpose_a);
        let depth = inputs.tensor(0).ok().and_then(|a| a.shape.as_ref()?.get(at)?.known());
        product_cost(inputs, outputs, depth)
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let a = extents(operand(inputs, 0)?)?;
        let mut axes = extents(outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?)?.to_vec();
        let pair = |rows, cols, turned: bool| {
            let (first, second) = if turned { (cols, rows) } else { (rows, cols) };
            vec![Affine::axis(first), Affine::axis(second)]
        };
        let bias = if inputs.has(2) && self.beta != 0.0 {
            Some(broadcast_index(extents(operand(inputs, 2)?)?, &axes)?)
        } else {
            None
        };
        axes.push(a[usize::from(!self.transpose_a)].clone());
        let mut nest = Stages::over(inputs, outputs, axes)?;
        // Fractions of integers are rounded in a way that programs do not have.
        if !nest.kind().is_float() && (self.alpha != 1.0 || self.beta != 1.0) {
            return Err(Opaque::Operator);
        }
        let a = nest.read(0, pair(0, 2, self.transpose_a), Outside::Never)?;
        let b = nest.read(1, pair(2, 1, self.transpose_b), Outside::Never)?;
        let sum = nest.fold(Fold::Sum, &[2], &[a, b], |p, v| p.mul(v[0], v[1]))?;
        let mut sources = vec![sum];
        if let Some(index) = bias {
            sources.push(nest.read(2, index, Outside::Never)?);
        }
        nest.store(vec![Affine::axis(0), Affine::axis(1)], &[], &sources, |p, v| {
            let scaled = |p: &mut Builder, v: Reg, by: f32| {
                let factor = p.constant(p.kind(v), by.into());
                if by == 1.0 { v } else { p.mul(v, factor) }
            };
            let sum = scaled(p, v[0], self.alpha);
            let Some(&c) = v.get(1) else { return sum };
            let c = scaled(p, c, self.beta);
            p.add(sum, c)
        })
    }

    fn epilogue_rows(&self, _inputs: Facts<'_>) -> Option<usize> {
        Some(1)
    }

    fn making(&self, _inputs: Facts<'_>) -> Making {
        if self.transpose_a { Making::Nothing } else { Making::Rows }
    }

    fn strided_operands(&self) -> usize {
        2
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        let at = usize::from(self.transpose_a);
        let rows = site.inputs.optional(0)?.and_then(|a| a.shape.as_ref()?.get(at)?.known());
        constant_matrix::pack(site, 1, self.transpose_b, rows)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        dispatch!(site.inputs.tensor(0)?.dtype, numbers, T => self.kernel::<T>(site))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (a, y) = (site.input_shape(0)?, site.output_shape(0)?);
        let (of_a, of_b) = (site.input_layout(0)?, site.input_layout(1)?);
        let contraction = self.contraction(&a, &y, [&of_a, &of_b]).map_err(|_| GpuReject::NoKernel)?;
        let offsets = [of_a.offset, of_b.offset];
        let addend = if site.inputs.has(2) && self.beta != 0.0 {
            let (row, column) = Self::steps(&site.input_shape(2)?);
            Some((2, [row as u64, column as u64]))
        } else {
            None
        };
        let product = product::Product { contraction, offsets, alpha: self.alpha, beta: self.beta, addend };
        product.kernel(site).or_else(|reject| site.of_nest(reject, || self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (a, b, c) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.optional(2)?);
        let (m, k) = if self.transpose_a { (a.shape[1], a.shape[0]) } else { (a.shape[0], a.shape[1]) };
        let n = if self.transpose_b { b.shape[0] } else { b.shape[1] };
        let a_at = |i: usize, l: usize| if self.transpose_a { l * m + i } else { i * k + l };
        let b_at = |l: usize, j: usize| if self.transpose_b { j * k + l } else { l * n + j };
        let c_at = |c: &RefTensor, i, j| RefTensor::broadcast_position(&c.shape, &[i, j]);
        let (alpha, beta) = (f64::from(self.alpha), f64::from(self.beta));
        let places = (0..m * n).map(|p| (p / n, p % n));
        if let (RefData::Float(x), RefData::Float(y)) = (&a.data, &b.data) {
            let mut out = Vec::with_capacity(m * n);
            for (i, j) in places {
                let sum: f64 = (0..k).map(|l| x[a_at(i, l)] * y[b_at(l, j)]).sum();
                let term = match c {
                    Some(c) if beta != 0.0 => beta * c.as_floats()?[c_at(c, i, j)],
                    _ => 0.0,
                };
                out.push(alpha * sum + term);
            }
            return Ok(vec![RefTensor::floats(a.dtype, &[m, n], out).into()]);
        }
        let (x, y) = (a.as_ints()?, b.as_ints()?);
        let mut out = Vec::with_capacity(m * n);
        for (i, j) in places {
            let sum = (0..k).fold(0i128, |s, l| s.wrapping_add(x[a_at(i, l)].wrapping_mul(y[b_at(l, j)])));
            let term = match c {
                Some(c) if beta != 0.0 => c.as_ints()?[c_at(c, i, j)],
                _ => 0,
            };
            out.push(if alpha == 1.0 && beta == 1.0 {
                sum.wrapping_add(term)
            } else {
                (alpha * sum as f64 + beta * term as f64) as i128
            });
        }
        Ok(vec![RefTensor::wrapped(a.dtype, &[m, n], out).into()])
    }

    fn untransposed(&self) -> Option<Arc<dyn Op>> {
        self.transpose_b.then(|| Arc::new(Self { transpose_b: false, ..*self }) as Arc<dyn Op>)
    }

    fn product(&self) -> Option<Product> {
        let Self { alpha, beta, transpose_a, transpose_b } = *self;
        Some(Product { alpha, beta, transpose_a, transpose_b })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(DTYPES);
    let (m, n, k) = (g.extent(), g.extent(), g.extent());
    let (transpose_a, transpose_b) = (g.chance(0.5), g.chance(0.5));
    // Factors of integer products are small, and unsigned ones positive, so that nothing leaves the type's
    // range before it is truncated.
    let factors: &[f32] = if dtype.is_float() { &[1.0, 0.5, -1.5, 0.0] } else { &[1.0, 2.0, 0.5, 0.0] };
    let shape = |rows, cols, transposed: bool| if transposed { [cols, rows] } else { [rows, cols] };
    let mut draw = |shape: &[usize]| g.tensor(dtype, shape);
    let mut case = Case::new([draw(&shape(m, k, transpose_a)), draw(&shape(k, n, transpose_b))]);
    if g.chance(0.7) {
        let shape = g.broadcastable(&[m, n]);
        case = case.input(g.tensor(dtype, &shape));
    }
    if transpose_a || transpose_b || g.chance(0.5) {
        case = case.int("transA", transpose_a.into()).int("transB", transpose_b.into());
    }
    if g.chance(0.5) {
        case = case.float("alpha", *g.pick(factors)).float("beta", *g.pick(factors));
    }
    if g.chance(0.5) {
        case = case.constant(1);
    }
    let opset = *g.pick(&[7, 9, 11, 13]);
    let least = if case.inputs.len() < 3 { 11 } else { 7 };
    case.opset(opset.max(least).max(if dtype.is_float() { 7 } else { 9 }))
}
