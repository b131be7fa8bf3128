//! # Celu
//! `y = max(0, x) + min(0, alpha · (e^(x / alpha) − 1))`, elementwise. Opsets 12, 28.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{FloatMap, float_map};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = float_map::<Celu>("Celu", &[12, 28]);

#[derive(Clone, Copy, Debug, Default)]
struct Celu {
    alpha: f32,
}

impl FloatMap for Celu {
    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { alpha: spec.float_or("alpha", 1.0)? })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let (alpha, zero) = (b.constant_as(x, self.alpha.into()), b.constant_as(x, 0.0));
        let scaled = b.div(x, alpha);
        let grown = b.exp_m1(scaled);
        let tail = b.mul(alpha, grown);
        let (above, below) = (b.max(x, zero), b.min(tail, zero));
        b.add(above, below)
    }

    fn formula(self, x: f64) -> f64 {
        let alpha = f64::from(self.alpha);
        if x.is_nan() {
            return x;
        }
        x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0)
    }

    fn draw(g: &mut Gen, case: Case) -> Case {
        let mut case = case;
        if g.chance(0.7) {
            case = case.float("alpha", g.float(0.5, 2.0) as f32);
        }
        case
    }
}
