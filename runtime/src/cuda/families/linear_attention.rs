//! Linear attention, of which a state goes over the tokens.

use super::{element, extent};
use crate::cpu::linear_attention::Plan;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use recurve_kernels::launch::{Buffer, Launch};
use recurve_kernels::linear_attention::{Buffers, Given, Shape};
use std::sync::Arc;

/// The launch of `plan`; inputs are queries, keys, values, past states, decays and rates, outputs what is read and the
/// states.
pub(crate) fn kernel(site: &GpuSite<'_>, plan: &Plan) -> Result<GpuKernel, GpuReject> {
    let (has_past, own) = (site.inputs.has(3), element(site.dtype(0)?)?);
    let shape = Shape {
        batch: extent(plan.batch)?,
        tokens: extent(plan.tokens)?,
        heads: extent(plan.heads)?,
        kv_heads: extent(plan.kv_heads)?,
        key: extent(plan.key)?,
        value: extent(plan.value)?,
        scale: plan.scale,
        decays: match (plan.rule.gated, plan.decay_by_element) {
            (false, _) => Given::Nothing,
            (true, false) => Given::Head,
            (true, true) => Given::Element,
        },
        rates: match (plan.rule.delta, plan.rate_by_head) {
            (false, _) => Given::Nothing,
            (true, false) => Given::One,
            (true, true) => Given::Head,
        },
        element: own,
        state: if has_past { element(site.dtype(3)?)? } else { own },
    };
    shape.accepts()?;
    let device = site.device;
    Ok(GpuKernel::new(move |operands| {
        let input = |at: usize| operands.inputs.get(at).copied().unwrap_or_default();
        let output = |at: usize| operands.outputs.get(at).copied().unwrap_or_default();
        let buffers = Buffers {
            query: input(0),
            key: input(1),
            value: input(2),
            past: if has_past { input(3) } else { Buffer::default() },
            decay: input(4),
            rate: input(5),
            y: output(0),
            present: output(1),
        };
        let prepared = shape.prepare(&buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}
