//! # ThresholdedRelu
//! `y = x` where `x > alpha`, `y = 0` elsewhere, NaN included. Opsets 10, 22.

use super::attributes::NodeSpec;
use super::elementwise::{FloatMap, float_map};
use super::recurrence::{Activation, Function};
use super::{Accuracy, OpDef};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = float_map::<ThresholdedRelu>("ThresholdedRelu", &[10, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct ThresholdedRelu {
    alpha: f32,
}

impl FloatMap for ThresholdedRelu {
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { alpha: spec.float_or("alpha", 1.0)? })
    }

    fn activation(self) -> Option<Activation> {
        Some(Activation { function: Function::ThresholdedRelu, alpha: self.alpha, beta: 0.0 })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let (alpha, zero) = (b.constant_as(x, self.alpha.into()), b.constant_as(x, 0.0));
        let above = b.gt(x, alpha);
        b.select(above, x, zero)
    }

    fn formula(self, x: f64) -> f64 {
        let alpha = f64::from(self.alpha);
        if x > alpha { x } else { 0.0 }
    }

    fn draw(g: &mut Gen, case: Case) -> Case {
        let mut case = case;
        if g.chance(0.7) {
            case = case.float("alpha", g.float(-1.0, 2.0) as f32);
        }
        case
    }
}
