//! # LeakyRelu
//! `y = x` where `x ≥ 0`, `y = alpha · x` elsewhere. Opsets 6, 16.

use super::OpDef;
use super::attributes::NodeSpec;
use super::elementwise::{FloatMap, float_map};
use super::recurrence::{Activation, Function};
use crate::cpu::number::Float;
use crate::error::OpError;
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = float_map::<LeakyRelu>("LeakyRelu", &[6, 16]);

#[derive(Clone, Copy, Debug, Default)]
struct LeakyRelu {
    alpha: f32,
}

impl FloatMap for LeakyRelu {
    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { alpha: spec.float_or("alpha", 0.01)? })
    }

    fn activation(self) -> Option<Activation> {
        Some(Activation { function: Function::LeakyRelu, alpha: self.alpha, beta: 0.0 })
    }

    fn at<T: Float>(self, x: T) -> T {
        let alpha = T::from_f64(self.alpha.into());
        if x < T::zero() { alpha.mul(x) } else { x }
    }

    fn formula(self, x: f64) -> f64 {
        let alpha = f64::from(self.alpha);
        if x < 0.0 { alpha * x } else { x }
    }

    fn draw(g: &mut Gen, case: Case) -> Case {
        let mut case = case;
        if g.chance(0.7) {
            case = case.float("alpha", g.float(-1.0, 2.0) as f32);
        }
        case
    }
}
