//! # Einsum
//! `out[…] = Σ Π input_i[…]` over the indices of `equation` that its right-hand side does not name. Without `->`
//! the output has the indices that occur once, sorted, behind the ellipsis. Extents of 1 broadcast. Opsets 12,
//! 28. Integers wrap.

use super::attributes::NodeSpec;
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::einsum::{Einsum, Inputs};
use crate::cpu::number::dispatch;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Einsum",
    domain: "",
    since: &[12, 28],
    until: None,
    dtypes: NUMBERS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

/// An index of a term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Label {
    /// Axis of the ellipsis, counted from its end.
    Ellipsis(usize),
    Letter(char),
}

/// One term as written: letters, and where the ellipsis stands.
#[derive(Clone, PartialEq, Debug)]
struct Term {
    before: Vec<char>,
    ellipsis: bool,
    after: Vec<char>,
}

#[derive(Debug)]
struct Equation {
    terms: Vec<Term>,
    output: Option<Term>,
}

fn bad(problem: impl Into<String>) -> OpError {
    OpError::attribute("equation", problem)
}

impl Term {
    fn parse(text: &str) -> Result<Self, OpError> {
        let (before, after) = text.split_once("...").map_or((text, None), |(b, a)| (b, Some(a)));
        let letters = |part: &str| {
            let all = part.chars().map(|c| {
                if c.is_ascii_alphabetic() { Ok(c) } else { Err(bad(format!("has `{c}` in a term"))) }
            });
            all.collect::<Result<Vec<char>, _>>()
        };
        Ok(Self { before: letters(before)?, ellipsis: after.is_some(), after: letters(after.unwrap_or(""))? })
    }

    /// The labels of a tensor of `rank` under this term; `None` as rank for one whose ellipsis has no axes.
    fn labels(&self, ellipsis: usize) -> Vec<Label> {
        let letters = |list: &[char]| list.iter().map(|&c| Label::Letter(c)).collect::<Vec<_>>();
        let mut all = letters(&self.before);
        if self.ellipsis {
            all.extend((0..ellipsis).rev().map(Label::Ellipsis));
        }
        all.extend(letters(&self.after));
        all
    }

    fn letters(&self) -> usize {
        self.before.len() + self.after.len()
    }
}

/// An equation with the ranks known: labels of each operand and of the output, and all labels.
struct Ranked {
    operands: Vec<Vec<Label>>,
    output: Vec<Label>,
    all: Vec<Label>,
}

impl Equation {
    fn parse(text: &str) -> Result<Self, OpError> {
        let text: String = text.chars().filter(|c| *c != ' ').collect();
        let (left, right) = text.split_once("->").map_or((text.as_str(), None), |(l, r)| (l, Some(r)));
        let terms = left.split(',').map(Term::parse).collect::<Result<Vec<_>, _>>()?;
        let output = right.map(Term::parse).transpose()?;
        if let Some(output) = &output {
            let letters: Vec<char> = output.before.iter().chain(&output.after).copied().collect();
            for (i, letter) in letters.iter().enumerate() {
                if letters[..i].contains(letter) {
                    return Err(bad(format!("names `{letter}` twice in its output")));
                }
                if !terms.iter().any(|t| t.before.contains(letter) || t.after.contains(letter)) {
                    return Err(bad(format!("names `{letter}` in its output alone")));
                }
            }
        }
        Ok(Self { terms, output })
    }

    fn ranked(&self, ranks: &[usize]) -> Result<Ranked, OpError> {
        if ranks.len() != self.terms.len() {
            return Err(bad(format!("has {} terms for {} inputs", self.terms.len(), ranks.len())));
        }
        let mut operands = Vec::new();
        let mut most = 0;
        for (index, (term, &rank)) in self.terms.iter().zip(ranks).enumerate() {
            let ellipsis = rank.checked_sub(term.letters()).filter(|&e| e == 0 || term.ellipsis);
            let Some(ellipsis) = ellipsis else {
                return Err(OpError::input(index, format!("of rank {rank} does not fit its term")));
            };
            most = most.max(ellipsis);
            operands.push(term.labels(ellipsis));
        }
        let mut all: Vec<Label> = operands.iter().flatten().copied().collect();
        all.sort_unstable();
        let count = |label: &Label| operands.iter().flatten().filter(|l| *l == label).count();
        let output = match &self.output {
            Some(term) => term.labels(most),
            None => {
                let mut once: Vec<Label> = (0..most).rev().map(Label::Ellipsis).collect();
                once.extend(all.iter().filter(|l| matches!(l, Label::Letter(_)) && count(l) == 1));
                once
            }
        };
        all.dedup();
        Ok(Ranked { operands, output, all })
    }
}

impl Ranked {
    fn index(&self, label: Label) -> usize {
        self.all.binary_search(&label).unwrap_or(0)
    }

    /// The extent of every label.
    fn extents(&self, shapes: &[&[Dim]]) -> Result<Vec<Dim>, OpError> {
        let mut extents = vec![Dim::Known(1); self.all.len()];
        for (labels, shape) in self.operands.iter().zip(shapes) {
            for (&label, extent) in labels.iter().zip(*shape) {
                let held = &mut extents[self.index(label)];
                *held = match (&*held, extent) {
                    (Dim::Known(1), d) | (d, Dim::Known(1)) => d.clone(),
                    (a, b) if a == b => a.clone(),
                    (Dim::Known(a), Dim::Known(b)) => {
                        return Err(OpError::shape(format!("an index has the extents {a} and {b}")));
                    }
                    (Dim::Known(a), _) | (_, Dim::Known(a)) => Dim::Known(*a),
                    _ => Dim::Unknown,
                };
            }
        }
        Ok(extents)
    }

    fn numbers(&self, labels: &[Label]) -> Vec<usize> {
        labels.iter().map(|&l| self.index(l)).collect()
    }
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let equation = node.string("equation")?.ok_or_else(|| bad("is missing"))?;
    Ok(Arc::new(Equation::parse(&equation)?))
}

impl Op for Equation {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(self.terms.len(), self.terms.len())?;
        let first = inputs.typed(0, NUMBERS)?;
        let mut shapes: Vec<Option<&[Dim]>> = Vec::new();
        for index in 0..inputs.len() {
            let fact = inputs.tensor(index)?;
            if fact.dtype != first.dtype {
                return Err(OpError::DType { index, got: fact.dtype });
            }
            shapes.push(fact.shape.as_deref());
        }
        let Some(shapes) = shapes.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(vec![TensorFact::unranked(first.dtype).into()]);
        };
        let ranked = self.ranked(&shapes.iter().map(|s| s.len()).collect::<Vec<_>>())?;
        let extents = ranked.extents(&shapes)?;
        let shape = ranked.numbers(&ranked.output).into_iter().map(|l| extents[l].clone()).collect();
        Ok(vec![TensorFact::new(first.dtype, shape).into()])
    }

    /// Axes are the labels, those of the output first; the product of all operands is summed over the others.
    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let shapes = (0..inputs.len()).map(|index| extents(operand(inputs, index)?));
        let shapes: Vec<&[Dim]> = shapes.collect::<Result<_, _>>()?;
        let ranked = self.ranked(&shapes.iter().map(|s| s.len()).collect::<Vec<_>>());
        let ranked = ranked.map_err(|_| Opaque::Operator)?;
        let whole = ranked.extents(&shapes).map_err(|_| Opaque::Extents)?;
        if whole.contains(&Dim::Unknown) {
            return Err(Opaque::Extents);
        }
        let stored = ranked.output.len();
        let summed = ranked.all.iter().filter(|label| !ranked.output.contains(label));
        let order: Vec<Label> = ranked.output.iter().chain(summed).copied().collect();
        let axes: Vec<Dim> = order.iter().map(|&label| whole[ranked.index(label)].clone()).collect();
        let over: Vec<usize> = (stored..axes.len()).collect();
        let mut nest = Stages::over(inputs, outputs, axes.clone())?;
        let mut sources = Vec::with_capacity(shapes.len());
        for (index, (labels, shape)) in ranked.operands.iter().zip(&shapes).enumerate() {
            let place = |(label, extent): (&Label, &Dim)| {
                let axis = order.iter().position(|other| other == label).ok_or(Opaque::Operator)?;
                match extent {
                    own if *own == axes[axis] => Ok(Affine::axis(axis)),
                    Dim::Known(1) => Ok(Affine::constant(0)),
                    _ => Err(Opaque::Extents),
                }
            };
            let at = labels.iter().zip(*shape).map(place).collect::<Result<_, _>>()?;
            sources.push(nest.read(index, at, Outside::Never)?);
        }
        let product = |p: &mut Builder, v: &[Reg]| v[1..].iter().fold(v[0], |all, &next| p.mul(all, next));
        let here = (0..stored).map(Affine::axis).collect();
        if over.is_empty() {
            return nest.store(here, &[], &sources, product);
        }
        let sum = nest.fold(Fold::Sum, &over, &sources, product)?;
        nest.store(here, &[], &[sum], |_, v| v[0])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
        let read: f64 = inputs.0.iter().flatten().map(|f| bytes(f)).sum();
        let shapes: Option<Vec<&[Dim]>> =
            (0..inputs.len()).map(|i| inputs.tensor(i).ok()?.shape.as_deref()).collect();
        let extents = shapes.and_then(|shapes| {
            let ranked = self.ranked(&shapes.iter().map(|s| s.len()).collect::<Vec<_>>()).ok()?;
            ranked.extents(&shapes).ok()
        });
        let points: f64 = extents.map_or(0.0, |e| e.iter().map(|d| d.known().unwrap_or(0) as f64).product());
        Cost { flops: 2.0 * points, bytes: read + outputs.iter().map(bytes).sum::<f64>() }
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let count = self.terms.len();
        let shapes: Vec<Vec<usize>> =
            (0..count).map(|i| site.input_shape(i).map(|s| s.to_vec())).collect::<Result<_, _>>()?;
        let ranked = self.ranked(&shapes.iter().map(Vec::len).collect::<Vec<_>>())?;
        let dims: Vec<Vec<Dim>> = shapes.iter().map(|s| s.iter().map(|&d| Dim::Known(d)).collect()).collect();
        let extents = ranked.extents(&dims.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let extents: Vec<usize> = extents.iter().map(|d| d.known().unwrap_or(0)).collect();
        let operands: Vec<(Vec<usize>, Vec<usize>)> =
            ranked.operands.iter().map(|l| ranked.numbers(l)).zip(shapes).collect();
        let output = ranked.numbers(&ranked.output);
        dispatch!(site.inputs.tensor(0)?.dtype, numbers, T => {
            let einsum = Einsum::new::<T>(&extents, &operands, &output, site.threads)?;
            let scratch = einsum.scratch();
            let kernel = Kernel::new(move |io| {
                let inputs = (0..count).map(|i| io.input::<T>(i)).collect::<Result<Inputs<'_, T>, _>>()?;
                let context = io.context;
                let (out, scratch) = io.output_and_scratch::<T>(0)?;
                einsum.run(context, &inputs, out, scratch)
            });
            Ok(kernel.with_scratch(scratch))
        })
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let tensors = (0..inputs.len()).map(|i| inputs.tensor(i)).collect::<Result<Vec<_>, _>>()?;
        let ranked = self.ranked(&tensors.iter().map(|t| t.shape.len()).collect::<Vec<_>>())?;
        let mut extents = vec![1; ranked.all.len()];
        for (labels, tensor) in ranked.operands.iter().zip(&tensors) {
            for (&label, &extent) in labels.iter().zip(&tensor.shape) {
                if extent != 1 {
                    extents[ranked.index(label)] = extent;
                }
            }
        }
        let shape: Vec<usize> = ranked.output.iter().map(|&l| extents[ranked.index(l)]).collect();
        let dtype = tensors[0].dtype;
        let count = shape.iter().product();
        let (mut floats, mut ints) = (vec![0.0; count], vec![0i128; count]);
        // Every assignment of numbers to the labels adds one product to one output.
        for point in 0..extents.iter().product() {
            let point = RefTensor::unravel(&extents, point);
            let at: Vec<usize> = ranked.output.iter().map(|&l| point[ranked.index(l)]).collect();
            let at = RefTensor::ravel(&shape, &at);
            let (mut float, mut int) = (1.0, 1i128);
            for (labels, tensor) in ranked.operands.iter().zip(&tensors) {
                let own: Vec<usize> = labels.iter().map(|&l| point[ranked.index(l)]).collect();
                let from = RefTensor::broadcast_position(&tensor.shape, &own);
                match &tensor.data {
                    RefData::Float(v) => float *= v[from],
                    RefData::Int(v) => int = int.wrapping_mul(v[from]),
                    _ => return Err(OpError::internal("an operand is no number")),
                }
            }
            floats[at] += float;
            ints[at] = ints[at].wrapping_add(int);
        }
        let out = if dtype.is_float() {
            RefTensor::floats(dtype, &shape, floats)
        } else {
            RefTensor::wrapped(dtype, &shape, ints)
        };
        Ok(vec![out.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    const LETTERS: [char; 6] = ['a', 'b', 'i', 'j', 'K', 'Z'];
    let opset = *g.pick(&[12, 28]);
    let dtype = *g.pick(NUMBERS);
    let dtype = if opset < 28 && dtype == DType::BF16 { DType::F32 } else { dtype };
    let extents: Vec<usize> =
        LETTERS.iter().map(|_| if g.chance(0.02) { 0 } else { *g.pick(&[1, 2, 3, 3, 4, 5]) }).collect();
    let ellipsis_rank = g.size(1, 2);
    let ellipsis: Vec<usize> = (0..ellipsis_rank).map(|_| g.size(1, 3)).collect();
    let with_ellipsis = g.chance(0.3);
    let (mut text, mut used, mut tensors) = (Vec::new(), Vec::new(), Vec::new());
    let operands = *g.pick(&[1, 2, 2, 2, 2, 3]);
    for _ in 0..operands {
        let (mut term, mut shape) = (String::new(), Vec::new());
        let count = g.size(0, 4);
        let at = g.size(0, count);
        let (mut lead, mut lead_at) = (Vec::new(), 0);
        for i in 0..=count {
            if with_ellipsis && i == at {
                term.push_str("...");
                let skip = g.size(0, ellipsis_rank);
                let axes = ellipsis[skip..].iter().map(|&d| if g.chance(0.2) { 1 } else { d });
                lead = axes.collect();
                lead_at = shape.len();
            }
            if i < count {
                // Repeated letters (diagonals) come up now and then.
                let mut letter = g.size(0, LETTERS.len() - 1);
                if term.contains(LETTERS[letter]) && g.chance(0.7) {
                    letter = (letter + 1) % LETTERS.len();
                }
                term.push(LETTERS[letter]);
                used.push(LETTERS[letter]);
                shape.push(letter);
            }
        }
        // Now and then an extent of 1 that broadcasts; not on a diagonal, whose extents are equal.
        let mut extent = |&letter: &usize| {
            let single = term.matches(LETTERS[letter]).count() == 1;
            if single && g.chance(0.05) { 1 } else { extents[letter] }
        };
        let mut shape: Vec<usize> = shape.iter().map(&mut extent).collect();
        shape.splice(lead_at..lead_at, lead);
        text.push(term);
        tensors.push(shape);
    }
    used.sort_unstable();
    used.dedup();
    let mut equation = text.join(if g.chance(0.3) { " , " } else { "," });
    if g.chance(0.75) {
        let order = g.permutation(used.len());
        let keep = g.size(0, used.len());
        let mut out: String = order.into_iter().take(keep).map(|i| used[i]).collect();
        if with_ellipsis {
            let at = g.size(0, out.len());
            out.insert_str(at, "...");
        }
        equation = format!("{equation}{}{out}", if g.chance(0.3) { " -> " } else { "->" });
    }
    let inputs: Vec<_> = tensors.iter().map(|shape| g.tensor(dtype, shape)).collect();
    Case::new(inputs).opset(opset).string("equation", &equation)
}
