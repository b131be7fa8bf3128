//! # BitShift
//! `x` shifted by `n` bits to the `direction`, with broadcasting; to the right the sign is copied. A count that
//! is negative or not below the width shifts everything out: −1 for a negative `x` to the right, 0 otherwise.
//! Opsets 11, 28; signed integers from 28 on.

use super::attributes::NodeSpec;
use super::elementwise::{Zip, draw_numbers, draw_shape, zip};
use super::{Accuracy, OpDef};
use crate::cpu::broadcast::zip as zip_kernel;
use crate::cpu::number::dispatch;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, INTS};
use crate::error::OpError;
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

    fn kernel(&self, site: &CpuSite<'_>, x: DType, _: DType) -> Result<Kernel, OpError> {
        // Counts that `u32` cannot hold shift everything out as well.
        if self.left {
            dispatch!(x, ints, T => zip_kernel(site, |x: T, n: T| {
                x.checked_shl(u32::try_from(i128::from(n)).unwrap_or(u32::MAX)).unwrap_or(0)
            }))
        } else {
            dispatch!(x, ints, T => zip_kernel(site, |x: T, n: T| {
                // One shift less than the width leaves the sign alone; another one shifts out the top bit of
                // an unsigned number.
                let most = T::BITS - 1;
                let n = u32::try_from(i128::from(n)).unwrap_or(u32::MAX);
                x.checked_shr(n).unwrap_or((x >> most) >> 1)
            }))
        }
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
