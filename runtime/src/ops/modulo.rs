//! # Mod
//! The remainder of `a / b` with broadcasting: of the floored division, with the sign of `b`, when `fmod` is 0;
//! of the truncated one, with the sign of `a`, when it is 1. Integer remainders by zero are 0. Opsets 10, 13,
//! 28; floats with `fmod` 0 from 28 on.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{Arithmetic, arithmetic};
use crate::dtype::DType;
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = arithmetic::<Mod>("Mod", &[10, 13, 28]);

/// First version whose floats take `fmod` 0.
const FLOORED_FLOATS: i64 = 28;

#[derive(Clone, Copy, Debug, Default)]
struct Mod {
    truncated: bool,
    floats: bool,
}

impl Arithmetic for Mod {
    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        let truncated = spec.flag_or("fmod", false)?;
        Ok(Self { truncated, floats: truncated || spec.opset >= FLOORED_FLOATS })
    }

    fn takes(self, dtype: DType) -> bool {
        self.floats || !dtype.is_float()
    }

    fn scalar(self, b: &mut Builder, p: Reg, q: Reg) -> Reg {
        let rest = b.rem(p, q);
        if self.truncated {
            return rest;
        }
        // The sign of the divisor, for zeros as well.
        let zero = b.constant_as(p, 0.0);
        let minus = b.neg(zero);
        let (exact, below, under) = (b.eq(rest, zero), b.lt(q, zero), b.lt(rest, zero));
        let signed_zero = b.select(below, minus, zero);
        let (apart, moved) = (b.xor(under, below), b.add(rest, q));
        let kept = b.select(apart, moved, rest);
        b.select(exact, signed_zero, kept)
    }

    fn float(self, a: f64, b: f64) -> f64 {
        match (self.truncated, b.is_infinite() && a.is_finite()) {
            (true, true) => a,
            (true, false) => libm::fmod(a, b),
            (false, true) => {
                if a == 0.0 || (a < 0.0) == (b < 0.0) {
                    a
                } else {
                    b
                }
            }
            // Exact, which `a − ⌊a / b⌋ · b` in floats is not.
            (false, false) => {
                let rest = libm::fmod(a, b);
                if rest != 0.0 && rest * b.signum() < 0.0 { rest + b } else { rest }
            }
        }
    }

    fn int(self, a: i128, b: i128) -> i128 {
        match (b, self.truncated) {
            (0, _) => 0,
            (_, true) => a % b,
            _ => a - (a.div_euclid(b) - i128::from(b < 0 && a.rem_euclid(b) != 0)) * b,
        }
    }

    fn draw(g: &mut Gen, case: Case, dtype: DType) -> Case {
        let case = match (dtype.is_float(), g.size(0, 2)) {
            (true, 0) | (false, 1) => return case.int("fmod", 0),
            (false, 0) => case,
            _ => case.int("fmod", 1),
        };
        case.opset(*g.pick(&[10, 13, 28]))
    }
}
