//! # Swish
//! `y = x · sigmoid(alpha · x)`, elementwise. Opset 24.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{FloatMap, float_map};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = float_map::<Swish>("Swish", &[24]);

#[derive(Clone, Copy, Debug, Default)]
struct Swish {
    alpha: f32,
}

impl FloatMap for Swish {
    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { alpha: spec.float_or("alpha", 1.0)? })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let alpha = b.constant_as(x, self.alpha.into());
        let scaled = b.mul(alpha, x);
        let gate = b.sigmoid(scaled);
        b.mul(x, gate)
    }

    fn formula(self, x: f64) -> f64 {
        let alpha = f64::from(self.alpha);
        x / (1.0 + (-alpha * x).exp())
    }

    fn draw(g: &mut Gen, case: Case) -> Case {
        let mut case = case;
        if g.chance(0.7) {
            case = case.float("alpha", g.float(-1.0, 2.0) as f32);
        }
        case
    }
}
