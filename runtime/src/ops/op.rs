//! The operator: one parsed node type with typed attributes, and everything the engine asks of it.

use super::attributes::{Body, NodeSpec};
use super::recurrence::{Activation, Recurrence};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::families::map;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Nest, Opaque, elementwise, layout, reshaped_index};
use crate::precision::Storing;
use crate::reference::{RefInputs, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// One row of the operator table.
pub(crate) struct OpDef {
    /// Name in the specification.
    pub(crate) name: &'static str,
    /// Operator-set domain; empty for the standard one.
    pub(crate) domain: &'static str,
    /// Versions in which the operator changed, oldest supported first.
    pub(crate) since: &'static [i64],
    /// Last version that still has the operator, where it was removed or replaced.
    pub(crate) until: Option<i64>,
    /// Element types of its main input that it runs on.
    pub(crate) dtypes: &'static [DType],
    /// How close its kernels are held to the reference.
    pub(crate) accuracy: Accuracy,
    /// Reads a node's attributes.
    pub(crate) parse: fn(&NodeSpec) -> Result<Arc<dyn Op>, OpError>,
    /// Draws a random valid use of the operator: tests and benches take their shapes from here.
    pub(crate) case: fn(&mut Gen) -> Case,
}

/// An operator's name and domain: of the table, or of what fusion makes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct OpName {
    pub(crate) domain: &'static str,
    pub(crate) name: &'static str,
}

/// An operator over `[images, channels / 16, height, width, 16]` in the place of one over `[images, channels, height,
/// width]`, inputs and output alike.
pub(crate) struct InBlocks {
    pub(crate) op: Arc<dyn Op>,
    pub(crate) name: OpName,
    /// Whether input 0 is read as it is.
    pub(crate) plain: bool,
}

/// How close two implementations of an operator must be.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Accuracy {
    /// Equal bits: data movement, integer arithmetic, comparisons.
    Exact,
    /// Each element is a function of one element of each input: a few ULPs of the output's type, with its
    /// absolute tolerance near zero.
    Elementwise,
    /// Sums of many terms: relative to the size of the summed terms.
    Reduction,
    /// Only dtype and shape: the outputs are random.
    Random,
}

/// Work of one execution.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cost {
    /// Floating-point or integer operations; a multiply–add is two.
    pub flops: f64,
    /// Bytes read and written at least once.
    pub bytes: f64,
}

impl Cost {
    /// One operation per output element, each byte of inputs and outputs once.
    pub(crate) fn of_each_element(inputs: Facts<'_>, outputs: &[Fact]) -> Self {
        let bytes = |f: &Fact| f.tensor().and_then(crate::graph::TensorFact::bytes).unwrap_or(0) as f64;
        let read: f64 = inputs.0.iter().flatten().map(|f| bytes(f)).sum();
        let written: f64 = outputs.iter().map(bytes).sum();
        let flops = outputs.iter().filter_map(|f| f.tensor()?.element_count()).sum::<usize>() as f64;
        Self { flops, bytes: read + written }
    }

    /// The work of `count` executions.
    pub(crate) fn times(self, count: usize) -> Self {
        Self { flops: self.flops * count as f64, bytes: self.bytes * count as f64 }
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

/// What an operator prepared once from its constant inputs (packed weights, compiled bodies), shared by all
/// bindings of a model.
#[derive(Clone)]
pub(crate) struct Packed {
    /// The prepared data, in a type that only the operator knows.
    pub(crate) data: Arc<dyn Any + Send + Sync>,
    /// Constant inputs whose original data is no longer read.
    pub(crate) consumed: Vec<usize>,
}

/// Where [`Op::pack`] gets its inputs from and charges its memory to.
pub(crate) struct PackSite<'a> {
    /// Facts of the inputs; those with constant content can be packed.
    pub(crate) inputs: Facts<'a>,
    /// Budget for what is kept.
    pub(crate) budget: &'a crate::memory::Budget,
    /// Tells that part of a constant's bytes has been read for the last time, so that the pages of a mapped
    /// file can go.
    pub(crate) release: &'a dyn Fn(&[u8]),
    /// Threads that kernels may use.
    pub(crate) threads: usize,
    /// The format that weights are stored in, and what is told of them.
    pub(crate) storing: &'a Storing,
}

/// Elements that an output takes out of input 0: those at `start`, `start + step`, … of one axis, all of the
/// others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Selection {
    pub(crate) axis: usize,
    pub(crate) start: usize,
    pub(crate) step: i64,
    pub(crate) count: usize,
    /// Whether the axis, of extent 1 then, is left out of the output.
    pub(crate) drops_axis: bool,
}

/// The matrix product `alpha · A·B + beta · C` that an operator is, its operands transposed where it says so.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Product {
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) transpose_a: bool,
    pub(crate) transpose_b: bool,
}

/// A change between real numbers and integers by a scale and a zero point, along an axis where there are several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinearQuantisation {
    /// To integers, the quotient in the type of input and scale.
    Quantise {
        /// Axis of the scales.
        axis: i64,
    },
    /// To the type of the scale.
    Dequantise {
        /// Axis of the scales.
        axis: i64,
    },
}

/// How a kernel has the elements of operand 0 made, or why it has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Making {
    /// It reads what lies in memory.
    Nothing,
    /// Rows of the last axis, of a matrix for each point of the axes ahead: again for each block of columns where
    /// rows are few.
    Rows,
    /// Planes of the axes behind the first two, each once.
    Planes,
    /// It reads planes where they lie: made by it they would be written and read just the same.
    InPlace,
    /// It gathers windows that overlap: elements would be made again for each of them.
    Windows,
}

/// How updates, input 2, replace places of input 0 that input 1 names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Replacement {
    /// Whole slices, whose leading coordinates lie along the last axis of input 1.
    Slices,
    /// Single elements, whose coordinates along one axis input 1 holds.
    Elements {
        /// The axis.
        axis: i64,
    },
}

/// One parsed operator: its attributes are typed fields of the implementor.
pub(crate) trait Op: Debug + Send + Sync {
    /// Facts of all outputs from facts of the inputs. Refuses dtypes, ranks and shapes that do not fit. With
    /// inputs whose shapes (and, where it matters, contents) are known, the outputs' shapes are known unless
    /// they depend on data.
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError>;

    /// Work of one execution; by default one operation per output element and each byte once.
    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        Cost::of_each_element(inputs, outputs)
    }

    /// What its one output is, as loops around scalars; by default that of [`Op::alias_of`] and [`Op::scalar`].
    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        if self.alias_of() == Some(0) {
            return layout(inputs, outputs, reshaped_index);
        }
        elementwise(inputs, outputs, &|builder, given| self.scalar(inputs, builder, given))
    }

    /// Output 0 at one place of a loop nest, when it is an expression of the elements that the inputs have there
    /// (after broadcasting), which `operands` hold; absent inputs have none. The caller narrows the result to the
    /// output's element type.
    fn scalar(&self, _inputs: Facts<'_>, _builder: &mut Builder, _operands: &[Option<Reg>]) -> Option<Reg> {
        None
    }

    /// How many leading axes of its output count rows, when its kernel passes finished segments of rows through
    /// [`CpuSite::epilogue`]; the other axes are the columns.
    fn epilogue_rows(&self, _inputs: Facts<'_>) -> Option<usize> {
        None
    }

    /// How many of its first inputs its kernel reads through the strides of [`CpuSite::input_layout`].
    fn strided_operands(&self) -> usize {
        0
    }

    /// How its kernel has operand 0 made by [`CpuSite::prologue`].
    fn making(&self, _inputs: Facts<'_>) -> Making {
        Making::Nothing
    }

    /// Whether its kernel writes its output through the strides of [`CpuSite::written`], the last axis in order, when
    /// [`Op::epilogue_rows`] says that the output has rows.
    fn writes_strided(&self) -> bool {
        false
    }

    /// Facts that hold for the inputs of each body in every iteration, as far as they are known beforehand.
    fn body_inputs(&self, _inputs: Facts<'_>) -> Option<Vec<Vec<Fact>>> {
        None
    }

    /// Work of the bodies of one execution: of `If` the branch that works more, of `Loop` and `Scan` every iteration.
    /// `None` where shapes inside or the number of iterations are not known before it runs.
    fn body_cost(&self, _inputs: Facts<'_>) -> Option<Cost> {
        Some(Cost::default())
    }

    /// Input whose bytes, unchanged and in the same order, are output 0 under another shape. The executor
    /// then gives both one place in memory and never runs a kernel.
    fn alias_of(&self) -> Option<usize> {
        None
    }

    /// Whether inputs of these facts make output 0 what [`Op::alias_of`] tells of all: input 0's bytes in their order.
    fn keeps_order(&self, _inputs: Facts<'_>) -> bool {
        false
    }

    /// Whether output 0 is input 0, bit for bit and in the same shape, and no other output is wanted; such a node
    /// is taken out.
    fn is_identity(&self, _inputs: Facts<'_>, _outputs: &[Fact]) -> bool {
        false
    }

    /// Factor and term of each channel (axis 1), when constants make output 0 `factor[c] · x + term[c]`.
    fn channel_affine(&self, _inputs: Facts<'_>) -> Option<Vec<(f64, f64)>> {
        None
    }

    /// Axis of the weights, input 1, along which the output's channels (its axis 1) lie, when output 0 is linear
    /// in the weights plus the bias of input 2, one element per channel.
    fn weight_channel_axis(&self) -> Option<usize> {
        None
    }

    /// The same operator for its input 1, a matrix whose rows and columns it exchanges, with them exchanged already.
    fn untransposed(&self) -> Option<Arc<dyn Op>> {
        None
    }

    /// The operator that does in one step what `before` and then this one do, when both take one tensor: two
    /// transposes are one.
    fn after(&self, _before: &dyn Op) -> Option<Arc<dyn Op>> {
        None
    }

    /// What output `output` takes out of input 0, where it is nothing but a part of it.
    fn selection(&self, _inputs: Facts<'_>, _outputs: &[Fact], _output: usize) -> Option<Selection> {
        None
    }

    /// The matrix product that output 0 is.
    fn product(&self) -> Option<Product> {
        None
    }

    /// How it quantises input 0 by the scale of input 1 and the zero point of input 2, or back.
    fn linear_quantisation(&self) -> Option<LinearQuantisation> {
        None
    }

    /// The operator, with its name, that does the same with 8-bit integers: of `x`, its scale and zero point, the
    /// weights, theirs, those of the result, and a bias of 32-bit integers.
    fn quantised(&self) -> Option<(Arc<dyn Op>, &'static str)> {
        None
    }

    /// What does the same to channels in blocks, for one that does not merely work element by element.
    fn in_blocks(&self, _inputs: Facts<'_>) -> Option<InBlocks> {
        None
    }

    /// The axis of input 0 of which output 0 takes the slices that input 1 names.
    fn gathered_axis(&self) -> Option<i64> {
        None
    }

    /// The axis along which output 0 is the inputs one behind the other.
    fn joined_axis(&self) -> Option<i64> {
        None
    }

    /// How it writes over places of input 0, where what was there does not matter.
    fn replacement(&self) -> Option<Replacement> {
        None
    }

    /// The activation function of recurrent operators that this one applies to each element of input 0.
    fn activation(&self) -> Option<Activation> {
        None
    }

    /// The attributes of a recurrence over the sequence of input 0.
    fn recurrence(&self) -> Option<&Recurrence> {
        None
    }

    /// The same operator with other attributes, for one that has [`Op::recurrence`].
    fn with_recurrence(&self, _recurrence: Recurrence) -> Option<Arc<dyn Op>> {
        None
    }

    /// Inputs whose content must be known when the kernel is prepared (the target of a Reshape, the bounds of
    /// a Slice). Where it becomes known only during a run, the node is prepared then.
    fn prepared_from(&self) -> &[usize] {
        &[]
    }

    /// Inputs whose content a GPU is bound for, where it is a few numbers among the model's inputs: what outputs and
    /// launches are made from.
    fn bound_from(&self) -> &[usize] {
        self.prepared_from()
    }

    /// Whether equal inputs give equal outputs; what does not is never folded.
    fn is_deterministic(&self) -> bool {
        true
    }

    /// Prepares constant inputs once at load; see [`Packed`].
    fn pack(&self, _site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        Ok(None)
    }

    /// The CPU kernel for inputs and outputs of known shapes (outputs whose shape depends on data excepted).
    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError>;

    /// The GPU's launches for inputs and outputs of known shapes, or why there are none. By default, what its nest is
    /// where that is a map.
    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        if !self.bodies().is_empty() {
            return Err(GpuReject::ControlFlow);
        }
        map::of_nest(site, self.nest(site.inputs, site.outputs))
    }

    /// The specification, executed literally: floats in f64, integers exactly, serially, sharing nothing
    /// with the kernels.
    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError>;

    /// Graphs that the operator executes: the bodies of control flow.
    fn bodies(&self) -> Vec<&Body> {
        Vec::new()
    }

    /// The same operator with other bodies, as many as [`Op::bodies`] gives.
    fn with_bodies(&self, _bodies: Vec<Body>) -> Option<Arc<dyn Op>> {
        None
    }

    /// The operator as its concrete type, for rewrites that look for it.
    fn as_any(&self) -> &dyn Any;
}
