//! Programs over rows: normalisations and reductions along trailing axes, one nest per row.
//!
//! A row program is a list of stages, each a [`Program`] over the elements of a row. The inputs of a stage's program
//! are the nest's inputs, then the rows that earlier stages kept, then the scalars that earlier stages made. Its
//! outputs are first expressions that are only reduced; then rows that it keeps for later stages; then elements of the
//! nest's outputs. Any of them, and any input, can be reduced to a scalar. A stage of [`Extent::Once`] computes scalars from scalars, one element per
//! row. Softmax is a maximum, a sum of exponentials that are kept, a reciprocal, and a product.
//!
//! Variances are taken of differences from a mean that an earlier stage made, so that nothing cancels. Sums are added
//! in f32 or f64 within a tile, in a fixed order, and in f64 between tiles.

use super::program::{Kind, Program};
use crate::dtype::DType;
use crate::error::OpError;

/// How elements become a scalar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "reductions that are no normalisations take the others")]
pub(crate) enum Combine {
    /// 0 of nothing.
    Sum,
    /// NaN where any element is, −∞ of nothing.
    Max,
    /// The same where no element is NaN, and any value where one is.
    Largest,
    /// NaN where any element is, ∞ of nothing.
    Min,
    /// 1 of nothing.
    Prod,
}

/// What is reduced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// An output of the stage's program, of type `f32` or `f64`.
    Output(usize),
    /// An input of the nest, of type `f32` or `f64`, with an element for each of the row's.
    Input(usize),
}

/// How often a stage's program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "statistics that are outputs are stored once")]
pub(crate) enum Extent {
    /// For every element of the row.
    Row,
    /// Once per row; its first outputs are scalars.
    Once {
        /// How many of its outputs are scalars for later stages; the others are stored.
        scalars: usize,
    },
}

/// One pass over a row.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// What is computed.
    pub(crate) program: Program,
    /// How often.
    pub(crate) extent: Extent,
    /// The scalars that it makes.
    pub(crate) reduced: Vec<(Combine, Source)>,
    /// How many of its first outputs are only reduced.
    pub(crate) passing: usize,
    /// How many of the next outputs are kept.
    pub(crate) kept: usize,
    /// The nest's outputs that the others are.
    pub(crate) stored: Vec<usize>,
}

/// Whether an output of the nest has an element for each of the row's, or one per row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RowOutput {
    /// Element type.
    pub(crate) dtype: DType,
    /// One per row.
    pub(crate) single: bool,
}

/// A validated row program.
#[derive(Clone, Debug)]
pub(crate) struct RowProgram {
    pub(crate) inputs: Vec<DType>,
    pub(crate) outputs: Vec<RowOutput>,
    pub(crate) stages: Vec<Stage>,
}

impl RowProgram {
    /// A row program, if its stages fit each other.
    pub(crate) fn new(
        inputs: Vec<DType>,
        outputs: Vec<RowOutput>,
        stages: Vec<Stage>,
    ) -> Result<Self, OpError> {
        let (mut kept, mut scalars) = (Vec::new(), Vec::new());
        for (i, stage) in stages.iter().enumerate() {
            let misfit = || OpError::internal(format!("stage {i} of a row program does not fit"));
            let given: Vec<DType> = inputs.iter().chain(&kept).chain(&scalars).copied().collect();
            let made = stage.program.outputs();
            let lead = match stage.extent {
                Extent::Row => stage.passing + stage.kept,
                Extent::Once { scalars } if stage.reduced.is_empty() && stage.passing + stage.kept == 0 => {
                    scalars
                }
                Extent::Once { .. } => return Err(misfit()),
            };
            if stage.program.inputs() != given || made.len() != lead + stage.stored.len() {
                return Err(misfit());
            }
            let wide =
                |dtype: DType| matches!(Kind::of(dtype), Some(Kind::F32 | Kind::F64)) && dtype.bits() >= 32;
            let ascending = stage.stored.is_sorted_by(|a, b| a < b);
            if !ascending || !made[..lead].iter().all(|o| wide(o.dtype)) {
                return Err(misfit());
            }
            for (output, &target) in made[lead..].iter().zip(&stage.stored) {
                let expected = RowOutput { dtype: output.dtype, single: stage.extent != Extent::Row };
                if outputs.get(target) != Some(&expected) {
                    return Err(misfit());
                }
            }
            if stage.extent != Extent::Row {
                scalars.extend(made[..lead].iter().map(|o| o.dtype));
                continue;
            }
            for (_, source) in &stage.reduced {
                let dtype = match *source {
                    Source::Output(k) => made.get(k).map(|o| o.dtype),
                    Source::Input(k) => inputs.get(k).copied(),
                };
                scalars.push(dtype.filter(|&d| wide(d)).ok_or_else(misfit)?);
            }
            kept.extend(made[stage.passing..lead].iter().map(|o| o.dtype));
        }
        let stores = |k: usize| stages.iter().filter(|s| s.stored.contains(&k)).count();
        if (0..outputs.len()).any(|k| stores(k) != 1) {
            return Err(OpError::internal("an output of a row program is not stored once"));
        }
        Ok(Self { inputs, outputs, stages })
    }
}
