//! # BitShift
//! `x` shifted by `n` bits to the `direction`, with broadcasting; to the right the sign is copied. A count that
//! is negative or not below the width shifts everything out: −1 for a negative `x` to the right, 0 otherwise.
//! Opsets 11, 28; signed integers from 28 on.

use super::attributes::NodeSpec;
use super::elementwise::{Zip, draw_numbers, draw_shape, zip};
use super::{Accuracy, OpDef};
use crate::dtype::{DType, INTS};
use crate::error::OpError;
use crate::loops::program::{Builder, Kind, Reg};
use crate::reference::RefTensor;
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = zip::<BitShift>("BitShift", &[11, 28]);

/// First version that shifts signed integers.
const SIGNED: i64 = 28;

#[derive(Debug)]
struct BitShift {
    left: bool,
    signed: bool,
}

impl Zip for BitShift {
    const DTYPES: &'static [DType] = INTS;
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        let signed = spec.opset >= SIGNED;
        match spec.string("direction")?.as_deref() {
            Some("LEFT") => Ok(Self { left: true, signed }),
            Some("RIGHT") => Ok(Self { left: false, signed }),
            other => Err(OpError::attribute("direction", format!("is {other:?}, not LEFT or RIGHT"))),
        }
    }

    fn output(&self, x: DType, n: DType) -> Result<DType, OpError> {
        match x.is_signed_int() && !self.signed {
            true => Err(OpError::DType { index: 0, got: x }),
            false if x == n => Ok(x),
            false => Err(OpError::DType { index: 1, got: n }),
        }
    }

    fn scalar(&self, b: &mut Builder, x: Reg, n: Reg, _: [DType; 2]) -> Option<Reg> {
        if self.left {
            return Some(b.shl(x, n));
        }
        // Registers of unsigned numbers narrower than they are have a zero sign.
        let kind = b.kind(x);
        let most = match kind {
            Kind::U64 => return Some(b.shr(x, n)),
            Kind::I32 => 31,
            _ => 63,
        };
        let (zero, most) = (b.integer(kind, 0), b.integer(kind, most));
        let (negative, beyond) = (b.lt(n, zero), b.gt(n, most));
        let out = b.or(negative, beyond);
        let count = b.select(out, most, n);
        Some(b.shr(x, count))
    }

    fn reference(&self, x: &RefTensor, n: &RefTensor) -> Result<RefTensor, OpError> {
        let width = x.dtype.bits() as i128;
        let shifted = |(&x, &n): (&i128, &i128)| match (self.left, (0..width).contains(&n)) {
            (true, true) => x << n,
            (true, false) => 0,
            (false, inside) => x >> if inside { n } else { 64 },
        };
        let data = x.as_ints()?.iter().zip(n.as_ints()?).map(shifted).collect();
        Ok(RefTensor::wrapped(x.dtype, &x.shape, data))
    }

    fn case(g: &mut Gen) -> Case {
        let opset = *g.pick(&[11, 27, 28]);
        let dtypes = if opset < SIGNED { &INTS[4..] } else { INTS };
        let (dtype, shape) = (*g.pick(dtypes), draw_shape(g));
        let (x, n) = (g.broadcastable(&shape), g.broadcastable(&shape));
        let x = draw_numbers(g, dtype, &x, (-9.0, 9.0));
        let n = g.tensor_in(dtype, &n, -2.0, dtype.bits() as f64 + 2.0);
        Case::new([x, n]).opset(opset).string("direction", if g.chance(0.5) { "LEFT" } else { "RIGHT" })
    }
}
