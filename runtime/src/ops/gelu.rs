//! # Gelu
//! `y = x · Φ(x) = x / 2 · (1 + erf(x / √2))`, elementwise; with `approximate = "tanh"`,
//! `y = x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`. Opset 20.
//!
//! Below zero `1 + erf` cancels: the error is absolute, a few ULPs of 1.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{FloatMap, float_map};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::testing::{Case, Gen};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

pub(super) const DEF: OpDef = float_map::<Gelu>("Gelu", &[20]);

#[derive(Clone, Copy, Debug, Default)]
struct Gelu {
    tanh: bool,
}

impl FloatMap for Gelu {
    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        match spec.string("approximate")?.as_deref() {
            None | Some("none") => Ok(Self { tanh: false }),
            Some("tanh") => Ok(Self { tanh: true }),
            Some(other) => Err(OpError::attribute("approximate", format!("is `{other}`"))),
        }
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let gate = if self.tanh {
            let (weight, scale) = (b.constant_as(x, 0.044_715), b.constant_as(x, FRAC_2_PI.sqrt()));
            let square = b.mul(x, x);
            let cube = b.mul(square, x);
            let cubic = b.mul(cube, weight);
            let inner = b.add(x, cubic);
            let inner = b.mul(inner, scale);
            b.tanh(inner)
        } else {
            let scale = b.constant_as(x, FRAC_1_SQRT_2);
            let inner = b.mul(x, scale);
            b.erf(inner)
        };
        let (half, one) = (b.constant_as(x, 0.5), b.constant_as(x, 1.0));
        let (half, gate) = (b.mul(x, half), b.add(one, gate));
        b.mul(half, gate)
    }

    fn formula(self, x: f64) -> f64 {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        x / 2.0 * (1.0 + if self.tanh { inner.tanh() } else { libm::erf(x / 2f64.sqrt()) })
    }

    fn draw(g: &mut Gen, case: Case) -> Case {
        match g.pick(&["", "none", "tanh"]) {
            &"" => case,
            approximate => case.string("approximate", approximate),
        }
    }
}
