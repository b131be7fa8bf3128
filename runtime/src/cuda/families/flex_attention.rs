//! Attention in parts, between which graphs make other scores of all scores, and other weights of all weights.

use super::attention::Roles;
use super::attention_parts::parts;
use super::composition::{Composition, Place};
use super::located::bytes;
use super::members;
use crate::cpu::attention::{Attention, Stage};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::fact::{Fact, Facts};
use crate::graph::{Graph, TensorFact};
use std::ops::Range;

/// A graph, and which inputs of the node follow the tensor that it changes.
pub(crate) type Modifier<'a> = Option<(&'a Graph, Range<usize>)>;

/// No input has a role but queries, keys and values.
const NOTHING: usize = usize::MAX;

/// The launches of `plan` with scores and weights of type `held`, which the modifiers change.
pub(crate) fn kernel(
    site: &GpuSite<'_>,
    plan: &Attention,
    held: DType,
    modifiers: [Modifier<'_>; 2],
) -> Result<GpuKernel, GpuReject> {
    let sizes = &plan.sizes;
    let shape = [sizes.batch, sizes.heads, sizes.queries, sizes.total()];
    if site.output_shape(0)?.contains(&0) {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let mut whole = Composition::new("flex");
    let roles = Roles { mask: NOTHING, past: [NOTHING; 2], lengths: NOTHING };
    let (parts, given) = parts(site, &mut whole, plan, (roles, false), held)?;
    let room = bytes(held, &shape)?;
    let scores = whole.between(room)?;
    whole.add("scores", parts.scores(&given, Stage::Product, held)?, given.places.clone(), vec![scores])?;
    let [of_scores, of_weights] = modifiers;
    let scores = modified(site, &mut whole, ("score_mod", of_scores), scores, (held, &shape))?;
    let weights = whole.between(room)?;
    whole.add("weights", parts.weights(held)?, vec![scores], vec![weights])?;
    let weights = modified(site, &mut whole, ("prob_mod", of_weights), weights, (held, &shape))?;
    whole.add("sums", parts.sums(held)?, vec![weights, parts.values()], vec![Place::Output(0)])?;
    Ok(whole.finish())
}

/// What a modifier makes of the tensor at `from`, or that tensor where there is none.
fn modified(
    site: &GpuSite<'_>,
    whole: &mut Composition,
    (name, modifier): (&str, Modifier<'_>),
    from: Place,
    (held, shape): (DType, &[usize]),
) -> Result<Place, GpuReject> {
    let Some((graph, captures)) = modifier else { return Ok(from) };
    let fact = Fact::from(TensorFact::known(held, shape));
    let mut given = vec![Some(&fact)];
    let mut places = vec![from];
    for input in captures {
        given.push(site.inputs.0.get(input).copied().flatten());
        places.push(Place::Input(input));
    }
    let made = [fact.clone()];
    let inner = GpuSite {
        inputs: Facts(&given),
        outputs: &made,
        wanted: &[true],
        strided: &[],
        behind: None,
        ..*site
    };
    let kernel = members::part(&inner, graph, 0..places.len(), name)?;
    let known = kernel.outputs().and_then(<[Fact]>::first).and_then(Fact::tensor);
    if !known.is_some_and(|made| made.dtype == held && made.known_shape().is_some_and(|s| *s == *shape)) {
        return Err(GpuReject::DataDependent);
    }
    let to = whole.between(bytes(held, shape)?)?;
    whole.add(name, kernel, places, vec![to])?;
    Ok(to)
}
