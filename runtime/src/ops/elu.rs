//! # Elu
//! `y = x` where `x ≥ 0`, `y = alpha · (e^x − 1)` elsewhere. Opsets 6, 22.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{FloatMap, float_map};
use super::recurrence::{Activation, Function};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = float_map::<Elu>("Elu", &[6, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Elu {
    alpha: f32,
}

impl FloatMap for Elu {
    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { alpha: spec.float_or("alpha", 1.0)? })
    }

    fn activation(self) -> Option<Activation> {
        Some(Activation { function: Function::Elu, alpha: self.alpha, beta: 0.0 })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let (alpha, zero) = (b.constant_as(x, self.alpha.into()), b.constant_as(x, 0.0));
        let grown = b.exp_m1(x);
        let tail = b.mul(alpha, grown);
        let negative = b.lt(x, zero);
        b.select(negative, tail, x)
    }

    fn formula(self, x: f64) -> f64 {
        let alpha = f64::from(self.alpha);
        if x < 0.0 { alpha * x.exp_m1() } else { x }
    }

    fn draw(g: &mut Gen, case: Case) -> Case {
        let mut case = case;
        if g.chance(0.7) {
            case = case.float("alpha", g.float(-1.0, 2.0) as f32);
        }
        case
    }
}
