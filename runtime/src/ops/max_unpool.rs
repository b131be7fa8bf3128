//! # MaxUnpool
//! The partial inverse of MaxPool: element `i` of `X` goes to place `I[i]`, counted over the shape that the window
//! attributes give; everything else is 0. A given `output_shape` pads the result at the end. Opsets 9, 11, 22
//! (bfloat16). Of several elements for one place the last stays.

use super::attributes::NodeSpec;
use super::window::Window;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::dispatch;
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, Element, FLOATS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::{Tensor, element_count};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "MaxUnpool",
    domain: "",
    since: &[9, 11, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Clone, Debug)]
struct MaxUnpool {
    window: Window,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let window = Window::parse(node, false, false)?;
    window.required_kernel()?;
    Ok(Arc::new(MaxUnpool { window }))
}

impl MaxUnpool {
    /// Stride and the constant of the extent along `axis`: `stride · (input − 1) + constant`.
    fn extent(&self, axis: usize) -> (i64, i64) {
        let list = |v: &[usize], at: usize, default: usize| {
            i64::try_from(v.get(at).copied().unwrap_or(default)).unwrap_or(i64::MAX / 4)
        };
        let Window { kernel, strides, pads, .. } = &self.window;
        let padded = list(pads, axis, 0).saturating_add(list(pads, axis + kernel.len(), 0));
        (list(strides, axis, 1), list(kernel, axis, 1).saturating_sub(padded))
    }

    /// The shape that the attributes give.
    fn own_dims(&self, x: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let rank = self.window.kernel.len();
        self.window.check_rank(rank)?;
        if x.len() != rank + 2 {
            return Err(OpError::shape(format!("a window of rank {rank} over a tensor of rank {}", x.len())));
        }
        let mut out = x[..2].to_vec();
        for axis in 0..rank {
            let (stride, constant) = self.extent(axis);
            out.push(x[axis + 2].affine(stride, constant.saturating_sub(stride)));
        }
        Ok(out)
    }

    fn own_shape(&self, x: &[usize]) -> Result<Vec<usize>, OpError> {
        let dims: Vec<Dim> = x.iter().map(|&d| Dim::Known(d)).collect();
        let known = self.own_dims(&dims)?.iter().map(Dim::known).collect::<Option<Vec<usize>>>();
        known.ok_or_else(|| OpError::shape("the unpooled tensor has no extent"))
    }

    /// The output's shape, when one is given that is not smaller than `own`.
    fn given_shape(own: &[usize], given: &[i64]) -> Result<Vec<usize>, OpError> {
        let shape: Vec<usize> = given.iter().filter_map(|&d| usize::try_from(d).ok()).collect();
        if shape.len() != own.len() || shape.iter().zip(own).any(|(a, b)| a < b) {
            return Err(OpError::value(format!("output_shape {given:?} does not hold {own:?}")));
        }
        Ok(shape)
    }
}

/// Places the elements of `x` in a tensor of shape `own` that lies at the start of one of shape `shape`.
fn place<T: Element>(io: &mut Io<'_, '_>, own: &[usize], shape: &[usize]) -> Result<(), OpError> {
    let (x, indices) = (io.input::<T>(0)?, io.input::<i64>(1)?);
    let context = io.context;
    let y = io.shaped::<T>(0, shape)?;
    y.fill(T::default());
    let total = element_count(own).unwrap_or(0);
    for (i, (x, &index)) in x.iter().zip(indices).enumerate() {
        if i % (1 << 16) == 0 {
            context.interrupt.check()?;
        }
        let at = usize::try_from(index).ok().filter(|&at| at < total);
        let mut at = at.ok_or_else(|| OpError::value(format!("index {index} is outside {own:?}")))?;
        // From the place in `own` to that in `shape`.
        let (mut to, mut stride) = (0, 1);
        for (&inner, &outer) in own.iter().zip(shape).rev() {
            to += at % inner * stride;
            at /= inner;
            stride *= outer;
        }
        y[to] = *x;
    }
    Ok(())
}

impl Op for MaxUnpool {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        let x = inputs.typed(0, FLOATS)?;
        let indices = inputs.typed(1, &[DType::I64])?;
        let rank = self.window.kernel.len() + 2;
        if let (Some(a), Some(b)) = (x.known_shape(), indices.known_shape())
            && a != b
        {
            return Err(OpError::input(1, "has another shape than input 0"));
        }
        let own = x.shape.as_deref().map(|x| self.own_dims(x)).transpose()?;
        if !inputs.has(2) {
            let shape = own.unwrap_or_else(|| vec![Dim::Unknown; rank]);
            return Ok(vec![TensorFact::new(x.dtype, shape).into()]);
        }
        let given = inputs.typed(2, &[DType::I64])?;
        let Some(shape) = given.as_dims() else { return Ok(vec![TensorFact::ranked(x.dtype, rank).into()]) };
        if shape.len() != rank {
            return Err(OpError::input(2, format!("names {} extents for {rank} axes", shape.len())));
        }
        Ok(vec![TensorFact::new(x.dtype, shape).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let own = self.own_shape(&site.input_shape(0)?)?;
        let given = site.inputs.has(2);
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| {
            if !given {
                return place::<T>(io, &own, &own);
            }
            let shape = Self::given_shape(&own, &io.tensor(2)?.to_i64s()?)?;
            place::<T>(io, &own, &shape)
        })))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let own = self.own_shape(&site.input_shape(0)?).map_err(|_| GpuReject::NoKernel)?;
        families::coordinates::unpooled(site, &own)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, indices) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let own = self.own_shape(&x.shape)?;
        let shape = match inputs.optional(2)? {
            Some(given) => Self::given_shape(&own, &given.to_i64s()?)?,
            None => own.clone(),
        };
        let mut out = vec![0.0; shape.iter().product()];
        for (value, at) in x.as_floats()?.iter().zip(indices.to_i64s()?) {
            let place = RefTensor::unravel(&own, at as usize);
            out[RefTensor::ravel(&shape, &place)] = *value;
        }
        Ok(vec![RefTensor::floats(x.dtype, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[9, 11, 22]);
    let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let rank = g.size(1, 3);
    let kernel: Vec<i64> = (0..rank).map(|_| g.int(1, 3)).collect();
    let strides: Vec<i64> = (0..rank).map(|_| g.int(1, 3)).collect();
    let pads: Vec<i64> = (0..2 * rank).map(|i| g.int(0, (kernel[i % rank] - 1) / 2)).collect();
    let mut x = vec![g.size(0, 2), g.size(1, 3)];
    x.extend((0..rank).map(|_| g.size(1, 4)));
    let mut own: Vec<usize> = x[..2].to_vec();
    own.extend((0..rank).map(|i| {
        ((x[i + 2] as i64 - 1) * strides[i] + kernel[i] - pads[i] - pads[i + rank]).max(0) as usize
    }));
    let total: usize = own.iter().product();
    let count: usize = x.iter().product();
    let indices = (0..count).map(|_| g.int(0, (total as i64 - 1).max(0))).collect();
    let indices = Tensor::new(&x, indices).unwrap_or_else(|_| Tensor::scalar(0i64));
    let mut case = Case::new([g.tensor(dtype, &x), indices])
        .opset(opset)
        .ints("kernel_shape", &kernel)
        .ints("strides", &strides)
        .ints("pads", &pads);
    if g.chance(0.4) {
        let wider = own.iter().map(|&d| (d + g.size(0, 2)) as i64).collect();
        case = case.input(Tensor::new(&[own.len()], wider).unwrap_or_else(|_| Tensor::scalar(0i64)));
        if g.chance(0.5) {
            case = case.constant(2);
        }
    }
    case
}
