//! A map into a map: several map nests become one.
//!
//! The value of a map at a point is its program on what it reads there. Where another map reads that value, the
//! program can stand in the place of the read, with the reads composed: `y[i] = f(x[g(i)])` and `z[j] = h(y[k(j)])`
//! give `z[j] = h(f(x[g(k(j))]))`. It holds for all maps, whatever the indices, as long as no read leaves its operand.
//! Between the two the value is narrowed to the type that it was stored as, so that 16-bit floats round and narrow
//! integers wrap as before.

use super::affine::Affine;
use super::nest::{Nest, Outside, Read};
use super::program::{Builder, Reg};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use std::collections::HashMap;

/// One of the nests to be composed; values are numbered by the caller.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// A map.
    pub(crate) nest: Nest,
    /// The value that each operand of the nest is.
    pub(crate) inputs: Vec<usize>,
    /// The value that each output is.
    pub(crate) outputs: Vec<usize>,
}

/// A value that no member makes, as the composed nest's operand.
pub(crate) type Operands = Vec<usize>;

/// The nest that computes `outputs`, values of one shape `axes` each made by a member, and the values that its
/// operands are. `dtype` tells the element type of a value that no member makes.
pub(crate) fn compose(
    axes: &[Dim],
    outputs: &[(usize, DType)],
    members: &[Member],
    dtype: impl Fn(usize) -> DType,
) -> Result<(Nest, Operands), OpError> {
    let mut composer = Composer {
        members,
        maker: HashMap::new(),
        dtype: &dtype,
        builder: Builder::new(&[]),
        made: HashMap::new(),
        reads: Vec::new(),
        operands: Vec::new(),
    };
    for (m, member) in members.iter().enumerate() {
        for (k, value) in member.outputs.iter().enumerate() {
            composer.maker.insert(*value, (m, k));
        }
    }
    let identity: Vec<Affine> = (0..axes.len()).map(Affine::axis).collect();
    let mut stored = Vec::with_capacity(outputs.len());
    for &(value, dtype) in outputs {
        stored.push((composer.value(value, &identity)?, dtype));
    }
    let program = composer.builder.finish(&stored)?;
    Ok((Nest::map(axes.to_vec(), composer.reads, program), composer.operands))
}

struct Composer<'a> {
    members: &'a [Member],
    /// The member, and which of its outputs, that makes a value.
    maker: HashMap<usize, (usize, usize)>,
    dtype: &'a dyn Fn(usize) -> DType,
    builder: Builder,
    made: HashMap<(usize, Vec<Affine>), Reg>,
    reads: Vec<Read>,
    operands: Operands,
}

impl Composer<'_> {
    /// The register that holds `value` at `index`.
    fn value(&mut self, value: usize, index: &[Affine]) -> Result<Reg, OpError> {
        let key = (value, index.to_vec());
        if let Some(&register) = self.made.get(&key) {
            return Ok(register);
        }
        let register = match self.maker.get(&value).copied() {
            Some((member, output)) => self.of_member(member, output, index)?,
            None => {
                let operand = match self.operands.iter().position(|&v| v == value) {
                    Some(at) => at,
                    None => {
                        self.operands.push(value);
                        self.operands.len() - 1
                    }
                };
                self.reads.push(Read { operand, index: index.to_vec(), outside: Outside::Never });
                self.builder.add_input((self.dtype)(value))
            }
        };
        self.made.insert(key, register);
        Ok(register)
    }

    fn of_member(&mut self, member: usize, output: usize, index: &[Affine]) -> Result<Reg, OpError> {
        let members = self.members;
        let Member { nest, inputs, outputs } = &members[member];
        let stage = nest.as_map().ok_or_else(|| OpError::internal("a nest that is no map is composed"))?;
        let mut given = Vec::with_capacity(nest.reads.len());
        for read in &nest.reads {
            if read.outside != Outside::Never {
                return Err(OpError::internal("a read with a border is composed"));
            }
            let composed: Option<Vec<Affine>> = read.index.iter().map(|a| a.compose(index)).collect();
            let composed = composed.ok_or_else(|| OpError::value("an index does not fit 64 bits"))?;
            given.push(self.value(inputs[read.operand], &composed)?);
        }
        let made = self.builder.inline(&stage.program, &given);
        for (k, (&value, &register)) in outputs.iter().zip(&made).enumerate() {
            let register = self.builder.narrow(register, stage.program.outputs()[k].dtype);
            self.made.insert((value, index.to_vec()), register);
        }
        self.made
            .get(&(outputs[output], index.to_vec()))
            .copied()
            .ok_or_else(|| OpError::internal("no such output"))
    }
}
