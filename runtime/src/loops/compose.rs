//! Nests into one: a map into a map, a map into the prologue of a fold, a fold into the maps behind it.
//!
//! The value of a map at a point is its program on what it reads there. Where another nest reads that value, the
//! program can stand in the place of the read, with the reads composed: `y[i] = f(x[g(i)])` and `z[j] = h(y[k(j)])`
//! give `z[j] = h(f(x[g(k(j))]))`. It holds for all maps, whatever the indices, as long as no read leaves its operand.
//! Between the two the value is narrowed to the type that it was stored as, so that 16-bit floats round and narrow
//! integers wrap as before.
//!
//! A nest of folds and a store is read likewise: its folds become stages of the composed nest, its store's program
//! stands in the place of the read. A fold is carried out once for every point of the outer axes. That holds where
//! - the axes that it runs over are, one for one, the composed nest's row axes, with the same extents, and
//! - the point at which it is read depends on the outer axes alone.
//!
//! A nest may write an axis of its output by several of its own, such as channels by groups and the channels of each.
//! Where the composed nest has those axes, too, the point at which such a value is read tells them apart again: they
//! are the quotient and the remainder of the index, where it has a remainder.
//!
//! A reduction followed by maps of its result, maps before a reduction, and normalisations spelled out in several
//! reductions of one row all become one nest this way.

use super::affine::Affine;
use super::nest::{Effect, Nest, Outside, Read, Source, Stage};
use super::program::{Builder, Reg};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use std::collections::HashMap;
use std::ops::Range;

/// One of the nests to be composed; values are numbered by the caller.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// A map, or folds with a store of one value.
    pub(crate) nest: Nest,
    /// The value that each operand of the nest is.
    pub(crate) inputs: Vec<usize>,
    /// The value that each output is.
    pub(crate) outputs: Vec<usize>,
}

/// A value that no member makes, as the composed nest's operand.
pub(crate) type Operands = Vec<usize>;

/// The axes of the composed nest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Space {
    /// Those of the outputs, and behind them those of rows where outputs have one element per row.
    pub(crate) axes: Vec<Dim>,
    /// Which of them are those of rows, which folds run over: some of the outputs', or all behind them.
    pub(crate) row: Range<usize>,
    /// How many of the first axes the outputs run over.
    pub(crate) stored: usize,
    /// Where an element of the outputs lies: one index for each axis of theirs.
    pub(crate) index: Vec<Affine>,
}

impl Space {
    /// A space without rows.
    pub(crate) fn of_maps(axes: &[Dim]) -> Self {
        Self::of_outputs(axes.to_vec(), 0..0, axes.len())
    }

    /// A space whose first `stored` axes are those of the outputs.
    pub(super) fn of_outputs(axes: Vec<Dim>, row: Range<usize>, stored: usize) -> Self {
        Self { axes, row, stored, index: (0..stored).map(Affine::axis).collect() }
    }
}

/// The nest that computes `outputs`, values of one shape each made by a member, and the values that its operands are.
/// `dtype` tells the element type of a value that no member makes.
pub(crate) fn compose(
    space: &Space,
    outputs: &[(usize, DType)],
    members: &[Member],
    dtype: impl Fn(usize) -> DType,
) -> Result<(Nest, Operands), OpError> {
    let mut composer = Composer {
        members,
        space,
        maker: HashMap::new(),
        dtype: &dtype,
        folds: HashMap::new(),
        nest: Nest { axes: space.axes.clone(), reads: Vec::new(), stages: Vec::new(), sequential: None },
        operands: Vec::new(),
    };
    for (m, member) in members.iter().enumerate() {
        for (k, value) in member.outputs.iter().enumerate() {
            composer.maker.insert(*value, (m, k));
        }
    }
    let mut body = Body::default();
    let mut stored = Vec::with_capacity(outputs.len());
    for &(value, dtype) in outputs {
        stored.push((composer.value(&mut body, value, &space.index)?, dtype));
    }
    let program = body.builder.finish(&stored)?;
    let over = space.row.clone().filter(|axis| *axis < space.stored).collect();
    let Composer { mut nest, operands, .. } = composer;
    let effect = Effect::Store(space.index.clone());
    nest.stages.push(Stage { over, program, inputs: body.inputs, effect });
    Ok((nest, operands))
}

struct Composer<'a> {
    members: &'a [Member],
    space: &'a Space,
    /// The member, and which of its outputs, that makes a value.
    maker: HashMap<usize, (usize, usize)>,
    dtype: &'a dyn Fn(usize) -> DType,
    /// The composed nest's stage that a member's fold at some point of its outer axes has become.
    folds: HashMap<(usize, usize, Vec<Affine>), usize>,
    nest: Nest,
    operands: Operands,
}

/// A stage under construction.
struct Body {
    builder: Builder,
    inputs: Vec<Source>,
    given: HashMap<Source, Reg>,
    made: HashMap<(usize, Vec<Affine>), Reg>,
}

impl Default for Body {
    fn default() -> Self {
        Self { builder: Builder::new(&[]), inputs: Vec::new(), given: HashMap::new(), made: HashMap::new() }
    }
}

impl Body {
    fn input(&mut self, source: Source, dtype: DType) -> Reg {
        *self.given.entry(source).or_insert_with(|| {
            self.inputs.push(source);
            self.builder.add_input(dtype)
        })
    }
}

fn misfit(what: &str) -> OpError {
    OpError::internal(format!("nests that do not compose: {what}"))
}

impl Composer<'_> {
    /// The register that holds `value` at `index`.
    fn value(&mut self, body: &mut Body, value: usize, index: &[Affine]) -> Result<Reg, OpError> {
        let key = (value, index.to_vec());
        if let Some(&register) = body.made.get(&key) {
            return Ok(register);
        }
        let register = match self.maker.get(&value).copied() {
            Some((member, output)) => self.of_member(body, member, output, index)?,
            None => {
                let operand = position(&mut self.operands, &value);
                let read = Read { operand, index: index.to_vec(), outside: Outside::Never };
                let read = position(&mut self.nest.reads, &read);
                body.input(Source::Read(read), (self.dtype)(value))
            }
        };
        body.made.insert(key, register);
        Ok(register)
    }

    fn of_member(
        &mut self,
        body: &mut Body,
        member: usize,
        output: usize,
        index: &[Affine],
    ) -> Result<Reg, OpError> {
        let members = self.members;
        let Member { nest, outputs, .. } = &members[member];
        let (store, folds) = nest.stages.split_last().ok_or_else(|| misfit("no stages"))?;
        let Effect::Store(at) = &store.effect else { return Err(misfit("no store")) };
        let mut point: Vec<Option<Affine>> = vec![None; nest.axes.len()];
        for (written, read) in at.iter().zip(index) {
            self.told_apart(nest, written, read, &mut point).ok_or_else(|| misfit("a store out of order"))?;
        }
        let mut of_row = point.clone();
        if !folds.is_empty() {
            let row = self.space.row.clone();
            let mut over: Vec<usize> = folds.iter().flat_map(|f| f.over.iter().copied()).collect();
            over.sort_unstable();
            over.dedup();
            let same = over.len() == row.len()
                && over.iter().zip(row.clone()).all(|(&own, axis)| nest.axes[own] == self.space.axes[axis])
                && folds.iter().all(|f| f.over.len() == over.len());
            if !same {
                return Err(misfit("folds over other axes"));
            }
            for (&own, axis) in over.iter().zip(row.clone()) {
                of_row[own] = Some(Affine::axis(axis));
            }
            let moves = |a: &Affine| a.terms().iter().any(|t| row.contains(&t.0));
            let outer = (0..nest.axes.len()).filter(|a| !over.contains(a));
            if outer.filter_map(|a| of_row[a].as_ref()).any(moves) {
                return Err(misfit("a fold that differs within a row"));
            }
        }
        let made = self.stage(body, member, store, &point, &of_row)?;
        for (k, (&value, &register)) in outputs.iter().zip(&made).enumerate() {
            let register = body.builder.narrow(register, store.program.outputs()[k].dtype);
            body.made.insert((value, index.to_vec()), register);
        }
        let key = (outputs[output], index.to_vec());
        body.made.get(&key).copied().ok_or_else(|| OpError::internal("no such output"))
    }

    /// The axes of `nest` at which it writes `written`, where that is read at `read`: as digits of it, the first axis the
    /// highest.
    fn told_apart(
        &self,
        nest: &Nest,
        written: &Affine,
        read: &Affine,
        point: &mut [Option<Affine>],
    ) -> Option<()> {
        let (&(last, unit), higher) = match written.terms() {
            [] => return Some(()),
            terms => terms.split_last()?,
        };
        let mut rest = read.clone();
        for (at, &(axis, place)) in higher.iter().enumerate() {
            let (below, digit) = written.terms()[at + 1];
            let whole = i64::try_from(nest.axes[below].known()?).ok()?.checked_mul(digit)? == place;
            let (quotient, remainder) = rest.divided(place, |axis| self.space.axes[axis].known())?;
            point[axis] = Some(quotient).filter(|_| whole);
            rest = remainder;
        }
        point[last] = Some(rest);
        (unit == 1 && written.offset() == 0 && higher.iter().all(|t| point[t.0].is_some())).then_some(())
    }

    /// What `stage` of a member makes in `body` where the member's axes are `point`, and `of_row` in its folds.
    fn stage(
        &mut self,
        body: &mut Body,
        member: usize,
        stage: &Stage,
        point: &[Option<Affine>],
        of_row: &[Option<Affine>],
    ) -> Result<Vec<Reg>, OpError> {
        let members = self.members;
        let Member { nest, inputs, .. } = &members[member];
        let mut given = Vec::with_capacity(stage.inputs.len());
        for source in &stage.inputs {
            given.push(match *source {
                Source::Read(at) => {
                    let read = &nest.reads[at];
                    if read.outside != Outside::Never {
                        return Err(misfit("a read with a border"));
                    }
                    let composed: Option<Vec<Affine>> = read.index.iter().map(|a| a.compose(point)).collect();
                    let composed = composed.ok_or_else(|| misfit("an index"))?;
                    self.value(body, inputs[read.operand], &composed)?
                }
                Source::Fold(at) => {
                    let dtype = nest.stages[at].program.outputs()[0].dtype;
                    let fold = self.fold(member, at, of_row)?;
                    body.input(Source::Fold(fold), dtype)
                }
            });
        }
        Ok(body.builder.inline(&stage.program, &given))
    }

    /// The composed nest's stage that is fold `at` of `member`.
    fn fold(&mut self, member: usize, at: usize, point: &[Option<Affine>]) -> Result<usize, OpError> {
        let key: Option<Vec<Affine>> = point.iter().cloned().collect();
        let key = (member, at, key.ok_or_else(|| misfit("an axis without a place"))?);
        if let Some(&fold) = self.folds.get(&key) {
            return Ok(fold);
        }
        let stage = &self.members[member].nest.stages[at];
        let mut body = Body::default();
        let made = self.stage(&mut body, member, stage, point, point)?;
        let output = stage.program.outputs()[0];
        let program = body.builder.finish(&[(made[0], output.dtype)])?;
        let over = self.space.row.clone().collect();
        self.nest.stages.push(Stage { over, program, inputs: body.inputs, effect: stage.effect.clone() });
        self.folds.insert(key, self.nest.stages.len() - 1);
        Ok(self.nest.stages.len() - 1)
    }
}

/// The place of `item` in `list`, where it is put if it is not there.
fn position<T: PartialEq + Clone>(list: &mut Vec<T>, item: &T) -> usize {
    list.iter().position(|i| i == item).unwrap_or_else(|| {
        list.push(item.clone());
        list.len() - 1
    })
}
