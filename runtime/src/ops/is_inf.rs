//! # IsInf
//! `y` is whether `x` is an infinity of a sign that is asked for, elementwise. Opsets 10, 20.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{FloatTest, float_test};
use crate::error::OpError;
use crate::loops::program::{Builder, Kind, Reg};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = float_test::<IsInf>("IsInf", &[10, 20]);

#[derive(Clone, Copy, Debug, Default)]
struct IsInf {
    negative: bool,
    positive: bool,
}

impl FloatTest for IsInf {
    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        let (negative, positive) = ("detect_negative", "detect_positive");
        Ok(Self { negative: spec.flag_or(negative, true)?, positive: spec.flag_or(positive, true)? })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let (positive, negative) = (b.constant_as(x, f64::INFINITY), b.constant_as(x, f64::NEG_INFINITY));
        let never = b.constant(Kind::Bool, 0.0);
        let above = if self.positive { b.eq(x, positive) } else { never };
        let below = if self.negative { b.eq(x, negative) } else { never };
        b.or(above, below)
    }

    fn formula(self, x: f64) -> bool {
        x.is_infinite() && if x > 0.0 { self.positive } else { self.negative }
    }

    fn draw(g: &mut Gen, case: Case) -> Case {
        let case = if g.chance(0.5) { case.int("detect_negative", g.int(0, 1)) } else { case };
        if g.chance(0.5) { case.int("detect_positive", g.int(0, 1)) } else { case }
    }
}
