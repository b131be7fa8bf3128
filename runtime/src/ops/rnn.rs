//! # RNN
//! `h' = f(W·x + R·h + bW + bR)`; `clip` bounds what f is applied to. Opsets 7, 14 (`layout`), 22 (bfloat16).

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
    name: "RNN",
    domain: "",
    since: &[7, 14, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct Rnn(Recurrence);

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let cell = Cell::Rnn;
    Ok(Arc::new(Rnn(Recurrence::parse(spec, cell)?)))
}

impl Op for Rnn {
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
        let (mut y, mut last) = (all.empty_y(), all.empty_state());
        for (d, direction) in self.0.directions.iter().enumerate() {
            let [f] = direction.activations[..] else { return Err(OpError::internal("activations")) };
            for b in 0..all.batch {
                let mut hidden = all.initial(5, d, b)?;
                for step in 0..all.length(b)? {
                    let t = all.moment(d, b, step)?;
                    let x = all.x(t, b)?;
                    hidden = (0..all.hidden)
                        .map(|u| {
                            let at = [d, 0, u];
                            let products = all.product(1, at, &x)? + all.product(2, at, &hidden)?;
                            Ok(activate(&self.0, f, products + all.bias(0, at)? + all.bias(1, at)?))
                        })
                        .collect::<Result<_, OpError>>()?;
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
        Some(Arc::new(Rnn(recurrence)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    recurrent_case(g, &Shape { gates: 1, functions: 1, cell_state: false, flag: None })
}
