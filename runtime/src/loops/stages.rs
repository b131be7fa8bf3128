//! Building nests of several stages: reductions, normalisations, contractions.

use super::affine::Affine;
use super::lower::{operand, result};
use super::nest::{Effect, Fold, Nest, Opaque, Outside, Read, Source, Stage};
use super::program::{Builder, Kind, Reg};
use super::sequential::{Array, Pass, Sequential};
use crate::dtype::DType;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts};

/// A nest under construction. Values between stages are of the kind that the result is computed in.
#[derive(Debug)]
pub(crate) struct Stages<'a> {
    inputs: Facts<'a>,
    output: DType,
    kind: Kind,
    nest: Nest,
    types: Vec<DType>,
    arrays: Vec<Array>,
    passes: Vec<Pass>,
}

impl<'a> Stages<'a> {
    /// Loops over `axes`.
    pub(crate) fn over(inputs: Facts<'a>, outputs: &[Fact], axes: Vec<Dim>) -> Result<Self, Opaque> {
        let output = result(outputs)?.dtype;
        let kind = Kind::of(output).ok_or(Opaque::Type)?;
        let nest = Nest { axes, reads: Vec::new(), stages: Vec::new(), sequential: None };
        let (types, arrays, passes) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { inputs, output, kind, nest, types, arrays, passes })
    }

    /// The kind of values between stages.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// With values between stages of `kind`; who stores converts what it stores.
    pub(crate) fn computed_in(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// A read of input `index`.
    pub(crate) fn read(&mut self, index: usize, at: Vec<Affine>, outside: Outside) -> Result<Source, Opaque> {
        self.types.push(operand(self.inputs, index)?.dtype);
        self.nest.reads.push(Read { operand: index, index: at, outside });
        Ok(Source::Read(self.nest.reads.len() - 1))
    }

    /// A fold over `over` of what `term` makes of `sources`.
    pub(crate) fn fold(
        &mut self,
        fold: Fold,
        over: &[usize],
        sources: &[Source],
        term: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) -> Result<Source, Opaque> {
        self.stage(Effect::Fold(fold), over, sources, self.kind.dtype(), term)?;
        Ok(Source::Fold(self.nest.stages.len() - 1))
    }

    /// The scalar that `value` makes of `sources`.
    pub(crate) fn scalar(
        &mut self,
        sources: &[Source],
        value: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) -> Result<Source, Opaque> {
        self.fold(Fold::Sum, &[], sources, value)
    }

    /// An array of the sequential axis, of the kind of values between stages; what reads it and writes to it.
    pub(crate) fn array(&mut self, extents: Vec<Dim>, initial: Option<usize>) -> usize {
        self.arrays.push(Array { extents, dtype: self.kind.dtype(), initial });
        self.arrays.len() - 1
    }

    /// A read of array `array`.
    pub(crate) fn recall(&mut self, array: usize, at: Vec<Affine>) -> Source {
        self.types.push(match self.arrays[array].initial.map(|i| operand(self.inputs, i)) {
            Some(Ok(initial)) => initial.dtype,
            _ => self.kind.dtype(),
        });
        let operand = Sequential::FIRST_ARRAY + array;
        self.nest.reads.push(Read { operand, index: at, outside: Outside::Never });
        Source::Read(self.nest.reads.len() - 1)
    }

    /// Carries `source` to `array`.
    pub(crate) fn carry(&mut self, array: usize, at: Vec<Affine>, source: Source) -> Result<(), Opaque> {
        self.stage(Effect::Carry(array, at), &[], &[source], self.kind.dtype(), |_, x| x[0])
    }

    /// Stores `source` at `at`.
    pub(crate) fn put(&mut self, at: Vec<Affine>, source: Source) -> Result<(), Opaque> {
        self.stage(Effect::Store(at), &[], &[source], self.output, |_, x| x[0])
    }

    /// Ends a pass over `axes`: what it carried is there.
    pub(crate) fn end_pass(&mut self, axes: &[usize]) {
        let before: usize = self.passes.iter().map(|p| p.stages).sum();
        self.passes.push(Pass { stages: self.nest.stages.len() - before, axes: axes.to_vec() });
    }

    /// Ends with a loop along `axis` around the passes, behind which outputs are what arrays hold.
    pub(crate) fn along(mut self, axis: usize, last: Vec<(usize, usize)>) -> Nest {
        let sequential = Sequential { axis, arrays: self.arrays, passes: self.passes, last };
        self.nest.sequential = Some(Box::new(sequential));
        self.nest
    }

    /// Ends with a store at `at`, inside loops over `over`, of what `value` makes of `sources`.
    pub(crate) fn store(
        mut self,
        at: Vec<Affine>,
        over: &[usize],
        sources: &[Source],
        value: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) -> Result<Nest, Opaque> {
        self.stage(Effect::Store(at), over, sources, self.output, value)?;
        Ok(self.nest)
    }

    fn stage(
        &mut self,
        effect: Effect,
        over: &[usize],
        sources: &[Source],
        dtype: DType,
        value: impl FnOnce(&mut Builder, &[Reg]) -> Reg,
    ) -> Result<(), Opaque> {
        let types: Vec<DType> = sources
            .iter()
            .map(|source| match source {
                Source::Read(index) => self.types[*index],
                Source::Fold(_) => self.kind.dtype(),
            })
            .collect();
        let mut builder = Builder::new(&types);
        let given: Vec<Reg> = (0..types.len())
            .map(|i| {
                let read = builder.input(i);
                builder.convert(read, self.kind)
            })
            .collect();
        let made = value(&mut builder, &given);
        let program = builder.finish(&[(made, dtype)]).map_err(|_| Opaque::Type)?;
        self.nest.stages.push(Stage { over: over.to_vec(), program, inputs: sources.to_vec(), effect });
        Ok(())
    }
}
