//! # Pow
//! `y = x ^ e` with broadcasting, in the type of `x`; the exponent may have another type from opset 12 on.
//! Opsets 7, 12, 13, 15.
//!
//! Integer powers of integers wrap; those with a negative exponent truncate toward zero: 0 unless `x` is 1 or
//! −1 (0 to a negative power gives 0). An integer to a floating power is computed in f64, truncated and
//! saturated.

use super::attributes::NodeSpec;
use super::elementwise::{Zip, draw_pair, zip};
use super::{Accuracy, OpDef};
use crate::cpu::broadcast::{Plan, zip as zip_kernel};
use crate::cpu::number::{Compute, Float, Number, dispatch};
use crate::cpu::split::for_each_piece;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::reference::{RefData, RefTensor};
use crate::tensor::TensorView;
use crate::testing::{Case, Gen};
use bytemuck::Pod;

pub(super) const DEF: OpDef = zip::<Pow>("Pow", &[7, 12, 13, 15]);

/// First version whose exponent may have another type.
const MIXED: i64 = 12;
const BASES: &[DType] = &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64];

#[derive(Debug)]
struct Pow {
    mixed: bool,
}

impl Zip for Pow {
    const DTYPES: &'static [DType] = BASES;
    const ACCURACY: Accuracy = Accuracy::Elementwise;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { mixed: spec.opset >= MIXED })
    }

    fn output(&self, a: DType, b: DType) -> Result<DType, OpError> {
        let fits = if self.mixed { NUMBERS.contains(&b) } else { a == b };
        if fits { Ok(a) } else { Err(OpError::DType { index: 1, got: b }) }
    }

    fn kernel(&self, site: &CpuSite<'_>, x: DType, e: DType) -> Result<Kernel, OpError> {
        match (x, e.is_int()) {
            _ if x == e && x.is_float() => dispatch!(x, floats, T => {
                zip_kernel(site, |x: T, e: T| T::store(power(x.load(), e.load())))
            }),
            (DType::I32, true) => with_exponents(site, whole_exponents, integer_power::<i32>),
            (DType::I64, true) => with_exponents(site, whole_exponents, integer_power::<i64>),
            (DType::I32, false) => with_exponents(site, real_exponents, real_power::<i32>),
            (DType::I64, false) => with_exponents(site, real_exponents, real_power::<i64>),
            _ => dispatch!(x, floats, T => with_exponents(site, real_exponents, real_power::<T>)),
        }
    }

    fn reference(&self, x: &RefTensor, e: &RefTensor) -> Result<RefTensor, OpError> {
        let exponents: Vec<f64> = match &e.data {
            RefData::Int(v) => v.iter().map(|&v| v as f64).collect(),
            _ => e.as_floats()?.to_vec(),
        };
        let data = match (&x.data, &e.data) {
            (RefData::Float(x), _) => {
                RefData::Float(x.iter().zip(&exponents).map(|(x, e)| x.powf(*e)).collect())
            }
            (RefData::Int(v), RefData::Int(e)) => {
                let data = v.iter().zip(e).map(|(&x, &e)| whole_power(x, e)).collect();
                return Ok(RefTensor::wrapped(x.dtype, &x.shape, data));
            }
            (RefData::Int(v), _) => {
                let (low, high) = match x.dtype {
                    DType::I32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
                    _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
                };
                let power = |(&x, &e): (&i128, &f64)| ((x as f64).powf(e) as i128).clamp(low, high);
                RefData::Int(v.iter().zip(&exponents).map(power).collect())
            }
            _ => return Err(OpError::internal("power of another type")),
        };
        Ok(x.with_data(data))
    }

    fn case(g: &mut Gen) -> Case {
        let base = *g.pick(BASES);
        let mixed = g.chance(0.6);
        let exponent = if mixed { *g.pick(NUMBERS) } else { base };
        let (x, e) = draw_pair(g, (base, exponent), ((0.0, 4.0), (-3.0, 4.0)));
        Case::new([x, e]).opset(if mixed { *g.pick(&[12, 13, 15]) } else { *g.pick(&[7, 12, 15]) })
    }
}

/// The kernel for exponents of another type than the base: they are converted to `E` in scratch memory first,
/// so that there is one loop per type of base.
fn with_exponents<T: Number, E: Pod + Sync>(
    site: &CpuSite<'_>,
    convert: fn(TensorView<'_>, &mut [E]) -> Result<(), OpError>,
    f: fn(T, E) -> T,
) -> Result<Kernel, OpError> {
    let shape = site.input_shape(1)?;
    let plan = Plan::new(&site.output_shape(0)?, [&site.input_shape(0)?, &shape])?;
    let bytes = shape.iter().product::<usize>() * size_of::<E>();
    let kernel = Kernel::new(move |io| {
        let (x, given, context) = (io.input::<T>(0)?, io.tensor(1)?, io.context);
        let (y, scratch) = io.output_and_scratch::<T>(0)?;
        let exponents: &mut [E] = bytemuck::try_cast_slice_mut(&mut scratch[..bytes])
            .map_err(|_| OpError::internal("scratch memory is not aligned"))?;
        convert(given, exponents)?;
        let exponents = &*exponents;
        for_each_piece(context, y, |start, y| plan.zip(start, x, exponents, y, |&x, &e| f(x, e)))
    });
    Ok(kernel.with_scratch(bytes))
}

fn real_exponents(given: TensorView<'_>, to: &mut [f64]) -> Result<(), OpError> {
    dispatch!(given.dtype(), numbers, E => {
        to.iter_mut().zip(given.elements::<E>()?).for_each(|(to, e)| *to = e.to_f64());
        Ok(())
    })
}

/// Powers modulo 2^64 repeat: from 2^62 on, 2^62 less is the same for odd bases, and 0 for even ones still.
fn whole_exponents(given: TensorView<'_>, to: &mut [i64]) -> Result<(), OpError> {
    const PERIOD: u64 = 1 << 62;
    if given.dtype() == DType::U64 {
        for (to, &e) in to.iter_mut().zip(given.elements::<u64>()?) {
            *to = if e < PERIOD { e as i64 } else { (e % PERIOD + PERIOD) as i64 };
        }
        return Ok(());
    }
    dispatch!(given.dtype(), ints, E => {
        to.iter_mut().zip(given.elements::<E>()?).for_each(|(to, &e)| *to = i128::from(e) as i64);
        Ok(())
    })
}

/// Squares, the usual power, are one product.
fn power<T: Float>(x: T, e: T) -> T {
    if e == T::from_f64(2.0) { x.mul(x) } else { x.powf(e) }
}

fn real_power<T: Number>(x: T, e: f64) -> T {
    T::from_f64(power(x.to_f64(), e))
}

/// By repeated squaring, wrapping.
fn integer_power<T: Compute>(x: T, exponent: i64) -> T {
    let minus_one = T::one().neg();
    if exponent < 0 {
        return match exponent & 1 {
            _ if x == T::one() => x,
            odd if x == minus_one => {
                if odd == 1 {
                    x
                } else {
                    T::one()
                }
            }
            _ => T::zero(),
        };
    }
    let (mut y, mut square, mut rest) = (T::one(), x, exponent);
    while rest > 0 {
        if rest & 1 == 1 {
            y = y.mul(square);
        }
        square = square.mul(square);
        rest >>= 1;
    }
    y
}

/// The same modulo 2^64, bit by bit of the exponent from the highest.
fn whole_power(x: i128, e: i128) -> i128 {
    match (x, e) {
        (1, _) => 1,
        (-1, _) => {
            if e % 2 == 0 {
                1
            } else {
                -1
            }
        }
        (_, e) if e < 0 => 0,
        _ => (0..64)
            .rev()
            .fold(1i64, |y, bit| {
                let square = y.wrapping_mul(y);
                if e >> bit & 1 == 1 { square.wrapping_mul(x as i64) } else { square }
            })
            .into(),
    }
}
