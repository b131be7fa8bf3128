//! Binding: a program's graph with the shapes of its inputs known becomes a list of prepared kernels and a
//! place for every value.
//!
//! Values whose shape follows from the inputs' shapes get a place beforehand: in the arena, in the caller's
//! output, or in the constant or input that they are a view of. What depends on constants alone is computed
//! here. A node whose shapes depend on data is prepared when its turn comes ([`Action::Late`]) and its
//! outputs are made then.

use super::evaluate::evaluate;
use super::offsets::{Tenant, assign_offsets};
use super::program::Program;
use super::run::{RunState, step_error};
use super::views::{Views, alias, joints, parts};
use super::waves::{Wave, moments, waves};
use crate::cpu::{CpuSite, Kernel, RunContext};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Content, Fact, Facts, TensorFact};
use crate::graph::{Node, NodeError, ValueId, infer_node};
use crate::memory::{Budget, Lent};
use crate::ops::Packed;
use crate::tensor::{Shape, Tensor, Value};
use std::sync::{Arc, Mutex};

/// Outputs of more bytes than this are not computed while binding, even from constants: they would be
/// resident instead of transient.
pub(crate) const FOLD_LIMIT: usize = 1 << 16;

/// Where a value's bytes are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Nowhere: nobody reads it.
    Nowhere,
    /// In input `index`.
    Input(usize),
    /// In the caller's place for output `index`.
    Output(usize),
    /// In the arena, at a place that belongs to this tenant.
    Arena { tenant: usize, offset: usize, bytes: usize },
    /// In a constant.
    Constant(Tensor),
    /// In slot `index` of values made while running.
    Made(usize),
}

/// A value's place and, unless it is made while running, its form.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) place: Place,
    /// The byte of an input, output or constant at which it begins.
    pub(super) offset: usize,
    pub(super) form: Option<(DType, Shape)>,
}

/// What happens at a step.
#[derive(Debug)]
pub(super) enum Action {
    /// A prepared kernel runs.
    Kernel(Kernel),
    /// The node is prepared with the facts of the moment, and runs.
    Late,
    /// The single input is copied to the single output, which is a graph output.
    Copy,
}

/// One step of a bound program.
#[derive(Debug)]
pub(super) struct Step {
    /// The node; for a copy, the node count.
    pub(super) node: usize,
    pub(super) action: Action,
    pub(super) inputs: Vec<Option<ValueId>>,
    pub(super) outputs: Vec<Option<ValueId>>,
    /// Made values that nobody reads after this step.
    pub(super) drops: Vec<usize>,
}

/// A program bound to the shapes of its inputs.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(super) values: Vec<Located>,
    pub(super) steps: Vec<Step>,
    /// Steps that run beside each other where all run one after the other otherwise, in their order.
    pub(super) waves: Vec<Wave>,
    pub(super) arena: usize,
    /// Offset and bytes of every tenant of the arena.
    pub(super) tenants: Vec<(usize, usize)>,
    pub(super) scratch: usize,
    pub(super) made: usize,
    pub(super) states: Mutex<Vec<RunState>>,
    /// What the latest run's outputs were written to, to be written again when nobody else holds it.
    pub(super) lent: Arc<Lent>,
    /// The program that is bound, where the one that was asked waited for shapes.
    pub(super) settled: Option<Arc<Program>>,
    outputs: Vec<Option<(DType, Shape)>>,
}

impl Bound {
    /// Dtype and shape of output `index`, when they do not depend on data.
    pub(crate) fn output_form(&self, index: usize) -> Option<(DType, &[usize])> {
        self.outputs.get(index)?.as_ref().map(|(dtype, shape)| (*dtype, shape.as_slice()))
    }

    pub(super) fn new(
        program: &Program,
        inputs: &[Fact],
        budget: &Budget,
        context: RunContext<'_>,
    ) -> Result<Self, NodeError> {
        let graph = &program.graph;
        let n = graph.values.len();
        let mut facts: Vec<Option<Fact>> = vec![None; n];
        let mut places: Vec<Option<Place>> = vec![None; n];
        let mut views = Views::new(n);
        let mut is_output = vec![false; n];
        graph.outputs.iter().for_each(|id| is_output[id.index()] = true);
        for (i, value) in graph.values.iter().enumerate() {
            if let Some(t) = &value.constant {
                facts[i] = Some(TensorFact::constant(t.clone()).into());
                places[i] = Some(Place::Constant(t.clone()));
            }
        }
        for (i, (&id, fact)) in graph.inputs.iter().zip(inputs).enumerate() {
            facts[id.index()] = Some(fact.clone());
            places[id.index()] = Some(Place::Input(i));
        }

        let mut steps: Vec<Step> = Vec::with_capacity(graph.nodes.len());
        let mut made = 0;
        let mut scratch = 0;
        for (index, node) in graph.nodes.iter().enumerate() {
            let fail = |source| NodeError::new(node, source);
            context.interrupt.check().map_err(fail)?;
            let held: Vec<Option<Fact>> =
                node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].clone())).collect();
            let given: Vec<Option<&Fact>> = held.iter().map(Option::as_ref).collect();
            let late_input =
                node.inputs.iter().flatten().any(|id| matches!(places[id.index()], Some(Place::Made(_))));
            let outputs = infer_node(&*node.op, Facts(&given)).map_err(fail)?;
            if outputs.len() < node.outputs.len() {
                return Err(fail(OpError::shape("more outputs are named than the operator makes")));
            }
            let wanted: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
            let named = || node.outputs.iter().zip(&outputs).filter_map(|(id, f)| id.map(|id| (id, f)));
            // What alone exceeds the limit is refused here, where the node is known.
            let largest = named().filter_map(|(_, f)| f.tensor()?.bytes()).max().unwrap_or(0);
            if largest > budget.limit() {
                return Err(fail(OpError::Memory { requested: largest, limit: budget.limit() }));
            }

            // Outputs known in full, by inference or because everything they depend on is.
            if let Some(constants) =
                known_outputs(node, program.packed[index].as_ref(), &given, &outputs, &wanted, context)
                    .map_err(fail)?
            {
                for (id, constant) in node.outputs.iter().zip(constants) {
                    if let (Some(id), Some(t)) = (id, constant) {
                        facts[id.index()] = Some(TensorFact::constant(t.clone()).into());
                        places[id.index()] = Some(Place::Constant(t));
                    }
                }
                continue;
            }
            let fixed = named().all(|(_, f)| {
                f.tensor().is_some_and(|t| t.known_shape().is_some() && t.dtype != DType::String)
            });
            if fixed
                && !late_input
                && let Some(source) = alias(&*node.op, Facts(&given))
                && let (Some(Some(from)), Some(Some(to))) = (node.inputs.get(source), node.outputs.first())
            {
                views.put(to.index(), from.index(), 0);
                facts[to.index()] = outputs.first().cloned();
                continue;
            }
            if fixed
                && !late_input
                && let Some(Some(from)) = node.inputs.first()
                && let Some(offsets) = parts(&*node.op, Facts(&given), &outputs)
            {
                for ((id, fact), offset) in node.outputs.iter().zip(&outputs).zip(offsets) {
                    let Some(id) = id else { continue };
                    views.put(id.index(), from.index(), offset);
                    facts[id.index()] = Some(fact.clone());
                }
                continue;
            }
            let free = |id: &Option<ValueId>| {
                let at = id.map(ValueId::index)?;
                let again = node.inputs.iter().filter(|other| *other == id).count() > 1;
                let made = places[at].is_none() && views.within_itself(at) && !is_output[at];
                (made && !again).then_some(at)
            };
            if fixed
                && !late_input
                && let Some(whole) =
                    node.outputs.first().copied().flatten().filter(|id| !is_output[id.index()])
                && let Some(offsets) = joints(&*node.op, Facts(&given), &outputs[0])
                && let Some(joined) = node.inputs.iter().map(free).collect::<Option<Vec<usize>>>()
            {
                views.join(whole.index(), joined.into_iter().zip(offsets));
                facts[whole.index()] = outputs.first().cloned();
                continue;
            }
            for (id, fact) in named() {
                let known =
                    fact.tensor().is_some_and(|t| t.known_shape().is_some() && t.dtype != DType::String);
                if late_input || !known {
                    places[id.index()] = Some(Place::Made(made));
                    made += 1;
                }
                // A value made late has a fact for inference, but its content is not to be trusted to stay.
                facts[id.index()] = Some(fact.clone());
            }
            let unknown_form =
                given.iter().flatten().any(|f| f.tensor().is_none_or(|t| t.known_shape().is_none()));
            let unknown_content = node.op.prepared_from().iter().any(|&i| {
                given
                    .get(i)
                    .copied()
                    .flatten()
                    .is_some_and(|f| f.tensor().is_none_or(|t| t.as_constant().is_none()))
            });
            let action = if late_input || unknown_form || unknown_content {
                Action::Late
            } else {
                let site = CpuSite {
                    inputs: Facts(&given),
                    outputs: &outputs,
                    wanted: &wanted,
                    packed: program.packed[index].as_ref(),
                    threads: program.threads,
                    epilogue: None,
                    strided: &[],
                    prologue: None,
                    written: None,
                };
                let kernel = node.op.cpu(&site).map_err(fail)?;
                scratch = scratch.max(kernel.scratch());
                Action::Kernel(kernel)
            };
            steps.push(Step {
                node: index,
                action,
                inputs: node.inputs.clone(),
                outputs: node.outputs.clone(),
                drops: Vec::new(),
            });
        }

        place_outputs(program, &views, &mut places, &mut steps, &facts)?;
        let waves = waves(&steps, &views, program.threads);
        for wave in &waves {
            let fail = || step_error(program, &steps[wave.first], budget.overflow());
            scratch = scratch.max(wave.layers.scratch().ok_or_else(fail)?);
        }
        let moments = moments(steps.len(), &waves);
        let when = (&steps[..], &moments[..]);
        let (arena, tenants) = place_in_arena(program, &views, &mut places, when, &facts, budget)?;
        release_made(&mut steps, &places, graph.outputs.as_slice());

        let form = |i: usize| {
            let t = facts[i].as_ref()?.tensor()?;
            Some((t.dtype, t.known_shape()?))
        };
        let values: Vec<Located> = (0..n)
            .map(|i| {
                let (root, ahead) = views.root(i);
                let bytes = || facts[i].as_ref()?.tensor()?.bytes();
                let (place, offset) = match places[root].clone() {
                    Some(Place::Arena { tenant, offset, bytes: all }) => {
                        let bytes = bytes().unwrap_or(all);
                        (Place::Arena { tenant, offset: offset + ahead, bytes }, 0)
                    }
                    place => (place.unwrap_or(Place::Nowhere), ahead),
                };
                let form = if matches!(place, Place::Made(_)) { None } else { form(i) };
                Located { place, offset, form }
            })
            .collect();
        let outputs = graph
            .outputs
            .iter()
            .map(|id| values[id.index()].form.clone().filter(|(d, _)| *d != DType::String))
            .collect();
        let lent = Arc::new(Lent::new(graph.outputs.len()));
        budget.register(&lent);
        let states = Mutex::new(Vec::new());
        Ok(Self { values, steps, waves, arena, tenants, scratch, made, states, lent, settled: None, outputs })
    }
}

/// The outputs of `node` where they are known in full: from inference, or computed when every input is constant and
/// the outputs are small.
pub(crate) fn known_outputs(
    node: &Node,
    packed: Option<&Packed>,
    given: &[Option<&Fact>],
    outputs: &[Fact],
    wanted: &[bool],
    context: RunContext<'_>,
) -> Result<Option<Vec<Option<Tensor>>>, OpError> {
    let known = |f: &Fact| {
        let t = f.tensor()?;
        match &t.content {
            Content::Constant(c) => Some(c.clone()),
            Content::Dims(_) | Content::Integers(_) => {
                let values = t.as_i64s()?;
                let shape = t.known_shape()?;
                let made = match t.dtype {
                    DType::I64 => Tensor::new(&shape, values),
                    DType::I32 => Tensor::new(&shape, values.iter().map(|&v| v as i32).collect()),
                    _ => return None,
                };
                made.ok()
            }
            Content::Unknown => None,
        }
    };
    let inferred: Vec<Option<Tensor>> =
        outputs.iter().zip(wanted).map(|(f, &w)| if w { known(f) } else { None }).collect();
    if inferred.iter().zip(wanted).all(|(t, &w)| !w || t.is_some()) {
        return Ok(Some(inferred));
    }
    let constant = given.iter().flatten().all(|f| f.tensor().is_some_and(|t| t.as_constant().is_some()));
    let small =
        outputs.iter().all(|f| f.tensor().and_then(TensorFact::bytes).is_some_and(|b| b <= FOLD_LIMIT));
    if !constant || !small || !node.op.is_deterministic() || !node.op.bodies().is_empty() {
        return Ok(None);
    }
    // A packed constant may have let go of its pages; they come back from the file when read here.
    let aligned = |tensor: &Tensor| {
        // What lies in the model's file may begin at any byte.
        if tensor.is_aligned() { Ok(tensor.clone()) } else { Tensor::copy_of(tensor.view(), context.budget) }
    };
    let constants = given.iter().map(|f| f.and_then(|f| f.tensor()?.as_constant()));
    let values: Vec<Option<Value>> = constants
        .map(|t| Ok(t.map(aligned).transpose()?.map(Value::from)))
        .collect::<Result<_, OpError>>()?;
    let refs: Vec<_> = values.iter().map(|v| v.as_ref().map(Value::as_ref)).collect();
    let made = evaluate(&*node.op, packed, &refs, wanted, context)?;
    Ok(Some(made.into_iter().map(|v| v.and_then(Value::into_tensor)).collect()))
}

/// Gives each graph output its caller's place, directly where the value is made there and by a copy where it
/// lies elsewhere.
fn place_outputs(
    program: &Program,
    views: &Views,
    places: &mut [Option<Place>],
    steps: &mut Vec<Step>,
    facts: &[Option<Fact>],
) -> Result<(), NodeError> {
    let graph = &program.graph;
    for (index, &id) in graph.outputs.iter().enumerate() {
        if facts[id.index()].is_none() {
            let source = OpError::shape("nothing writes it");
            return Err(NodeError::of_output(graph, id, source));
        }
        let (at, offset) = views.root(id.index());
        let bytes = |i: usize| facts[i].as_ref()?.tensor()?.bytes();
        let same = offset == 0 && bytes(at) == bytes(id.index());
        if places[at].is_none() && views.is_whole(at) && same {
            places[at] = Some(Place::Output(index));
            continue;
        }
        // The copy's target is the slot of output `index`; the step names it by position.
        steps.push(Step {
            node: graph.nodes.len() + index,
            action: Action::Copy,
            inputs: vec![Some(id)],
            outputs: Vec::new(),
            drops: Vec::new(),
        });
    }
    Ok(())
}

/// Offsets for all values that have no place yet, where each step runs at its moment; the arena's bytes, and every tenant's
/// offset and bytes.
fn place_in_arena(
    program: &Program,
    views: &Views,
    places: &mut [Option<Place>],
    (steps, moments): (&[Step], &[usize]),
    facts: &[Option<Fact>],
    budget: &Budget,
) -> Result<(usize, Vec<(usize, usize)>), NodeError> {
    let graph = &program.graph;
    let mut tenant_of: Vec<Option<usize>> = vec![None; places.len()];
    let mut tenants: Vec<Tenant> = Vec::new();
    let mut owners: Vec<usize> = Vec::new();
    let overflow = |i: usize| NodeError {
        node: graph.values[i].name.to_string(),
        op: "value".into(),
        source: budget.overflow(),
    };
    for (step, &at) in steps.iter().zip(moments) {
        for id in step.outputs.iter().flatten() {
            let (i, _) = views.root(id.index());
            if let Some(tenant) = tenant_of[i] {
                tenants[tenant].last = at;
            } else if places[i].is_none() {
                let bytes = facts[i].as_ref().and_then(|f| f.tensor()?.bytes()).ok_or_else(|| overflow(i))?;
                tenant_of[i] = Some(tenants.len());
                tenants.push(Tenant { bytes, first: at, last: at });
                owners.push(i);
            }
        }
        for id in step.inputs.iter().flatten() {
            if let Some(tenant) = tenant_of[views.root(id.index()).0] {
                tenants[tenant].last = at;
            }
        }
    }
    let (offsets, total) = assign_offsets(&tenants).ok_or_else(|| overflow(0))?;
    let mut homes = Vec::with_capacity(tenants.len());
    for ((tenant, &owner), offset) in tenants.iter().zip(&owners).zip(offsets) {
        places[owner] = Some(Place::Arena { tenant: homes.len(), offset, bytes: tenant.bytes });
        homes.push((offset, tenant.bytes));
    }
    Ok((total, homes))
}

/// Notes at each step which made values are read there for the last time.
fn release_made(steps: &mut [Step], places: &[Option<Place>], outputs: &[ValueId]) {
    let slot = |id: &ValueId| match places[id.index()] {
        Some(Place::Made(slot)) => Some(slot),
        _ => None,
    };
    let mut seen: Vec<usize> = outputs.iter().filter_map(slot).collect();
    for step in steps.iter_mut().rev() {
        let touched: Vec<usize> =
            step.inputs.iter().chain(&step.outputs).flatten().filter_map(slot).collect();
        for s in touched {
            if !seen.contains(&s) {
                seen.push(s);
                step.drops.push(s);
            }
        }
    }
}
