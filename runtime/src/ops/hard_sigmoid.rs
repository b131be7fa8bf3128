//! # HardSigmoid
//! `y = max(0, min(1, alpha · x + beta))`, elementwise; NaN stays NaN. Opsets 6, 22.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{FloatMap, float_map};
use super::recurrence::{Activation, Function};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = float_map::<HardSigmoid>("HardSigmoid", &[6, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct HardSigmoid {
    alpha: f32,
    beta: f32,
}

impl FloatMap for HardSigmoid {
    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { alpha: spec.float_or("alpha", 0.2)?, beta: spec.float_or("beta", 0.5)? })
    }

    fn activation(self) -> Option<Activation> {
        Some(Activation { function: Function::HardSigmoid, alpha: self.alpha, beta: self.beta })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let (alpha, beta) = (b.constant_as(x, self.alpha.into()), b.constant_as(x, self.beta.into()));
        let (zero, one) = (b.constant_as(x, 0.0), b.constant_as(x, 1.0));
        let scaled = b.mul(alpha, x);
        let line = b.add(scaled, beta);
        let below = b.min(line, one);
        b.max(below, zero)
    }

    fn formula(self, x: f64) -> f64 {
        let alpha = f64::from(self.alpha);
        let beta = f64::from(self.beta);
        (alpha * x + beta).clamp(0.0, 1.0)
    }

    fn draw(g: &mut Gen, case: Case) -> Case {
        let mut case = case;
        if g.chance(0.7) {
            case = case.float("alpha", g.float(0.05, 0.5) as f32);
        }
        if g.chance(0.7) {
            case = case.float("beta", g.float(-1.0, 1.0) as f32);
        }
        case
    }
}
