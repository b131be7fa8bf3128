//! # Erf
//! `y = erf x = 2/√π ∫₀ˣ e^(−t²) dt`, elementwise. Opsets 9, 13.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Erf>("Erf", &[9, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Erf;

impl FloatMap for Erf {
    const DRAWN: (f64, f64) = (-4.0, 4.0);

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.erf(x)
    }

    fn formula(self, x: f64) -> f64 {
        libm::erf(x)
    }
}
