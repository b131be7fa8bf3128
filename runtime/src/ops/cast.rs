//! # Cast
//! The same numbers in another element type. Opsets 6, 9, 13, 19, 21, 23, 24, 25, 28.
//!
//! To a float: rounded to nearest even, once. From a float to an integer: truncated toward zero; what is out of
//! range, which the specification leaves open, saturates, and NaN gives 0. Between integers: the high bits are
//! discarded. To `bool`: whether it is not zero. To an 8-bit float: to the nearest, ties to even, and out of range
//! the largest one or, with `saturate` 0, infinity or NaN; to powers of two (float8e8m0) as `round_mode` says. To a
//! 6- or 4-bit float: saturated, NaN to −0. To 4- and 2-bit integers: the low bits, also of a truncated float. Text is
//! refused.

use super::attributes::NodeSpec;
use super::elementwise::{Map, draw_numbers, draw_shape, map, with_entries};
use super::{Accuracy, OpDef};
use crate::cpu::Kernel;
use crate::cpu::cast::narrow_cast;
use crate::cpu::narrow::{PowerRounding, Rounding, is_narrow};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{CASTABLE, DType, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::fact::TensorFact;
use crate::loops::program::{Builder, Reg};
use crate::reference::{NarrowRounding, RefTensor};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::cmp::Ordering;

pub(super) const DEF: OpDef = map::<Cast>("Cast", &[6, 9, 13, 19, 21, 23, 24, 25, 28]);

#[derive(Debug)]
struct Cast {
    to: DType,
    rounding: Rounding,
}

impl Map for Cast {
    const DTYPES: &'static [DType] = CASTABLE;
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        let rounding = read_rounding(spec)?;
        let to = spec.dtype("to")?.ok_or_else(|| OpError::attribute("to", "is missing"))?;
        if !CASTABLE.contains(&to) {
            return Err(OpError::unsupported(format!("a cast to {to}")));
        }
        Ok(Self { to, rounding })
    }

    fn output(&self, _: DType) -> DType {
        self.to
    }

    fn with_content(&self, fact: TensorFact, x: &TensorFact) -> TensorFact {
        with_entries(fact, &[x], |e| e[0].clone())
    }

    fn keeps(&self, input: DType) -> bool {
        input == self.to
    }

    fn scalar(&self, b: &mut Builder, x: Reg, input: DType) -> Option<Reg> {
        Some(b.cast(x, input, self.to))
    }

    fn kernel(&self, input: DType) -> Option<Result<Kernel, OpError>> {
        (is_narrow(input) || is_narrow(self.to)).then(|| narrow_cast(input, self.to, self.rounding))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Option<Result<GpuKernel, GpuReject>> {
        let from = site.dtype(0).ok()?;
        (is_narrow(from) || is_narrow(self.to))
            .then(|| families::map::cast(site, [from, self.to], self.rounding))
    }

    fn reference(&self, x: &RefTensor) -> Result<RefTensor, OpError> {
        x.cast_rounding(self.to, reference_rounding(self.rounding))
    }

    fn case(g: &mut Gen) -> Case {
        let (from, to, shape) = (draw_type_of(g, CASTABLE), draw_type_of(g, CASTABLE), draw_shape(g));
        let case = Case::new([draw_castable(g, from, &shape)]).dtype("to", to);
        if g.chance(0.3) { case.opset(*g.pick(&[7, 9, 13, 28])) } else { draw_rounding(g, case) }
    }
}

/// Reads the attributes that say how 8-bit floats are rounded.
pub(super) fn read_rounding(spec: &NodeSpec) -> Result<Rounding, OpError> {
    let powers = match spec.string("round_mode")?.as_deref() {
        None | Some("up") => PowerRounding::Up,
        Some("down") => PowerRounding::Down,
        Some("nearest") => PowerRounding::Nearest,
        Some(other) => return Err(OpError::attribute("round_mode", format!("is `{other}`"))),
    };
    Ok(Rounding { saturate: spec.flag_or("saturate", true)?, powers })
}

/// The same for the reference.
pub(super) fn reference_rounding(rounding: Rounding) -> NarrowRounding {
    let toward = match rounding.powers {
        PowerRounding::Up => Some(Ordering::Greater),
        PowerRounding::Down => Some(Ordering::Less),
        PowerRounding::Nearest => None,
    };
    NarrowRounding { saturate: rounding.saturate, toward }
}

/// An element type of `all`, half the time one that a Rust type holds.
pub(super) fn draw_type_of(g: &mut Gen, all: &[DType]) -> DType {
    let usual = g.chance(0.5);
    *g.pick(if usual { NUMBERS_AND_BOOL } else { all })
}

/// `case` with attributes that say how 8-bit floats are rounded.
pub(super) fn draw_rounding(g: &mut Gen, case: Case) -> Case {
    let case = if g.chance(0.7) { case.int("saturate", g.int(0, 1)) } else { case };
    match *g.pick(&["", "up", "down", "nearest"]) {
        "" => case,
        mode => case.string("round_mode", mode),
    }
}

/// Numbers from all over the range of their type.
pub(super) fn draw_castable(g: &mut Gen, dtype: DType, shape: &[usize]) -> Tensor {
    let reach = *g.pick(&[0.01, 1.0, 10.0, 300.0, 70_000.0, 1e10, 1e20]);
    if !NUMBERS_AND_BOOL.contains(&dtype) {
        let bytes = dtype.bytes(shape.iter().product()).unwrap_or_default();
        let codes: Vec<u8> = (0..bytes).map(|_| g.bits() as u8).collect();
        return Tensor::from_bytes(dtype, shape, codes.into()).unwrap_or_else(|_| Tensor::scalar(0u8));
    }
    draw_numbers(g, dtype, shape, if dtype.is_float() { (-reach, reach) } else { (-10.0, 10.0) })
}
