//! # Gelu
//! `y = x · Φ(x) = x / 2 · (1 + erf(x / √2))`, elementwise; with `approximate = "tanh"`,
//! `y = x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`. Opset 20.
//!
//! Below zero `1 + erf` cancels: the error is absolute, a few ULPs of 1.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;
use crate::error::OpError;
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

    fn at<T: Float>(self, x: T) -> T {
        let gate = if self.tanh {
            let cubic = x.mul(x).mul(x).mul(T::from_f64(0.044_715));
            x.add(cubic).mul(T::from_f64(FRAC_2_PI.sqrt())).tanh()
        } else {
            x.mul(T::from_f64(FRAC_1_SQRT_2)).erf()
        };
        x.mul(T::from_f64(0.5)).mul(T::one().add(gate))
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
