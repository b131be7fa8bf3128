//! The nest: what an operator computes, as loops over axes around programs of scalars.
//!
//! A nest has axes, reads at affine functions of them, and stages in order. The *outer* axes are those that no stage
//! runs `over`; for every point of them all stages are carried out one after the other, each inside loops over its own
//! axes: a fold combines the values of its program into one scalar, which later stages read; a store writes the values
//! of its program to the outputs. A softmax is `fold max`, `fold sum of exp(x − max)`, `store exp(x − max) / sum`,
//! all three over the last axis; a matrix product is `fold sum of a · b` over the depth and a store over nothing.
//! A nest with a [`Sequential`] axis carries all that out once for every point of it, in order.

use super::affine::Affine;
use super::program::Program;
use super::sequential::Sequential;
use crate::graph::Dim;
use std::fmt;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Nest {
    /// Extents.
    pub(crate) axes: Vec<Dim>,
    /// What programs read.
    pub(crate) reads: Vec<Read>,
    /// What is done at every point of the outer axes.
    pub(crate) stages: Vec<Stage>,
    /// The loop over steps around all of it.
    pub(crate) sequential: Option<Box<Sequential>>,
}

/// One element of an operand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Read {
    /// Which input.
    pub(crate) operand: usize,
    /// One index per axis of the operand.
    pub(crate) index: Vec<Affine>,
    /// What is read where an index lies outside the operand.
    pub(crate) outside: Outside,
}

/// What a read outside its operand gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outside {
    /// It never happens.
    Never,
    /// The value.
    Value(f64),
    /// The point is left out of the fold.
    Skipped,
}

/// Where an input of a stage's program comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Source {
    /// Read `.0`.
    Read(usize),
    /// The scalar of fold stage `.0`.
    Fold(usize),
}

/// What a stage does with the values of its program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Combines the one value of each point.
    Fold(Fold),
    /// Writes value `k` to output `k`, at this index.
    Store(Vec<Affine>),
    /// Writes its one value to an array of the sequential axis, at this index.
    Carry(usize, Vec<Affine>),
}

/// How values are combined, with the identity of an empty fold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fold {
    /// From 0.
    Sum,
    /// From 1.
    Product,
    /// From −∞, NaN where a value is.
    Max,
    /// From ∞, NaN where a value is.
    Min,
}

/// One stage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stage {
    /// Axes that it runs over, besides the outer ones.
    pub(crate) over: Vec<usize>,
    /// The scalar body.
    pub(crate) program: Program,
    /// Its inputs.
    pub(crate) inputs: Vec<Source>,
    /// What becomes of its values.
    pub(crate) effect: Effect,
}

impl Nest {
    /// A nest that computes each element of a space of extents `axes` by itself.
    pub(crate) fn map(axes: Vec<Dim>, reads: Vec<Read>, program: Program) -> Self {
        let inputs = (0..reads.len()).map(Source::Read).collect();
        let effect = Effect::Store((0..axes.len()).map(Affine::axis).collect());
        let stages = vec![Stage { over: Vec::new(), program, inputs, effect }];
        Self { axes, reads, stages, sequential: None }
    }

    /// The same where reads outside their operands give `outside`.
    pub(crate) fn outside(mut self, outside: Outside) -> Self {
        self.reads.iter_mut().for_each(|read| read.outside = outside);
        self
    }

    /// The program, when every element of the outputs is computed by itself, from elements inside the operands, and
    /// written where the axes point.
    pub(crate) fn as_map(&self) -> Option<&Stage> {
        match self.stages.as_slice() {
            [stage @ Stage { effect: Effect::Store(index), .. }]
                if self.sequential.is_none()
                    && index.len() == self.axes.len()
                    && index.iter().enumerate().all(|(i, a)| *a == Affine::axis(i))
                    && self.reads.iter().all(|r| r.outside == Outside::Never) =>
            {
                Some(stage)
            }
            _ => None,
        }
    }

    /// Whether it folds what it reads at every point, each element once, and stores one value: a reduction or a
    /// normalisation. A contraction combines operands each of which it reads again and again.
    pub(crate) fn is_reduction(&self) -> bool {
        let whole = |read: &Read| {
            let moving = (0..self.axes.len()).filter(|&a| self.axes[a] != Dim::Known(1));
            moving.into_iter().all(|a| read.index.iter().any(|i| i.terms().iter().any(|t| t.0 == a)))
        };
        let Some((Stage { effect: Effect::Store(_), program, .. }, folds)) = self.stages.split_last() else {
            return false;
        };
        self.sequential.is_none()
            && !folds.is_empty()
            && program.outputs().len() == 1
            && folds.iter().all(|f| matches!(f.effect, Effect::Fold(_)) && !f.over.is_empty())
            && self.reads.iter().all(|r| r.outside == Outside::Never)
            && self.reads.iter().any(whole)
    }

    /// Whether it computes nothing: it only says where each element comes from.
    pub(crate) fn is_layout(&self) -> bool {
        self.as_map().is_some_and(|stage| stage.program.is_copy())
    }
}

/// Why an operator has no nest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Opaque {
    /// It is no loop nest, such as a sort.
    Operator,
    /// It runs bodies.
    Bodies,
    /// The shape of what it makes depends on data.
    Data,
    /// Its elements are of a type that programs do not hold.
    Type,
    /// Extents are not known, or may broadcast in more than one way.
    Extents,
    /// Rows of a recurrence end at lengths that are data.
    Lengths,
    /// Its steps come one after the other.
    Sequential,
    /// Elements lie at quotients or remainders of places, or where a table says.
    Places,
}

impl fmt::Display for Opaque {
    /// A sentence about the operator, for those who use the engine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "it has a kernel of its own, which takes in no other operator",
            Self::Bodies => "it runs graphs of its own",
            Self::Data => "how much it makes depends on data",
            Self::Type => "fused operators do not compute with its type of elements",
            Self::Extents => "its sizes are not known when the model is loaded",
            Self::Lengths => "its sequences end where data says",
            Self::Sequential => "its time steps follow one after the other in a kernel of their own",
            Self::Places => "no sum of multiples of indices tells which elements it reads",
        })
    }
}
