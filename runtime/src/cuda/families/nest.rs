//! Nests that fold, or read beyond an operand's edge: interpreted by the `nest` family where no other one computes them.

use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::TensorFact;
use crate::graph::fact::Fact;
use crate::loops::program::Kind;
use crate::loops::{self, Nest, Opaque};
use recurve_kernels::launch::{Buffer, Reject};
use recurve_kernels::map::Source;
use recurve_kernels::nest::{self, Affine, Code, Effect, Fold, From, Outside, Read, Stage, Target};
use std::sync::Arc;

/// The launch of `nest`; `operand` gives shape and position among the node's inputs of what a read's operand is. (Not
/// generic: it would be compiled once per operator.)
pub(crate) fn kernel(
    site: &GpuSite<'_>,
    nest: &Nest,
    operand: &dyn Fn(usize) -> Result<(Vec<usize>, usize), OpError>,
) -> Result<GpuKernel, GpuReject> {
    if nest.sequential.is_some() {
        return Err(GpuReject::NoKernel);
    }
    let extents = nest.axes.iter().map(|d| d.known().map(|n| n as u64)).collect::<Option<Vec<u64>>>();
    let extents = extents.ok_or(GpuReject::DataDependent)?;
    let mut types: Vec<Option<DType>> = vec![None; nest.reads.len()];
    for stage in &nest.stages {
        for (source, &dtype) in stage.inputs.iter().zip(stage.program.inputs()) {
            if let loops::Source::Read(read) = source {
                types[*read] = Some(dtype);
            }
        }
    }
    let mut reads = Vec::with_capacity(nest.reads.len());
    let mut inputs: Vec<usize> = Vec::new();
    for (read, dtype) in nest.reads.iter().zip(types) {
        let against = |_| GpuReject::Form("an operand that is read against its order".into());
        let (shape, input) = operand(read.operand).map_err(against)?;
        let number = inputs.iter().position(|&known| known == input).unwrap_or_else(|| {
            inputs.push(input);
            inputs.len() - 1
        });
        // What no stage reads may have any type.
        let dtype = dtype.map_or_else(|| site.dtype(input), Ok)?;
        let outside = match read.outside {
            loops::Outside::Never => Outside::Never,
            loops::Outside::Value(value) => Outside::Value(value),
            loops::Outside::Skipped => Outside::Skipped,
        };
        let shape = shape.iter().map(|&extent| extent as u64).collect();
        let index = read.index.iter().map(affine).collect();
        reads.push(Read { input: number, dtype, shape, index, outside });
    }
    let outputs: Vec<Vec<(usize, DType)>> = nest
        .stages
        .iter()
        .map(|stage| stage.program.outputs().iter().map(|o| (o.register, o.dtype)).collect())
        .collect();
    let mut stages: Vec<Stage<'_>> = Vec::with_capacity(nest.stages.len());
    for (stage, outputs) in nest.stages.iter().zip(&outputs) {
        let (instructions, constants) = (stage.program.instructions(), stage.program.constants());
        stages.push(Stage {
            over: stage.over.clone(),
            program: Source { instructions, constants, outputs },
            inputs: stage.inputs.iter().map(source).collect(),
            effect: effect(&stage.effect)?,
        });
    }
    let stored =
        nest.stages.iter().zip(&outputs).filter(|(s, _)| matches!(s.effect, loops::Effect::Store(_)));
    let (Some((_, stored)), None) = (stored.clone().next(), stored.clone().nth(1)) else {
        return Err(GpuReject::NoKernel);
    };
    let target = |(at, &(_, dtype)): (usize, &(usize, DType))| {
        let tensor = site.outputs.get(at).and_then(Fact::tensor);
        let shape = tensor.and_then(TensorFact::known_shape).ok_or(GpuReject::DataDependent)?;
        Ok(Target { dtype, shape: shape.iter().map(|&extent| extent as u64).collect() })
    };
    let targets = stored.iter().enumerate().map(target).collect::<Result<Vec<_>, GpuReject>>()?;
    if site.wanted.iter().skip(targets.len()).any(|&wanted| wanted) {
        return Err(GpuReject::Form("an output beside those of its nest".into()));
    }
    let code =
        Code::new(&nest::Nest { extents: &extents, reads: &reads, stages: &stages, outputs: &targets })?;
    if code.is_empty() {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let (variant, device) = (nest::VARIANTS.choose(&code)?, site.device);
    let bytes = code.bytes();
    let kernel = GpuKernel::new(move |memory| {
        let given: Vec<Buffer> = inputs.iter().map(|&input| memory.inputs[input]).collect();
        let code_memory = *memory.data.first().ok_or(Reject::Absent { operand: "code" })?;
        let buffers = nest::Buffers { code: code_memory, inputs: &given, outputs: memory.outputs };
        Ok(vec![Arc::new(variant.prepare(&code, &buffers, &device)?)])
    });
    Ok(kernel.with_data(bytes))
}

/// The launch of an operator by its nest.
pub(super) fn of_nest(site: &GpuSite<'_>, nest: Result<Nest, Opaque>) -> Result<GpuKernel, GpuReject> {
    let nest = nest.map_err(|why| match why {
        // Shapes are known here: it is another form than that of a nest.
        Opaque::Type => foreign(site),
        _ => GpuReject::NoKernel,
    })?;
    kernel(site, &nest, &|input| super::map::operand(site, input))
}

/// The element type that programs do not hold, or not for this operator.
fn foreign(site: &GpuSite<'_>) -> GpuReject {
    let facts = site.inputs.0.iter().copied().flatten().chain(site.outputs);
    let mut types = facts.filter_map(|fact| Some(fact.tensor()?.dtype));
    let none = types.clone().find(|&dtype| Kind::of(dtype).is_none());
    none.or_else(|| types.next()).map_or(GpuReject::NoKernel, GpuReject::ElementType)
}

fn affine(from: &loops::Affine) -> Affine {
    Affine { offset: from.offset(), terms: from.terms().to_vec() }
}

fn source(from: &loops::Source) -> From {
    match *from {
        loops::Source::Read(read) => From::Read(read),
        loops::Source::Fold(fold) => From::Fold(fold),
    }
}

fn effect(from: &loops::Effect) -> Result<Effect, GpuReject> {
    Ok(match from {
        // Of a loop over steps, which is no nest of these kernels.
        loops::Effect::Carry(..) => return Err(GpuReject::NoKernel),
        loops::Effect::Store(index) => Effect::Store(index.iter().map(affine).collect()),
        loops::Effect::Fold(loops::Fold::Sum) => Effect::Fold(Fold::Sum),
        loops::Effect::Fold(loops::Fold::Product) => Effect::Fold(Fold::Product),
        loops::Effect::Fold(loops::Fold::Max) => Effect::Fold(Fold::Max),
        loops::Effect::Fold(loops::Fold::Min) => Effect::Fold(Fold::Min),
    })
}
