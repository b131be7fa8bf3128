//! # GRU
//! ```text
//! z = f(W_z·x + R_z·h + b_z)                r = f(W_r·x + R_r·h + b_r)
//! n = g(W_h·x + R_h·(r ⊙ h) + bR_h + bW_h)                        linear_before_reset = 0
//! n = g(W_h·x + r ⊙ (R_h·h + bR_h) + bW_h)                        linear_before_reset ≠ 0
//! h' = (1 − z) ⊙ n + z ⊙ h
//! ```
//! `clip` bounds what f and g are applied to. The gates of W, R and B are in the order z, r, h. Opsets 7, 14
//! (`layout`), 22 (bfloat16).

use super::attributes::NodeSpec;
use super::recurrence::{Cell, Recurrence};
use super::{Accuracy, Cost, Op, OpDef, PackSite, Packed};
use crate::cpu::{CpuSite, Kernel, recurrent};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::loops::{Nest, Opaque};
use crate::reference::recurrence::{Recurrent, activate};
use crate::reference::{RefInputs, RefValue};
use crate::testing::gen_recurrence::{Shape, recurrent_case};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "GRU",
    domain: "",
    since: &[7, 14, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct Gru(Recurrence);

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let cell = Cell::Gru { linear_before_reset: spec.int_or("linear_before_reset", 0)? != 0 };
    Ok(Arc::new(Gru(Recurrence::parse(spec, cell)?)))
}

impl Op for Gru {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        self.0.infer(inputs)
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        Recurrence::cost(inputs, outputs)
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        self.0.nest(inputs, outputs)
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        recurrent::pack(&self.0, site)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        recurrent::kernel(&self.0, site)
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::recurrent::kernel(&self.0, site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let all = Recurrent::new(&self.0, inputs)?;
        let linear = self.0.cell == Cell::Gru { linear_before_reset: true };
        let (mut y, mut last) = (all.empty_y(), all.empty_state());
        for (d, direction) in self.0.directions.iter().enumerate() {
            let [f, g] = direction.activations[..] else { return Err(OpError::internal("activations")) };
            let apply = |activation, x| activate(&self.0, activation, x);
            for b in 0..all.batch {
                let mut hidden = all.initial(5, d, b)?;
                for step in 0..all.length(b)? {
                    let t = all.moment(d, b, step)?;
                    let x = all.x(t, b)?;
                    let gate = |gate: usize, u: usize| -> Result<f64, OpError> {
                        let at = [d, gate, u];
                        let input = all.product(1, at, &x)? + all.bias(0, at)?;
                        Ok(apply(f, input + all.product(2, at, &hidden)? + all.bias(1, at)?))
                    };
                    let units = 0..all.hidden;
                    let update = units.clone().map(|u| gate(0, u)).collect::<Result<Vec<f64>, _>>()?;
                    let reset = units.clone().map(|u| gate(1, u)).collect::<Result<Vec<f64>, _>>()?;
                    let kept: Vec<f64> = reset.iter().zip(&hidden).map(|(r, h)| r * h).collect();
                    let mut after = Vec::with_capacity(all.hidden);
                    for u in units {
                        let at = [d, 2, u];
                        let recurrent = if linear {
                            reset[u] * (all.product(2, at, &hidden)? + all.bias(1, at)?)
                        } else {
                            all.product(2, at, &kept)? + all.bias(1, at)?
                        };
                        let candidate = apply(g, all.product(1, at, &x)? + recurrent + all.bias(0, at)?);
                        after.push((1.0 - update[u]) * candidate + update[u] * hidden[u]);
                    }
                    hidden = after;
                    all.set_y(&mut y, [t, d, b], &hidden);
                }
                all.set_state(&mut last, d, b, &hidden);
            }
        }
        Ok(vec![y.into(), last.into()])
    }

    fn recurrence(&self) -> Option<&Recurrence> {
        Some(&self.0)
    }

    fn with_recurrence(&self, recurrence: Recurrence) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Gru(recurrence)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    recurrent_case(g, &Shape { gates: 3, functions: 2, cell_state: false, flag: Some("linear_before_reset") })
}
