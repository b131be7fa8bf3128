//! # MatMulNBits (com.microsoft)
//! `y = a · wᵀ + bias` with `w[n, k] = (b[n, k] − zero_point) · scale`, weights of 2, 4 or 8 bits in blocks of
//! `block_size` along `k`. A block has a scale and a zero point: packed like the weights, or one of the type of `a`,
//! or half the range. `g_idx` says for each `k` whose scale and zero point it has. Version 1.
//!
//! Products are made in f32 whatever `accuracy_level` allows, so every level is met.

use super::attributes::NodeSpec;
use super::mat_mul::product_cost;
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::block_quantised::{BlockQuantised, QuantisedWeights, ZeroPoints};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use half::{bf16, f16};
use std::any::Any;
use std::sync::Arc;

const DTYPES: &[DType] = &[DType::F32, DType::F16, DType::BF16];
/// Positions of the inputs.
const A: usize = 0;
const B: usize = 1;
const SCALES: usize = 2;
const ZEROS: usize = 3;
const GROUPS: usize = 4;
const BIAS: usize = 5;
/// Smallest block that the operator's definition allows.
const LEAST_BLOCK: usize = 16;

pub(super) const DEF: OpDef = OpDef {
    name: "MatMulNBits",
    domain: "com.microsoft",
    since: &[1],
    until: None,
    dtypes: DTYPES,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct MatMulNBits {
    k: usize,
    n: usize,
    bits: usize,
    block: usize,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let size = |name: &'static str| {
        let value = spec.int(name)?.ok_or_else(|| OpError::attribute(name, "is missing"))?;
        let size = usize::try_from(value).ok().filter(|&v| v > 0);
        size.ok_or_else(|| OpError::attribute(name, format!("is {value}")))
    };
    let (k, n, block) = (size("K")?, size("N")?, size("block_size")?);
    if block < LEAST_BLOCK || !block.is_power_of_two() {
        return Err(OpError::attribute(
            "block_size",
            format!("is {block}; a power of two of at least {LEAST_BLOCK} is meant"),
        ));
    }
    let bits = match spec.int_or("bits", 4)? {
        2 => 2,
        4 => 4,
        8 => 8,
        other => return Err(OpError::unsupported(format!("a weight of {other} bits"))),
    };
    let level = spec.int_or("accuracy_level", 0)?;
    if !(0..=4).contains(&level) {
        return Err(OpError::attribute("accuracy_level", format!("is {level}")));
    }
    if spec.int_or("weight_prepacked", 0)? != 0 {
        return Err(OpError::unsupported("a layout of weights made for a device"));
    }
    // Padded weights, with a byte of each, are the largest of what is computed from these sizes.
    let padded = k.checked_next_multiple_of(block).and_then(|k| k.checked_mul(n));
    if padded.and_then(|p| p.checked_mul(size_of::<f32>())).is_none() {
        return Err(OpError::shape("no memory holds the weights"));
    }
    Ok(Arc::new(MatMulNBits { k, n, bits, block }))
}

impl MatMulNBits {
    fn product(&self, m: usize) -> BlockQuantised {
        BlockQuantised { m, n: self.n, k: self.k, bits: self.bits, block: self.block }
    }

    /// Input `index` of type `dtype` has one of `shapes`, as far as it is known.
    fn check(inputs: Facts<'_>, index: usize, dtype: DType, shapes: &[&[usize]]) -> Result<(), OpError> {
        let fact = inputs.typed(index, &[dtype])?;
        let Some(dims) = &fact.shape else { return Ok(()) };
        let same = |shape: &&[usize]| {
            let mut extents = dims.iter().zip(*shape);
            dims.len() == shape.len() && extents.all(|(d, &n)| d.known().is_none_or(|d| d == n))
        };
        if shapes.iter().any(same) {
            return Ok(());
        }
        Err(OpError::input(index, format!("does not have shape {:?}", shapes[0])))
    }

    fn kernel<T>(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError>
    where
        T: crate::cpu::contraction::Panel<Compute = f32>,
    {
        let shape = site.input_shape(A)?;
        let m = shape.split_last().map_or(1, |(_, rows)| rows.iter().product());
        let product = self.product(m);
        let scratch = product.scratch(site.threads);
        let kernel = Kernel::new(move |io| {
            let zeros = match io.optional(ZEROS) {
                None => ZeroPoints::Middle,
                Some(zeros) if zeros.dtype() == DType::U8 => ZeroPoints::Packed(zeros.elements()?),
                Some(zeros) => ZeroPoints::Plain(zeros.elements()?),
            };
            let weights = QuantisedWeights {
                packed: io.input::<u8>(B)?,
                scales: io.input::<T>(SCALES)?,
                zeros,
                groups: io.optional_input::<i32>(GROUPS)?,
            };
            let (a, bias, context) = (io.input::<T>(A)?, io.optional_input::<T>(BIAS)?, io.context);
            product.run(context, a, weights, bias, io.output_and_scratch::<T>(0)?)
        });
        Ok(kernel.with_scratch(scratch))
    }
}

impl Op for MatMulNBits {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 6)?;
        let a = inputs.typed(A, DTYPES)?;
        let product = self.product(0);
        let blocks = product.blocks();
        Self::check(inputs, B, DType::U8, &[&[self.n, blocks, product.blob()]])?;
        Self::check(inputs, SCALES, a.dtype, &[&[self.n, blocks], &[self.n * blocks]])?;
        if inputs.has(ZEROS) {
            let packed = inputs.tensor(ZEROS)?.dtype == DType::U8;
            let dtype = if packed { DType::U8 } else { a.dtype };
            let each = if packed { product.zero_bytes() } else { blocks };
            Self::check(inputs, ZEROS, dtype, &[&[self.n, each], &[self.n * each]])?;
        }
        if inputs.has(GROUPS) {
            let padded = blocks * self.block;
            Self::check(inputs, GROUPS, DType::I32, &[&[self.k], &[padded]])?;
        }
        if inputs.has(BIAS) {
            Self::check(inputs, BIAS, a.dtype, &[&[self.n]])?;
        }
        let shape = match &a.shape {
            Some(dims) => {
                let (last, rows) = dims.split_last().ok_or_else(|| OpError::input(A, "is a scalar"))?;
                if last.known().is_some_and(|k| k != self.k) {
                    return Err(OpError::input(
                        A,
                        format!("has a last extent of {last} instead of {}", self.k),
                    ));
                }
                let mut shape = rows.to_vec();
                shape.push(Dim::Known(self.n));
                Some(shape)
            }
            None => None,
        };
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(a.dtype) }.into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        product_cost(inputs, outputs, Some(self.k))
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        match site.inputs.tensor(A)?.dtype {
            DType::F16 => self.kernel::<f16>(site),
            DType::BF16 => self.kernel::<bf16>(site),
            _ => self.kernel::<f32>(site),
        }
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(A)?;
        let rows = shape.split_last().map_or(1, |(_, rows)| rows.iter().product());
        families::block_quantised::kernel(site, &self.product(rows))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (a, packed, scales) = (inputs.tensor(A)?, inputs.tensor(B)?, inputs.tensor(SCALES)?);
        let blocks = self.k.div_ceil(self.block);
        let per_byte = 8 / self.bits;
        let number = |bytes: &[i128], at: usize| {
            (bytes[at / per_byte] >> (at % per_byte * self.bits)) & ((1 << self.bits) - 1)
        };
        let zero = |n: usize, group: usize| -> Result<f64, OpError> {
            Ok(match inputs.optional(ZEROS)? {
                None => f64::from(1u32 << (self.bits - 1)),
                Some(zeros) if zeros.dtype == DType::U8 => {
                    let row = blocks.div_ceil(per_byte);
                    number(&zeros.as_ints()?[n * row..(n + 1) * row], group) as f64
                }
                Some(zeros) => zeros.as_floats()?[n * blocks + group],
            })
        };
        let row_bytes = blocks * self.block / per_byte;
        let mut weights = Vec::with_capacity(self.n * self.k);
        for n in 0..self.n {
            let row = &packed.as_ints()?[n * row_bytes..(n + 1) * row_bytes];
            for k in 0..self.k {
                let group = match inputs.optional(GROUPS)? {
                    Some(groups) => usize::try_from(groups.as_ints()?[k])
                        .ok()
                        .filter(|&group| group < blocks)
                        .ok_or_else(|| OpError::value("a group outside the blocks"))?,
                    None => k / self.block,
                };
                let scale = scales.as_floats()?[n * blocks + group];
                weights.push((number(row, k) as f64 - zero(n, group)?) * scale);
            }
        }
        let rows = a.len() / self.k;
        let mut data = Vec::with_capacity(rows * self.n);
        for m in 0..rows {
            for n in 0..self.n {
                let row = &a.as_floats()?[m * self.k..(m + 1) * self.k];
                let sum: f64 = row.iter().zip(&weights[n * self.k..]).map(|(a, w)| a * w).sum();
                let bias = inputs.optional(BIAS)?.map_or(Ok(0.0), |b| Ok(b.as_floats()?[n]))?;
                data.push(sum + bias);
            }
        }
        let mut shape = a.shape.clone();
        shape.pop();
        shape.push(self.n);
        Ok(vec![RefTensor::floats(a.dtype, &shape, data).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(DTYPES);
    let bits = *g.pick(&[2, 4, 8]);
    let block = *g.pick(&[16, 16, 32, 64, 512]);
    let k = if g.chance(0.2) { g.size(1, 600) } else { g.size(1, 70) };
    let n = if g.chance(0.2) { g.size(1, 200) } else { g.size(1, 20) };
    let blocks = k.div_ceil(block);
    let rank = g.size(0, 2);
    let mut shape = g.shape(rank);
    shape.push(k);
    // Sums of a size that keeps rounding within the class.
    let scale = 1.0 / ((1 << bits) as f64 * (k as f64).sqrt());
    let flat = g.chance(0.3);
    let table = |each: usize| if flat { vec![n * each] } else { vec![n, each] };
    let mut case = Case::new([
        g.tensor_in(dtype, &shape, -1.0, 1.0),
        g.any_tensor(DType::U8, &[n, blocks, block * bits / 8]),
        g.tensor_in(dtype, &table(blocks), -scale, scale),
    ]);
    case = match g.size(0, 2) {
        0 => case.optional(None),
        1 => case.input(g.any_tensor(DType::U8, &table((blocks * bits).div_ceil(8)))),
        _ => case.input(g.tensor_in(dtype, &table(blocks), 0.0, (1 << bits) as f64)),
    };
    case = if g.chance(0.3) {
        let groups = (0..k).map(|_| g.size(0, blocks - 1) as i32).collect();
        case.optional(crate::tensor::Tensor::new(&[k], groups).ok())
    } else {
        case.optional(None)
    };
    if g.chance(0.5) {
        case = case.input(g.tensor_in(dtype, &[n], -0.5, 0.5));
    }
    case = case.opset(1).int("K", k as i64).int("N", n as i64).int("block_size", block as i64);
    if bits != 4 || g.chance(0.5) {
        case = case.int("bits", bits as i64);
    }
    if g.chance(0.3) {
        case = case.int("accuracy_level", g.int(0, 4));
    }
    if g.chance(0.6) { case.constant(B).constant(SCALES) } else { case }
}
