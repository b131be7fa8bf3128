//! Checks of one operator: its kernel against its reference, and its shape inference against what came out.

use super::case::Case;
use super::compare::{Mismatch, Tolerance, compare_value};
use super::gen_case::Gen;
use crate::cpu::{RunContext, Slot};
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::{BuildContext, Interrupt, Program, Team};
use crate::graph::fact::{Content, Fact, Facts};
use crate::graph::{Dim, Graph, Node};
use crate::memory::Budget;
use crate::ops::attributes::NodeSpec;
use crate::ops::{Accuracy, OPS, Op, OpDef};
use crate::precision::Storing;
use crate::reference::{RefInputs, RefValue};
use crate::tensor::{Value, ValueRef};
use std::cell::Cell;
use std::sync::Arc;

/// One row of the operator table, for lists.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OperatorInfo {
    /// Name in the specification.
    pub name: &'static str,
    /// Domain; empty for the standard one.
    pub domain: &'static str,
    /// Versions in which it changed, oldest supported first.
    pub since: &'static [i64],
    /// Last version that has it, where it was removed.
    pub until: Option<i64>,
    /// Element types of its main input.
    pub dtypes: &'static [DType],
    /// How close its kernels are held to the reference.
    pub accuracy: Accuracy,
}

impl OperatorInfo {
    /// Name with the domain and a colon, where it has one.
    pub fn full_name(&self) -> String {
        if self.domain.is_empty() { self.name.into() } else { format!("{}:{}", self.domain, self.name) }
    }
}

/// Why a check failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The case could not be prepared or run.
    Error {
        /// At which stage.
        stage: &'static str,
        /// Why.
        source: OpError,
        /// The case.
        case: Box<Case>,
    },
    /// The case could not be loaded or run as a model.
    Run {
        /// Why.
        source: Box<crate::Error>,
        /// The case.
        case: Box<Case>,
    },
    /// Kernel and reference differ.
    Mismatch {
        /// Position of the output.
        output: usize,
        /// How they differ.
        mismatch: Mismatch,
        /// The case.
        case: Box<Case>,
    },
    /// Inference with less knowledge contradicts what came out.
    Inference {
        /// Position of the output.
        output: usize,
        /// What was inferred.
        inferred: String,
        /// The case.
        case: Box<Case>,
    },
}

/// Every operator of the table.
pub fn operators() -> Vec<OperatorInfo> {
    let info = |d: &&OpDef| OperatorInfo {
        name: d.name,
        domain: d.domain,
        since: d.since,
        until: d.until,
        dtypes: d.dtypes,
        accuracy: d.accuracy,
    };
    OPS.iter().map(info).collect()
}

/// Draws a case of operator `name` (with its domain and a colon, where it has one) from `seed`, runs kernel
/// and reference on `threads` threads, and compares.
pub fn check_operator(name: &str, seed: u64, threads: usize) -> Result<(), Failure> {
    let Some(def) = OPS.iter().find(|d| d.full_name() == name) else {
        let source = OpError::unsupported(name);
        return Err(Failure::Error { stage: "look-up", source, case: Box::new(Case::new([])) });
    };
    let case = (def.case)(&mut Gen::new(seed));
    check_case(def, case, threads)
}

pub(super) fn check_case(def: &'static OpDef, case: Case, threads: usize) -> Result<(), Failure> {
    let case = Box::new(case);
    let fail = |stage, source| Failure::Error { stage, source, case: case.clone() };
    let op = parse(def, &case).map_err(|e| fail("parse", e))?;
    let references: Vec<Option<RefValue>> = case
        .inputs
        .iter()
        .map(|v| v.as_ref().map(RefValue::from_value).transpose())
        .collect::<Result<_, _>>()
        .map_err(|e| fail("reference inputs", e))?;
    let given: Vec<Option<&RefValue>> = references.iter().map(Option::as_ref).collect();
    let want = op.reference(&RefInputs(&given)).map_err(|e| fail("reference", e))?;
    let got = run(def, &op, &case, threads, &Storing::default()).map_err(|e| fail("run", e))?;
    for (output, (got, want)) in got.iter().zip(&want).enumerate() {
        let dtype = got.as_tensor().map_or(DType::F32, crate::Tensor::dtype);
        let compared = match def.accuracy {
            Accuracy::Random => same_form(got, want),
            class => compare_value(got, want, Tolerance::of(class, dtype)),
        };
        compared.map_err(|mismatch| Failure::Mismatch { output, mismatch, case: case.clone() })?;
    }
    check_weak_inference(&*op, &case, &got)
}

pub(super) fn same_form(got: &Value, want: &RefValue) -> Result<(), Mismatch> {
    match (got.as_tensor(), want.tensor()) {
        (Some(g), Ok(w)) if g.dtype() == w.dtype && g.shape() == w.shape => Ok(()),
        _ => Err(Mismatch::Kind),
    }
}

/// Parses the operator of a case.
pub(crate) fn parse(def: &'static OpDef, case: &Case) -> Result<Arc<dyn Op>, OpError> {
    let attributes =
        case.attributes.iter().map(|(n, v)| (Arc::from(*n), v.clone(), Cell::new(false))).collect();
    // The reader shows `parse` the formal inputs; what bodies capture stands behind them.
    let captures: usize = case.attributes.iter().map(|(name, _)| case.captures_of(name)).sum();
    let formal = &case.inputs[..case.inputs.len() - captures];
    let spec = NodeSpec {
        attributes,
        opset: case.opset,
        inputs: formal.iter().map(Option::is_some).collect(),
        outputs: vec![true; case.outputs],
    };
    let op = (def.parse)(&spec)?;
    match spec.unread() {
        Some(name) => Err(OpError::attribute(name, "is not known")),
        None => Ok(op),
    }
}

pub(super) fn run(
    def: &'static OpDef,
    op: &Arc<dyn Op>,
    case: &Case,
    threads: usize,
    storing: &Storing,
) -> Result<Vec<Value>, OpError> {
    let mut graph = Graph::default();
    let mut inputs = Vec::new();
    let mut ids = Vec::new();
    for (i, value) in case.inputs.iter().enumerate() {
        let Some(value) = value else {
            ids.push(None);
            continue;
        };
        let id = graph.add_value(format!("in{i}"));
        match (value, case.constant.contains(&i)) {
            (Value::Tensor(t), true) => graph.values[id.index()].constant = Some(t.clone()),
            _ => {
                graph.inputs.push(id);
                inputs.push(value.as_ref());
            }
        }
        ids.push(Some(id));
    }
    let outputs: Vec<_> = (0..case.outputs).map(|i| graph.add_value(format!("out{i}"))).collect();
    graph.outputs.clone_from(&outputs);
    graph.nodes.push(Node {
        name: def.name.into(),
        def: def.op_name(),
        op: op.clone(),
        inputs: ids,
        outputs: outputs.into_iter().map(Some).collect(),
    });
    let budget = Budget::unlimited();
    let build = BuildContext { budget: &budget, threads, release: &|_| (), storing };
    let program = Program::build(graph, build).map_err(|e| e.source)?;
    let (team, interrupt) = (Team::new(threads, false), Interrupt::default());
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let mut made: Vec<Option<Value>> = vec![None; case.outputs];
    let mut slots: Vec<Slot<'_>> = made.iter_mut().map(Slot::Made).collect();
    let refs: Vec<ValueRef<'_>> = inputs;
    program.run(&refs, &mut slots, context).map_err(|e| e.source)?;
    drop(slots);
    made.into_iter().map(|v| v.ok_or_else(|| OpError::internal("an output was not made"))).collect()
}

/// Inference that knows only ranks, or symbols instead of extents, must neither fail nor contradict the
/// outputs.
fn check_weak_inference(op: &dyn Op, case: &Case, got: &[Value]) -> Result<(), Failure> {
    let fact = |value: &Value, weaken: &dyn Fn(usize, usize) -> Dim, input: usize| -> Fact {
        let Value::Tensor(t) = value else { return crate::exec::fact_of(value.as_ref()) };
        let mut fact = crate::graph::TensorFact::known(t.dtype(), t.shape());
        if case.constant.contains(&input) {
            fact.content = Content::Constant(t.clone());
        } else {
            fact.shape = Some(t.shape().iter().enumerate().map(|(i, &d)| weaken(d, i)).collect());
        }
        fact.into()
    };
    let unknown = |_: usize, _: usize| Dim::Unknown;
    let symbolic = |d: usize, _: usize| Dim::symbol(&format!("s{d}"));
    let weakenings: [&dyn Fn(usize, usize) -> Dim; 2] = [&unknown, &symbolic];
    for weaken in weakenings {
        let facts: Vec<Option<Fact>> =
            case.inputs.iter().enumerate().map(|(i, v)| v.as_ref().map(|v| fact(v, weaken, i))).collect();
        let given: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let inferred = op.infer(Facts(&given)).map_err(|source| Failure::Error {
            stage: "inference with unknown extents",
            source,
            case: Box::new(case.clone()),
        })?;
        for (output, (fact, value)) in inferred.iter().zip(got).enumerate() {
            let (Fact::Tensor(fact), Value::Tensor(value)) = (fact, value) else { continue };
            let fits = fact.dtype == value.dtype()
                && fact.shape.as_ref().is_none_or(|shape| {
                    shape.len() == value.shape().len()
                        && shape.iter().zip(value.shape()).all(|(d, &n)| match d {
                            Dim::Known(k) => *k == n,
                            // A symbol `sN` stands for the extent N.
                            d => d
                                .to_string()
                                .strip_prefix('s')
                                .and_then(|s| s.parse().ok())
                                .is_none_or(|k: usize| k == n),
                        })
                });
            if !fits {
                let inferred = format!("{fact:?} for {value:?}");
                return Err(Failure::Inference { output, inferred, case: Box::new(case.clone()) });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set `RECURVE_OPS` to a comma-separated list to check only those, `RECURVE_SEEDS` for more draws.
    #[test]
    fn every_operator_agrees_with_its_reference() {
        let only = std::env::var("RECURVE_OPS").ok();
        let seeds = std::env::var("RECURVE_SEEDS").map_or(60, |s| s.parse().expect("a number of seeds"));
        let listed = |name: &str| OPS.iter().any(|def| def.full_name() == name);
        if let Some(unknown) = only.iter().flat_map(|o| o.split(',')).find(|name| !listed(name)) {
            panic!("no operator is named `{unknown}`");
        }
        let mut failures = Vec::new();
        for def in OPS {
            let name = def.full_name();
            if only.as_ref().is_some_and(|o| !o.split(',').any(|n| n == name)) {
                continue;
            }
            let failed: Vec<(u64, Failure)> = (0..seeds)
                .filter_map(|seed| {
                    check_operator(&name, seed, 1 + (seed % 2) as usize).err().map(|e| (seed, e))
                })
                .collect();
            if let Some((seed, first)) = failed.first() {
                failures.push(format!("{name}: {} of {seeds} seeds, first {seed}: {first:#?}", failed.len()));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn every_type_of_the_table_is_drawn() {
        const DRAWS: u64 = 2000;
        // Their values lie in sequences, go through bodies (`tests/suite/bodies.rs` has these), or have the type that an
        // attribute names.
        let elsewhere = |name: &str| {
            let holders = ["If", "Loop", "Scan", "ConcatFromSequence"];
            name.starts_with("Sequence") || name.starts_with("Random") || holders.contains(&name)
        };
        let mut never = Vec::new();
        for def in OPS.iter().filter(|def| !elsewhere(def.name)) {
            let mut left = def.dtypes.to_vec();
            left.retain(|dtype| *dtype != DType::String);
            for seed in 0..DRAWS {
                if left.is_empty() {
                    break;
                }
                let case = (def.case)(&mut Gen::new(seed));
                let tensors = case.inputs.iter().flatten().filter_map(Value::as_tensor);
                tensors.for_each(|tensor| left.retain(|dtype| *dtype != tensor.dtype()));
            }
            if !left.is_empty() {
                never.push(format!("{}: {left:?}", def.full_name()));
            }
        }
        assert!(never.is_empty(), "{}", never.join("\n"));
    }

    #[test]
    fn the_table_is_sorted_and_lists_every_file() {
        let names: Vec<String> = OPS.iter().map(|d| d.full_name().to_lowercase()).collect();
        assert!(names.windows(2).all(|w| w[0] < w[1]), "sort runtime/src/ops/table.rs by name: {names:?}");
    }
}
