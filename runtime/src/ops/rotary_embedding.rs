//! # RotaryEmbedding
//! Pairs of elements of each vector are turned by the angle of its position: `y₁ = cos · x₁ − sin · x₂`,
//! `y₂ = sin · x₁ + cos · x₂`. The first `rotary_embedding_dim` elements (all by default) are paired half with half, or
//! each with its neighbour (`interleaved`); the others stay. Row `position_ids[b, s]` of the caches belongs to token
//! `s`, without ids row `[b, s]`. X is `[batch, heads, length, width]` or `[batch, length, heads · width]`. Opset 23.

use super::attributes::NodeSpec;
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::number::{Compute, Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::families::rotary::Rotary;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "RotaryEmbedding",
    domain: "",
    since: &[23],
    until: None,
    dtypes: DTYPES,
    accuracy: Accuracy::Elementwise,
    parse,
    case,
};

const DTYPES: &[DType] = &[DType::F32, DType::F16, DType::BF16];

#[derive(Debug)]
struct RotaryEmbedding {
    interleaved: bool,
    /// Elements that are turned, 0 for all.
    rotary: usize,
    heads: Option<usize>,
    positions: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let size = |name: &str| {
        let value = spec.int_or(name, 0)?;
        usize::try_from(value).map_err(|_| OpError::attribute(name, format!("is {value}")))
    };
    let (rotary, heads) = (size("rotary_embedding_dim")?, size("num_heads")?);
    if !rotary.is_multiple_of(2) {
        return Err(OpError::attribute("rotary_embedding_dim", "is odd, and elements are turned in pairs"));
    }
    Ok(Arc::new(RotaryEmbedding {
        interleaved: spec.flag_or("interleaved", false)?,
        rotary,
        heads: Some(heads).filter(|&h| h > 0),
        positions: spec.has_input(3),
    }))
}

/// Extents as far as they are known.
struct Extents {
    batch: Dim,
    heads: Dim,
    length: Dim,
    width: Dim,
}

impl RotaryEmbedding {
    fn extents(&self, shape: &[Dim]) -> Result<Extents, OpError> {
        let e = match shape {
            [batch, length, hidden] => {
                let heads = self.heads.ok_or_else(|| OpError::attribute("num_heads", "is missing"))?;
                let width = match hidden.known() {
                    Some(n) if n.is_multiple_of(heads) => Dim::Known(n / heads),
                    Some(n) => {
                        return Err(OpError::shape(format!("{n} elements are not those of {heads} heads")));
                    }
                    None => Dim::Unknown,
                };
                Extents { batch: batch.clone(), heads: Dim::Known(heads), length: length.clone(), width }
            }
            [batch, heads, length, width] => Extents {
                batch: batch.clone(),
                heads: heads.clone(),
                length: length.clone(),
                width: width.clone(),
            },
            _ => return Err(OpError::input(0, "has neither 3 nor 4 axes")),
        };
        if let Some(width) = e.width.known()
            && (!width.is_multiple_of(2) || self.rotary > width)
        {
            return Err(OpError::shape(format!("heads of {width} elements cannot be turned so")));
        }
        if let (Some(own), Some(given)) = (e.heads.known(), self.heads)
            && own != given
        {
            return Err(OpError::attribute("num_heads", format!("is {given}; the input has {own}")));
        }
        Ok(e)
    }

    /// Elements that are turned of heads of `width`.
    fn turned(&self, width: usize) -> usize {
        if self.rotary == 0 { width } else { self.rotary }
    }

    fn plan(&self, shape: &[usize]) -> Result<Plan, OpError> {
        let (packed, heads, length, width) = match *shape {
            [_, length, hidden] => {
                let heads = self.heads.unwrap_or(1);
                (true, heads, length, hidden / heads)
            }
            [_, heads, length, width] => (false, heads, length, width),
            _ => return Err(OpError::internal("a shape that inference refuses")),
        };
        let (turned, interleaved) = (self.turned(width), self.interleaved);
        Ok(Plan { heads, length, width, turned, interleaved, packed })
    }

    fn check_caches(&self, inputs: Facts<'_>, e: &Extents) -> Result<(), OpError> {
        let half = match (self.rotary, e.width.known()) {
            (0, None) => Dim::Unknown,
            (0, Some(width)) => Dim::Known(width / 2),
            (rotary, _) => Dim::Known(rotary / 2),
        };
        let fits = |own: &[Dim], want: &[&Dim]| {
            own.len() == want.len()
                && own.iter().zip(want).all(|(a, b)| a.known().zip(b.known()).is_none_or(|(a, b)| a == b))
        };
        let mut rows = Dim::Unknown;
        for index in [1, 2] {
            let Some(shape) = inputs.tensor(index)?.shape.as_deref() else { continue };
            let fits = match (self.positions, shape) {
                (true, [own, _]) => {
                    let agree = fits(shape, &[&rows, &half]);
                    rows = own.clone();
                    agree
                }
                (true, _) => false,
                (false, _) => fits(shape, &[&e.batch, &e.length, &half]),
            };
            if !fits {
                return Err(OpError::input(index, format!("of shape {shape:?} is no cache for this input")));
            }
        }
        match inputs.optional(3)?.and_then(|ids| ids.shape.as_deref()) {
            Some(shape) if !fits(shape, &[&e.batch, &e.length]) => {
                Err(OpError::input(3, "is not a position for each token"))
            }
            _ => Ok(()),
        }
    }
}

/// The operator with its shapes known.
#[derive(Clone, Copy, Debug)]
struct Plan {
    heads: usize,
    length: usize,
    width: usize,
    /// Elements that are turned.
    turned: usize,
    interleaved: bool,
    packed: bool,
}

impl Plan {
    /// The token, counted over images, that vector `row` belongs to.
    fn token(&self, row: usize) -> usize {
        let &Self { heads, length, packed, .. } = self;
        if packed { row / heads } else { row / (heads * length) * length + row % length }
    }

    fn run<T: Real>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let (x, cos, sin) = (io.input::<T>(0)?, io.input::<T>(1)?, io.input::<T>(2)?);
        let positions = io.optional_input::<i64>(3)?;
        let context = io.context;
        let y = io.output::<T>(0)?;
        let &Self { width, turned, interleaved, .. } = self;
        let half = turned / 2;
        if y.is_empty() {
            return Ok(());
        }
        if let Some(positions) = positions {
            let outside = |p: i64| usize::try_from(p).is_ok_and(|p| p < cos.len() / half.max(1));
            if let Some(bad) = positions.iter().find(|&&p| half > 0 && !outside(p)) {
                return Err(OpError::value(format!("position {bad} is not in the caches")));
            }
        }
        let many = (PARALLEL_WORK / 4 / width).max(1);
        for_each_tile(context, 4 * x.len(), Lanes::none(), &Chunks::new(y, many * width), &|tile, y, _| {
            for (i, y) in y.chunks_exact_mut(width).enumerate() {
                let row = tile * many + i;
                let x = &x[row * width..][..width];
                let token = self.token(row);
                // Positions were checked above.
                let angle = positions.map_or(token, |p| p[token] as usize) * half;
                let (cos, sin) = (&cos[angle..][..half], &sin[angle..][..half]);
                y[turned..].copy_from_slice(&x[turned..]);
                for (j, (cos, sin)) in cos.iter().zip(sin).enumerate() {
                    let (first, second) = if interleaved { (2 * j, 2 * j + 1) } else { (j, j + half) };
                    let (a, b, cos, sin) = (x[first].load(), x[second].load(), cos.load(), sin.load());
                    y[first] = T::store(cos.mul(a).sub(sin.mul(b)));
                    y[second] = T::store(sin.mul(a).add(cos.mul(b)));
                }
            }
            Ok(())
        })
    }
}

impl Op for RotaryEmbedding {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 4)?;
        let x = inputs.typed(0, DTYPES)?;
        inputs.typed(1, &[x.dtype])?;
        inputs.typed(2, &[x.dtype])?;
        if inputs.has(3) {
            inputs.typed(3, &[DType::I64])?;
        }
        if let Some(shape) = &x.shape {
            self.check_caches(inputs, &self.extents(shape)?)?;
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
        let moved = inputs.0.iter().flatten().map(|f| bytes(f)).chain(outputs.iter().map(bytes)).sum();
        let count = outputs.first().and_then(|f| f.tensor()?.element_count()).unwrap_or(0);
        Cost { flops: 3.0 * count as f64, bytes: moved }
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let plan = self.plan(&site.input_shape(0)?)?;
        dispatch!(site.inputs.tensor(0)?.dtype, singles, T => Ok(Kernel::new(move |io| plan.run::<T>(io))))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(0)?;
        let Plan { heads, length, width, turned, interleaved, packed } =
            self.plan(&shape).map_err(|_| GpuReject::NoKernel)?;
        let batch = shape[0];
        Rotary { batch, heads, length, width, turned, interleaved, packed }.kernel(site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, cos, sin) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let ids = inputs.optional(3)?.map(RefTensor::to_i64s).transpose()?;
        let (data, cos, sin) = (x.as_floats()?, cos.as_floats()?, sin.as_floats()?);
        let packed = x.shape.len() == 3;
        let length = x.shape[if packed { 1 } else { 2 }];
        let last = x.shape.last().copied().unwrap_or(0);
        let width = if packed { last / self.heads.unwrap_or(1) } else { last };
        let half = self.turned(width) / 2;
        let mut out = Vec::with_capacity(data.len());
        for (flat, value) in data.iter().enumerate() {
            let index = RefTensor::unravel(&x.shape, flat);
            let token = index[0] * length + index[if packed { 1 } else { 2 }];
            let d = index[x.shape.len() - 1] % width;
            if d >= 2 * half {
                out.push(*value);
                continue;
            }
            let (pair, second) = if self.interleaved { (d / 2, d % 2 == 1) } else { (d % half, d >= half) };
            let step = if self.interleaved { 1 } else { half };
            let row = ids.as_ref().map_or(token, |ids| ids[token] as usize);
            let (c, s) = (cos[row * half + pair], sin[row * half + pair]);
            out.push(if second {
                s * data[flat - step] + c * value
            } else {
                c * value - s * data[flat + step]
            });
        }
        Ok(vec![RefTensor::floats(x.dtype, &x.shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(DTYPES);
    let (batch, heads, length) = (g.size(0, 3), g.size(1, 4), g.extent());
    let width = 2 * g.size(1, 9);
    let packed = g.chance(0.5);
    let shape = if packed { vec![batch, length, heads * width] } else { vec![batch, heads, length, width] };
    let rotary = if g.chance(0.5) { 0 } else { 2 * g.size(1, width / 2) };
    let half = if rotary == 0 { width } else { rotary } / 2;
    let positions = g.chance(0.5);
    let rows = g.size(1, 12);
    let cache = if positions { vec![rows, half] } else { vec![batch, length, half] };
    let mut case = Case::new([
        g.tensor(dtype, &shape),
        g.tensor_in(dtype, &cache, -1.0, 1.0),
        g.tensor_in(dtype, &cache, -1.0, 1.0),
    ])
    .opset(23);
    if positions {
        let ids = (0..batch * length).map(|_| g.int(0, rows as i64 - 1)).collect();
        case = case.optional(Tensor::new(&[batch, length], ids).ok());
    }
    if packed || g.chance(0.3) {
        case = case.int("num_heads", heads as i64);
    }
    if rotary > 0 || g.chance(0.3) {
        case = case.int("rotary_embedding_dim", rotary as i64);
    }
    if g.chance(0.6) { case.int("interleaved", g.int(0, 1)) } else { case }
}
