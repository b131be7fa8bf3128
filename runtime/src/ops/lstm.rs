//! # LSTM
//! ```text
//! i = f(W_i·x + R_i·h + P_i ⊙ C + b_i)      f = f(W_f·x + R_f·h + P_f ⊙ C + b_f)    (or 1 − i with input_forget)
//! c = g(W_c·x + R_c·h + b_c)                C' = f ⊙ C + i ⊙ c
//! o = f(W_o·x + R_o·h + P_o ⊙ C' + b_o)     h' = o ⊙ h(C')
//! ```
//! `b` is the sum of the biases of W and R. `clip` bounds what f and g are applied to, the sums of the gates;
//! what h is applied to is not bounded, which the specification leaves open and ONNX Runtime does so. The gates
//! of W, R and B are in the order i, o, f, c. Opsets 7, 14 (`layout`), 22 (bfloat16).

use super::attributes::NodeSpec;
use super::recurrence::{Cell, Recurrence};
use super::{Accuracy, Cost, Op, OpDef, PackSite, Packed};
use crate::cpu::{CpuSite, Kernel, recurrent};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::loops::{Nest, Opaque};
use crate::reference::recurrence::{Recurrent, activate, evaluate};
use crate::reference::{RefInputs, RefValue};
use crate::testing::gen_recurrence::{Shape, recurrent_case};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "LSTM",
    domain: "",
    since: &[7, 14, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct Lstm(Recurrence);

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let cell = Cell::Lstm { input_forget: spec.flag_or("input_forget", false)? };
    Ok(Arc::new(Lstm(Recurrence::parse(spec, cell)?)))
}

impl Op for Lstm {
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
        let coupled = self.0.cell == Cell::Lstm { input_forget: true };
        let (mut y, mut last_h, mut last_c) = (all.empty_y(), all.empty_state(), all.empty_state());
        for (d, direction) in self.0.directions.iter().enumerate() {
            let [f, g, h] = direction.activations[..] else { return Err(OpError::internal("activations")) };
            let apply = |activation, x| activate(&self.0, activation, x);
            for b in 0..all.batch {
                let (mut hidden, mut cell) = (all.initial(5, d, b)?, all.initial(6, d, b)?);
                for step in 0..all.length(b)? {
                    let t = all.moment(d, b, step)?;
                    let x = all.x(t, b)?;
                    let before = hidden.clone();
                    for u in 0..all.hidden {
                        let gate = |gate: usize| -> Result<f64, OpError> {
                            let at = [d, gate, u];
                            Ok(all.product(1, at, &x)?
                                + all.product(2, at, &before)?
                                + all.bias(0, at)?
                                + all.bias(1, at)?)
                        };
                        let input = apply(f, gate(0)? + all.peephole(d, 0, u)? * cell[u]);
                        let forget = if coupled {
                            1.0 - input
                        } else {
                            apply(f, gate(2)? + all.peephole(d, 2, u)? * cell[u])
                        };
                        cell[u] = forget * cell[u] + input * apply(g, gate(3)?);
                        let output = apply(f, gate(1)? + all.peephole(d, 1, u)? * cell[u]);
                        hidden[u] = output * evaluate(h, cell[u]);
                    }
                    all.set_y(&mut y, [t, d, b], &hidden);
                }
                all.set_state(&mut last_h, d, b, &hidden);
                all.set_state(&mut last_c, d, b, &cell);
            }
        }
        Ok(vec![y.into(), last_h.into(), last_c.into()])
    }

    fn recurrence(&self) -> Option<&Recurrence> {
        Some(&self.0)
    }

    fn with_recurrence(&self, recurrence: Recurrence) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Lstm(recurrence)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    recurrent_case(g, &Shape { gates: 4, functions: 3, cell_state: true, flag: Some("input_forget") })
}
