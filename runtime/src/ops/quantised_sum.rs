//! Nests of sums of products of quantised operands: 32-bit integers, which may become bytes again.

use crate::dtype::DType;
use crate::graph::Dim;
use crate::graph::fact::{Facts, TensorFact};
use crate::loops::program::{Builder, Kind, Reg, quantised};
use crate::loops::{Affine, Effect, Fold, Nest, Opaque, Outside, Read, Source, Stage, operand};

/// An input and the place of its element; nowhere in particular where one element is for all.
pub(super) type Place = (usize, Vec<Affine>);

/// A sum of products of quantised operands, before it is known what becomes of it.
#[derive(Debug)]
pub(super) struct Sum {
    pub(super) axes: Vec<Dim>,
    /// Axes that are summed over.
    pub(super) over: Vec<usize>,
    pub(super) operands: [Place; 2],
    pub(super) zeros: [Option<Place>; 2],
    /// Whether operand 0 may be left: such products are none.
    pub(super) windows: bool,
    pub(super) store: Vec<Affine>,
}

/// How a sum becomes bytes: the scales of both operands, the inputs of the result's scale and zero point, and a bias.
#[derive(Debug)]
pub(super) struct Requantisation {
    pub(super) scales: [Place; 2],
    pub(super) result: [usize; 2],
    pub(super) bias: Option<Place>,
}

/// The reads of a nest under construction.
struct Reads<'a> {
    inputs: Facts<'a>,
    reads: Vec<Read>,
    types: Vec<DType>,
}

impl Reads<'_> {
    fn of(&mut self, (input, index): &Place, outside: Outside) -> Result<usize, Opaque> {
        let fact = operand(self.inputs, *input)?;
        // One element for all is read at the beginning, however many axes it has.
        let index = match index.as_slice() {
            [] => vec![Affine::constant(0); fact.rank().ok_or(Opaque::Extents)?],
            index => index.to_vec(),
        };
        self.reads.push(Read { operand: *input, index, outside });
        self.types.push(fact.dtype);
        Ok(self.reads.len() - 1)
    }

    fn all(&mut self, places: &[Option<&Place>]) -> Result<Vec<Option<usize>>, Opaque> {
        places.iter().map(|place| place.map(|place| self.of(place, Outside::Never)).transpose()).collect()
    }
}

impl Sum {
    /// The nest of the sum, as 32-bit integers or requantised.
    pub(super) fn nest(
        self,
        inputs: Facts<'_>,
        requantisation: Option<&Requantisation>,
    ) -> Result<Nest, Opaque> {
        let mut reads = Reads { inputs, reads: Vec::new(), types: Vec::new() };
        let outside = if self.windows { Outside::Skipped } else { Outside::Never };
        let x = reads.of(&self.operands[0], outside)?;
        let mut numbers = vec![Some(x)];
        let zeros = [Some(&self.operands[1]), self.zeros[0].as_ref(), self.zeros[1].as_ref()];
        numbers.extend(reads.all(&zeros)?);
        let given: Vec<usize> = numbers.iter().flatten().copied().collect();
        let types: Vec<DType> = given.iter().map(|&read| reads.types[read]).collect();
        let mut p = Builder::new(&types);
        let integer = |p: &mut Builder, number: usize| {
            let at = given.iter().position(|&read| Some(read) == numbers[number])?;
            let stored = p.input(at);
            Some(p.convert(stored, Kind::I32))
        };
        let less = |p: &mut Builder, number: usize, zero: usize| -> Option<Reg> {
            let x = integer(p, number)?;
            Some(integer(p, zero).map_or(x, |zero| p.sub(x, zero)))
        };
        let (x, w) = less(&mut p, 0, 2).zip(less(&mut p, 1, 3)).ok_or(Opaque::Operator)?;
        let product = p.mul(x, w);
        let term = p.finish(&[(product, DType::I32)]).map_err(|_| Opaque::Type)?;
        let summed = Stage {
            over: self.over,
            program: term,
            inputs: given.into_iter().map(Source::Read).collect(),
            effect: Effect::Fold(Fold::Sum),
        };
        let mut sources = vec![Source::Fold(0)];
        let program = match requantisation {
            None => {
                let mut p = Builder::new(&[DType::I32]);
                let sum = p.input(0);
                p.finish(&[(sum, DType::I32)]).map_err(|_| Opaque::Type)?
            }
            Some(Requantisation { scales: [a, b], result: [scale, zero], bias }) => {
                let (scale, zero) = ((*scale, Vec::new()), (*zero, Vec::new()));
                let numbers = reads.all(&[Some(a), Some(b), Some(&scale), Some(&zero), bias.as_ref()])?;
                let numbers: Vec<usize> = numbers.into_iter().flatten().collect();
                let types: Vec<DType> =
                    [DType::I32].into_iter().chain(numbers.iter().map(|&read| reads.types[read])).collect();
                sources.extend(numbers.into_iter().map(Source::Read));
                quantised::requantised(&types, types[4], bias.is_some()).ok_or(Opaque::Type)?
            }
        };
        let stored = Stage { over: Vec::new(), program, inputs: sources, effect: Effect::Store(self.store) };
        Ok(Nest { axes: self.axes, reads: reads.reads, stages: vec![summed, stored], sequential: None })
    }
}

/// Whether a parameter is one element for all.
pub(super) fn is_one(fact: &TensorFact) -> Result<bool, Opaque> {
    let shape = fact.shape.as_deref().ok_or(Opaque::Extents)?;
    Ok(shape.iter().all(|extent| *extent == Dim::Known(1)))
}
