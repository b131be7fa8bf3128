//! Quantisation, back again, and products of quantised operands. They are exact: quotients and factors are rounded as the
//! operators say, sums are 32-bit integers. As nests and maps of their own, which no fusion sees.

use super::composition::{Composition, Place};
use super::{lines, map, nest};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::Dim;
use crate::loops::program::{Builder, Kind, Opcode, Program, Reg};
use crate::loops::{Affine, Effect, Fold, Nest, Outside, Read, Source, Stage};
use recurve_kernels::reduce;

fn refused<E>(_: E) -> GpuReject {
    GpuReject::Form("a quantisation of these types".into())
}

/// How a tensor of shape `x` lies beside its scales: extents, strides of the tensor, and strides of the scales; a blocked axis
/// is two.
fn granularity(x: &[usize], scale: &[usize], axis: i64, block: usize) -> Result<[Vec<usize>; 3], GpuReject> {
    let mut space = x.to_vec();
    let mut steps = vec![0usize; x.len()];
    let one = scale.is_empty() || (scale == [1] && block == 0);
    if !one {
        let rank = x.len() as i64;
        let at = if x.len() == 1 {
            0
        } else if axis < 0 {
            axis + rank
        } else {
            axis
        };
        let at = usize::try_from(at).ok().filter(|&at| at < x.len()).ok_or(GpuReject::NoKernel)?;
        if block == 0 {
            steps[at] = 1;
        } else {
            if !x[at].is_multiple_of(block) {
                return Err(GpuReject::Form("blocks that do not fill their axis".into()));
            }
            let mut stride = 1;
            for (step, &extent) in steps.iter_mut().zip(scale).rev() {
                *step = stride;
                stride = stride.saturating_mul(extent);
            }
            space.splice(at..=at, [x[at] / block, block]);
            steps.insert(at + 1, 0);
        }
    }
    let mut dense = vec![0usize; space.len()];
    let mut stride = 1usize;
    for (step, &extent) in dense.iter_mut().zip(&space).rev() {
        *step = stride;
        stride = stride.saturating_mul(extent);
    }
    Ok([space, dense, steps])
}

fn wide(of: &[usize]) -> Vec<u64> {
    of.iter().map(|&v| v as u64).collect()
}

/// Types of input 0, the scale of input 1 and, where there is one, the zero point of input 2.
fn types(site: &GpuSite<'_>) -> Result<Vec<DType>, GpuReject> {
    (0..3).filter(|&index| site.inputs.has(index)).map(|index| site.dtype(index)).collect()
}

/// Runs `program` over a tensor and its scales and zero points.
fn beside_scales(
    site: &GpuSite<'_>,
    program: &Program,
    types: &[DType],
    (axis, block): (i64, usize),
) -> Result<GpuKernel, GpuReject> {
    let [space, dense, steps] = granularity(&site.input_shape(0)?, &site.input_shape(1)?, axis, block)?;
    if space.contains(&0) {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let strides = |index: usize| wide(if index == 0 { &dense } else { &steps });
    let inputs: Vec<_> = types.iter().enumerate().map(|(at, &dtype)| (dtype, strides(at), 0)).collect();
    map::launched(site, program, &wide(&space), &inputs, (0..types.len()).collect())
}

/// The least and largest value of an integer type of up to 16 bits.
fn range(dtype: DType) -> Result<(f64, f64), GpuReject> {
    match dtype {
        DType::U8 => Ok((0.0, 255.0)),
        DType::I8 => Ok((-128.0, 127.0)),
        DType::U16 => Ok((0.0, 65535.0)),
        DType::I16 => Ok((-32768.0, 32767.0)),
        other => Err(GpuReject::Form(format!("a quantisation to {other}"))),
    }
}

/// Input 0 divided by its scales, rounded, moved by its zero points, as `result`; the quotient is rounded to `precision`.
pub(crate) fn quantise(
    site: &GpuSite<'_>,
    granularity: (i64, usize),
    precision: DType,
    result: DType,
) -> Result<GpuKernel, GpuReject> {
    let types = types(site)?;
    let (least, most) = range(result)?;
    let mut b = Builder::new(&types);
    let given: Vec<Reg> = (0..types.len()).map(|at| b.input(at)).collect();
    let number = |b: &mut Builder, x: Reg, from: DType| {
        let x = b.cast(x, from, DType::F32);
        b.narrow(x, precision)
    };
    let (x, scale) = (number(&mut b, given[0], types[0]), number(&mut b, given[1], types[1]));
    let quotient = b.div(x, scale);
    let quotient = b.narrow(quotient, precision);
    let whole = b.round(quotient);
    // Far beyond any type, and far within 32 bits.
    let (low, high) = (b.constant_as(whole, -1e6), b.constant_as(whole, 1e6));
    let (above, nan) = (b.max(whole, low), b.constant_as(whole, 0.0));
    let below = b.min(above, high);
    let is_number = b.binary(Opcode::Eq, whole, whole);
    let kept = b.select(is_number, below, nan);
    let mut y = b.convert(kept, Kind::I32);
    if let Some(&zero) = given.get(2) {
        let zero = b.convert(zero, Kind::I32);
        y = b.add(y, zero);
    }
    let (low, high) = (b.constant_as(y, least), b.constant_as(y, most));
    let y = b.max(y, low);
    let y = b.min(y, high);
    let program = b.finish(&[(y, result)]).map_err(refused)?;
    beside_scales(site, &program, &types, granularity)
}

/// Input 0 less its zero points, times its scales, as `result`.
pub(crate) fn dequantise(
    site: &GpuSite<'_>,
    granularity: (i64, usize),
    result: DType,
) -> Result<GpuKernel, GpuReject> {
    let types = types(site)?;
    let mut b = Builder::new(&types);
    let given: Vec<Reg> = (0..types.len()).map(|at| b.input(at)).collect();
    // 32-bit integers less a zero point need more bits.
    let kind = if types[0].bits() < 32 { Kind::I32 } else { Kind::I64 };
    let mut x = b.convert(given[0], kind);
    if let Some(&zero) = given.get(2) {
        let zero = b.convert(zero, kind);
        x = b.sub(x, zero);
    }
    let (x, scale) = (b.convert(x, Kind::F32), b.convert(given[1], Kind::F32));
    let y = b.mul(x, scale);
    let program = b.finish(&[(y, result)]).map_err(refused)?;
    beside_scales(site, &program, &types, granularity)
}

/// Input 0 as bytes by the scale and zero point of its own range with zero, outputs 1 and 2.
pub(crate) fn dynamically(site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
    let x = site.input_shape(0)?;
    let all = vec![true; x.len()];
    let mut whole = Composition::new("quantise");
    let (least, most) = (whole.between(4)?, whole.between(4)?);
    for (name, fold, to) in [("least", reduce::Fold::Min, least), ("most", reduce::Fold::Max, most)] {
        whole.add(name, lines::reduce(site, &x, &all, fold)?, vec![Place::Input(0)], vec![to])?;
    }
    let count = x.iter().try_fold(1usize, |n, &e| n.checked_mul(e)).ok_or(GpuReject::NoKernel)?;
    if count == 0 {
        return Err(GpuReject::Form("the scale of a tensor without elements".into()));
    }
    let parts = [("y", DType::U8, count), ("scale", DType::F32, 1), ("zero", DType::U8, 1)];
    for (output, (name, dtype, extent)) in parts.into_iter().enumerate() {
        let mut b = Builder::new(&[DType::F32; 3]);
        let (x, low, high) = (b.input(0), b.input(1), b.input(2));
        let none = b.constant_as(x, 0.0);
        let (low, high) = (b.min(low, none), b.max(high, none));
        let (flat, span) = (b.binary(Opcode::Eq, low, high), b.sub(high, low));
        let (one, steps) = (b.constant_as(x, 1.0), b.constant_as(x, 255.0));
        let span = b.select(flat, one, span);
        let scale = b.div(span, steps);
        let below = b.neg(low);
        let zero = b.div(below, scale);
        let zero = b.max(zero, none);
        let zero = b.min(zero, steps);
        let zero = b.round(zero);
        let made = match name {
            "scale" => scale,
            "zero" => b.convert(zero, Kind::I32),
            _ => {
                let quotient = b.div(x, scale);
                let whole = b.round(quotient);
                let moved = b.add(whole, zero);
                let moved = b.max(moved, none);
                let moved = b.min(moved, steps);
                b.convert(moved, Kind::I32)
            }
        };
        let program = b.finish(&[(made, dtype)]).map_err(refused)?;
        let step = u64::from(output == 0);
        let inputs = [(DType::F32, vec![step], 0), (DType::F32, vec![0], 0), (DType::F32, vec![0], 0)];
        let kernel = map::launched(site, &program, &[extent as u64], &inputs, vec![0, 1, 2])?;
        let from = vec![Place::Input(0), least, most];
        whole.add(name, kernel, from, vec![Place::Output(output)])?;
    }
    Ok(whole.finish())
}

/// A sum of products of quantised operands, before it is known what becomes of it.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) axes: Vec<Dim>,
    /// Axes that are summed over.
    pub(crate) over: Vec<usize>,
    /// Input and place of the operands and their zero points.
    pub(crate) operands: [(usize, Vec<Affine>); 2],
    pub(crate) zeros: [Option<(usize, Vec<Affine>)>; 2],
    /// Whether operand 0 may be left: such products are none.
    pub(crate) windows: bool,
    pub(crate) store: Vec<Affine>,
}

/// How a sum becomes bytes: inputs and places of the scales of both operands, and inputs of the result's scale and zero
/// point, and of a bias.
#[derive(Debug)]
pub(crate) struct Requantisation {
    pub(crate) scales: [(usize, Vec<Affine>); 2],
    pub(crate) result: [usize; 2],
    pub(crate) bias: Option<(usize, Vec<Affine>)>,
}

impl Sum {
    /// The launch of the sum, as 32-bit integers or requantised.
    pub(crate) fn kernel(
        self,
        site: &GpuSite<'_>,
        requantisation: Option<&Requantisation>,
    ) -> Result<GpuKernel, GpuReject> {
        let mut reads: Vec<Read> = Vec::new();
        let mut types: Vec<DType> = Vec::new();
        let mut read = |(input, index): &(usize, Vec<Affine>), outside: Outside| {
            // One element for all is read at the beginning, however many axes it has.
            let rank = site.input_shape(*input)?.len();
            let index = if index.is_empty() { vec![Affine::constant(0); rank] } else { index.clone() };
            reads.push(Read { operand: *input, index, outside });
            types.push(site.dtype(*input)?);
            Ok::<usize, GpuReject>(reads.len() - 1)
        };
        let outside = if self.windows { Outside::Skipped } else { Outside::Never };
        let (a, b) = (read(&self.operands[0], outside)?, read(&self.operands[1], Outside::Never)?);
        let mut zero = |of: &Option<(usize, Vec<Affine>)>| {
            of.as_ref().map(|zero| read(zero, Outside::Never)).transpose()
        };
        let (of_a, of_b) = (zero(&self.zeros[0])?, zero(&self.zeros[1])?);
        let scales = requantisation.map(|r| {
            let result = |at: usize| (r.result[at], Vec::new());
            let first = [read(&r.scales[0], Outside::Never)?, read(&r.scales[1], Outside::Never)?];
            let last = [read(&result(0), Outside::Never)?, read(&result(1), Outside::Never)?];
            let bias = r.bias.as_ref().map(|bias| read(bias, Outside::Never)).transpose()?;
            Ok::<_, GpuReject>((first, last, bias))
        });
        let scales = scales.transpose()?;
        let mut stages = Vec::new();
        let numbers: Vec<usize> = [Some(a), Some(b), of_a, of_b].into_iter().flatten().collect();
        let of_types: Vec<DType> = numbers.iter().map(|&n| types[n]).collect();
        let mut p = Builder::new(&of_types);
        let register = |p: &mut Builder, number: Option<usize>| {
            number.and_then(|n| numbers.iter().position(|&at| at == n)).map(|at| {
                let x = p.input(at);
                p.convert(x, Kind::I32)
            })
        };
        let less = |p: &mut Builder, x: usize, zero: Option<usize>| {
            let (x, zero) = (register(p, Some(x)), register(p, zero));
            x.map(|x| zero.map_or(x, |zero| p.sub(x, zero)))
        };
        let (x, w) = less(&mut p, a, of_a).zip(less(&mut p, b, of_b)).ok_or(GpuReject::NoKernel)?;
        let product = p.mul(x, w);
        stages.push(Stage {
            over: self.over,
            program: p.finish(&[(product, DType::I32)]).map_err(refused)?,
            inputs: numbers.into_iter().map(Source::Read).collect(),
            effect: Effect::Fold(Fold::Sum),
        });
        let mut given = vec![Source::Fold(0)];
        let program = match scales {
            None => {
                let mut p = Builder::new(&[DType::I32]);
                let sum = p.input(0);
                p.finish(&[(sum, DType::I32)]).map_err(refused)?
            }
            Some(([first, second], [scale, zero], bias)) => {
                let numbers: Vec<usize> = [Some(first), Some(second), Some(scale), Some(zero), bias]
                    .into_iter()
                    .flatten()
                    .collect();
                let mut of = vec![DType::I32];
                of.extend(numbers.iter().map(|&n| types[n]));
                given.extend(numbers.into_iter().map(Source::Read));
                requantise(&of, types[zero], bias.is_some())?
            }
        };
        stages.push(Stage { over: Vec::new(), program, inputs: given, effect: Effect::Store(self.store) });
        nest::of_nest(site, Ok(Nest { axes: self.axes, reads, stages, sequential: None }))
    }
}

/// The program of `round((sum + bias) · (a · b / y)) + zero`, in f64, of a sum, two scales, that of the result, its zero point
/// and perhaps a bias.
pub(super) fn requantise(types: &[DType], result: DType, biased: bool) -> Result<Program, GpuReject> {
    let (least, most) = range(result)?;
    let mut p = Builder::new(types);
    let given: Vec<Reg> = (0..types.len()).map(|at| p.input(at)).collect();
    let real = |p: &mut Builder, x: Reg| p.convert(x, Kind::F64);
    let mut sum = p.convert(given[0], Kind::I64);
    if biased {
        let bias = p.convert(given[5], Kind::I64);
        sum = p.add(sum, bias);
    }
    let (a, b, y) = (real(&mut p, given[1]), real(&mut p, given[2]), real(&mut p, given[3]));
    let both = p.mul(a, b);
    let factor = p.div(both, y);
    let sum = real(&mut p, sum);
    let scaled = p.mul(sum, factor);
    let whole = p.round(scaled);
    let zero = real(&mut p, given[4]);
    let moved = p.add(whole, zero);
    let (low, high) = (p.constant_as(moved, least), p.constant_as(moved, most));
    let moved = p.max(moved, low);
    let moved = p.min(moved, high);
    let y = p.convert(moved, Kind::I32);
    p.finish(&[(y, result)]).map_err(refused)
}
