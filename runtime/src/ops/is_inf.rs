//! # IsInf
//! `y` is whether `x` is an infinity of a sign that is asked for, elementwise. Opsets 10, 20.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{FloatTest, float_test};
use crate::cpu::number::Float;
use crate::error::OpError;
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

    fn at<T: Float>(self, x: T) -> bool {
        (self.positive && x == T::highest()) || (self.negative && x == T::lowest())
    }

    fn formula(self, x: f64) -> bool {
        x.is_infinite() && if x > 0.0 { self.positive } else { self.negative }
    }

    fn draw(g: &mut Gen, case: Case) -> Case {
        let case = if g.chance(0.5) { case.int("detect_negative", g.int(0, 1)) } else { case };
        if g.chance(0.5) { case.int("detect_positive", g.int(0, 1)) } else { case }
    }
}
