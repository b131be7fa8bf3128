//! # Selu
//! `y = gamma · x` where `x > 0`, `y = gamma · (alpha · e^x − alpha)` elsewhere. Opsets 6, 22.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{FloatMap, float_map};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = float_map::<Selu>("Selu", &[6, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Selu {
    alpha: f32,
    gamma: f32,
}

impl FloatMap for Selu {
    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { alpha: spec.float_or("alpha", 1.673_263_2)?, gamma: spec.float_or("gamma", 1.050_701)? })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let (alpha, gamma) = (b.constant_as(x, self.alpha.into()), b.constant_as(x, self.gamma.into()));
        let zero = b.constant_as(x, 0.0);
        let grown = b.exp_m1(x);
        let (tail, positive) = (b.mul(alpha, grown), b.gt(x, zero));
        let chosen = b.select(positive, x, tail);
        b.mul(gamma, chosen)
    }

    fn formula(self, x: f64) -> f64 {
        let alpha = f64::from(self.alpha);
        let gamma = f64::from(self.gamma);
        gamma * if x > 0.0 { x } else { alpha * x.exp_m1() }
    }

    fn draw(g: &mut Gen, case: Case) -> Case {
        let mut case = case;
        if g.chance(0.7) {
            case = case.float("alpha", g.float(-1.0, 2.0) as f32);
        }
        if g.chance(0.7) {
            case = case.float("gamma", g.float(-1.0, 2.0) as f32);
        }
        case
    }
}
