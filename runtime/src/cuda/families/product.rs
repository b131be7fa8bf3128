//! Matrix products: few rows by constant weights as `gemv`, which reads packed weights once; all others as `gemm`, on
//! tensor cores that take them from packed tiles where they are constant. Constant weights are in 16 bits where the session
//! asks for it ([`super::narrow`]).

use super::composition::{Composition, Place};
use super::looped::{self, flat};
use super::narrow::{Rounded, Storage, bytes_as};
use super::tail::{From, Making, Tail};
use super::{element, extent};
use crate::cpu::contraction::{BatchAxis, Contraction};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::{Dim, TensorFact};
use crate::loops::{Fold, Opaque, Outside, Stages};
use crate::precision::{Kept, Precision, StoredWeights};
use crate::tensor::{Shape, Tensor};
use recurve_kernels::element::Element;
use recurve_kernels::gemm::{self, Factors, Matrix, Problem, Variant};
use recurve_kernels::gemv;
use recurve_kernels::launch::{Buffer, Launch, Reject};
use std::sync::Arc;

/// The variant of products whose factors are rounded to tf32.
const TF32: &str = "tf32";

/// What is told of constant weights where they may be multiplied as tf32: that they are, or why not.
fn multiplied(site: &GpuSite<'_>, problem: &Problem, variant: &Variant) -> Option<StoredWeights> {
    let weights = site.constant(1).filter(|w| site.factors() == Factors::Tf32 && w.dtype() == DType::F32)?;
    let bytes = weights.bytes().len();
    let kept = match gemm::by_id(TF32).and_then(|tf32| tf32.accepts(problem, &site.device)) {
        _ if variant.id == TF32 => None,
        Err(Reject::Multiple { .. }) => Some(Kept::Unaligned),
        _ => Some(Kept::NoKernel),
    };
    Some(StoredWeights::unnamed(1, weights.len(), [bytes, bytes], kept))
}

/// `y = α · a·b + β · d`, inputs 0 and 1 and, where there is one, input `addend`, and what the site has behind it.
#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) contraction: Contraction,
    /// The first elements of a and b that are read.
    pub(crate) offsets: [usize; 2],
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    /// The input that is added, and elements between its rows and columns.
    pub(crate) addend: Option<(usize, [u64; 2])>,
}

impl Product {
    /// The product's launches at `site`.
    pub(crate) fn kernel(self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        if site.dtype(0)? == DType::F64 {
            return self.looped(site);
        }
        let element = element(site.dtype(0)?)?;
        let c = &self.contraction;
        if c.m == 0 || c.n == 0 || c.batch.iter().any(|axis| axis.extent == 0) {
            return Ok(GpuKernel::new(|_| Ok(Vec::new())));
        }
        let storage = site.storage(1);
        let packs = c.batch.is_empty() && c.m <= gemv::MOST as usize && c.k > 0;
        if packs && c.a == (c.k, 1) && self.offsets[0] == 0 && site.constant(1).is_some() {
            let storage = match site.precision {
                Precision::Tf32 => Storage::Kept(Kept::FewRows { rows: c.m }),
                _ => storage,
            };
            return self.skinny(site, (element, storage));
        }
        let kept = match storage {
            // What becomes of a product is told with its kernel.
            _ if site.precision == Precision::Tf32 => None,
            Storage::Narrow(element) => match self.narrow(site, element) {
                Ok(kernel) => return Ok(kernel),
                Err(_) => site.kept(1),
            },
            _ => site.kept(1),
        };
        let tail = self.tail(site, false)?;
        Ok(self.general(site, (element, site.constant(1).cloned()), tail, None)?.with_stored(kept))
    }

    /// As a nest, in f64.
    fn looped(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (c, dtype) = (&self.contraction, site.dtype(0)?);
        if site.behind.is_some() {
            return Err(GpuReject::ElementType(dtype));
        }
        let many = || GpuReject::Form("a product of so many elements".into());
        let [rows, columns, depth] = [0, 1, 2].map(|axis| c.batch.len() + axis);
        let along = |of: fn(&BatchAxis) -> usize, more: [(usize, usize); 2], first: usize| {
            let batch = c.batch.iter().enumerate().map(|(axis, batch)| (axis, of(batch)));
            flat(first, &batch.chain(more).collect::<Vec<_>>()).ok_or_else(many)
        };
        let a = along(|axis| axis.a, [(rows, c.a.0), (depth, c.a.1)], self.offsets[0])?;
        let b = along(|axis| axis.b, [(depth, c.b.0), (columns, c.b.1)], self.offsets[1])?;
        let y = along(|axis| axis.y, [(rows, c.y), (columns, 1)], 0)?;
        let addend = self.addend.filter(|_| self.beta != 0.0);
        let inputs = [0, 1].into_iter().chain(addend.map(|(input, _)| input));
        let form = |shape: Shape| {
            let count = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
            count.map(|count| TensorFact::known(dtype, &[count])).ok_or_else(many)
        };
        let operands = inputs.map(|at| form(site.input_shape(at)?)).collect::<Result<Vec<_>, _>>()?;
        let kernel = looped::nest(site, operands, form(site.output_shape(0)?)?, |facts, made| {
            let extents = c.batch.iter().map(|axis| axis.extent).chain([c.m, c.n, c.k]);
            let mut nest = Stages::over(facts, made, extents.map(Dim::Known).collect())?;
            let factors = [nest.read(0, vec![a], Outside::Never)?, nest.read(1, vec![b], Outside::Never)?];
            let sum = nest.fold(Fold::Sum, &[depth], &factors, |p, v| p.mul(v[0], v[1]))?;
            let mut sources = vec![sum];
            if let Some((_, [row, column])) = addend {
                let at = flat(0, &[(rows, row as usize), (columns, column as usize)]);
                sources.push(nest.read(2, vec![at.ok_or(Opaque::Places)?], Outside::Never)?);
            }
            nest.store(vec![y], &[], &sources, |p, v| {
                let alpha = p.constant_as(v[0], self.alpha.into());
                let scaled = p.mul(v[0], alpha);
                let Some(&d) = v.get(1) else { return scaled };
                let beta = p.constant_as(v[0], self.beta.into());
                let d = p.mul(d, beta);
                p.add(scaled, d)
            })
        })?;
        let reads: Vec<usize> = [0, 1].into_iter().chain(addend.map(|(input, _)| input)).collect();
        let mut whole = Composition::new("");
        whole.add(
            "product",
            kernel,
            reads.into_iter().map(Place::Input).collect(),
            vec![Place::Output(0)],
        )?;
        Ok(whole.finish())
    }

    /// As `gemm` of operands in 16 bits.
    fn narrow(&self, site: &GpuSite<'_>, element: Element) -> Result<GpuKernel, GpuReject> {
        let tail = self.tail(site, true)?;
        let weights = site.constant(1).cloned();
        self.general(site, (element, weights), tail, Some(self.reach()?))
    }

    /// One more than the largest offset of an element of a that is read.
    fn reach(&self) -> Result<usize, GpuReject> {
        let c = &self.contraction;
        let axes = [(c.m, c.a.0), (c.k, c.a.1)].into_iter().chain(c.batch.iter().map(|x| (x.extent, x.a)));
        let last = axes.into_iter().try_fold(self.offsets[0], |sum, (extent, step)| {
            sum.checked_add(extent.saturating_sub(1).checked_mul(step)?)
        });
        let reach = last.and_then(|last| last.checked_add(1));
        reach.filter(|_| c.k > 0).ok_or_else(|| GpuReject::Form("a product without terms".into()))
    }

    /// The arithmetic behind the sums; with `wide`, none is a program, too, which stores them in the type of input 0.
    fn tail(&self, site: &GpuSite<'_>, wide: bool) -> Result<Option<Tail>, GpuReject> {
        let mut making = Making::over(site.dtype(0)?, &site.output_shape(0)?);
        if wide {
            making.keep();
        }
        if self.alpha != 1.0 {
            let alpha = making.builder.constant_as(making.y, self.alpha.into());
            let y = making.builder.mul(making.y, alpha);
            making.set(y);
        }
        if let Some((input, step)) = self.addend.filter(|_| self.beta != 0.0) {
            let d = making.read(From::Input(input), site.dtype(input)?, step.to_vec(), 0);
            let y = if self.beta == 1.0 {
                making.builder.add(making.y, d)
            } else {
                let beta = making.builder.constant_as(d, self.beta.into());
                making.builder.mul_add(d, beta, making.y)
            };
            making.set(y);
        }
        making.finish(site)
    }

    /// As `gemv`: W is b, transposed and packed.
    fn skinny(
        self,
        site: &GpuSite<'_>,
        (element, storage): (Element, Storage),
    ) -> Result<GpuKernel, GpuReject> {
        let tail = self.tail(site, false)?;
        let c = &self.contraction;
        let stored = storage.narrow().unwrap_or(element);
        let shape = gemv::Shape {
            batch: extent(c.m)?,
            rows: extent(c.n)?,
            depth: extent(c.k)?,
            weights: stored,
            x: element,
            y: element,
        };
        let variant = gemv::VARIANTS.choose(&shape)?;
        let (row_stride, column_stride) = (c.b.1, c.b.0);
        let weights = site.constant(1).cloned().ok_or(GpuReject::NoKernel)?;
        let device = site.device;
        let data = Tail::data(tail.as_ref());
        let kernel = GpuKernel::new(move |memory| {
            let (x, w, y) = (memory.inputs[0], memory.weights[0], memory.outputs[0]);
            let launch = Tail::with(tail.as_ref(), memory, |program| {
                variant.prepare(&shape, &gemv::Buffers { x, w, y, program }, &device)
            })?;
            Ok(vec![Arc::new(launch)])
        });
        // Packed rows do not depend on the number of vectors.
        let form = format!("gemv {stored:?}");
        let bytes = gemv::packed_bytes(&shape) as usize;
        let note = storage.note(1, &weights, bytes);
        let kernel = kernel.with_weights(form, bytes, move || {
            let mut packed = vec![0; bytes];
            gemv::pack(&shape, &bytes_as(&weights, stored), row_stride, column_stride, &mut packed);
            packed
        });
        Ok(kernel.with_data_of(data).with_stored(note))
    }

    /// As `gemm` of operands of type `element`. Those of the model are of another one where the elements of input 0 up to
    /// `narrow` have to be rounded to it; its weights are constant then.
    fn general(
        &self,
        site: &GpuSite<'_>,
        (element, weights): (Element, Option<Tensor>),
        tail: Option<Tail>,
        narrow: Option<usize>,
    ) -> Result<GpuKernel, GpuReject> {
        let device = site.device;
        let problem = Problem { factors: site.factors(), ..self.problem(element)? };
        let chosen = weights.as_ref().and_then(|_| gemm::choose_packed(&problem, &device));
        let packs = chosen.is_some();
        let (variant, splits) = match chosen {
            Some(chosen) => chosen,
            None => gemm::choose(&problem, &device)?,
        };
        let splits = site.splits(splits);
        let workspace = variant.workspace_bytes(&problem, splits) as usize;
        let [a, b] = self.offsets.map(|offset| offset as u64 * element.bytes());
        let mut data: Vec<Vec<u8>> = Tail::data(tail.as_ref()).into_iter().collect();
        let rounded = match narrow {
            Some(reach) => {
                let (rounded, program) = Rounded::new(site, (reach, element), workspace, data.len())?;
                data.extend(program);
                Some(rounded)
            }
            None => None,
        };
        let whole = rounded.as_ref().map_or(workspace, Rounded::workspace);
        let is_narrow = rounded.is_some();
        let kernel = GpuKernel::new(move |memory| {
            let behind = |buffer: Buffer, offset: u64| Buffer {
                address: buffer.address + offset,
                bytes: buffer.bytes.saturating_sub(offset),
            };
            Tail::with(tail.as_ref(), memory, |program| {
                let mut launches = Vec::new();
                let mut from = memory.inputs[0];
                if let Some(rounded) = &rounded {
                    launches = rounded.launches(memory)?;
                    from = rounded.place(memory);
                }
                let operands = gemm::Operands {
                    a: behind(from, a),
                    b: match memory.weights.first() {
                        Some(weights) if packs => *weights,
                        Some(weights) => behind(*weights, b),
                        None => behind(memory.inputs[1], b),
                    },
                    c: memory.outputs[0],
                    workspace: memory.workspace,
                    program,
                };
                let plan = variant.prepare(&problem, splits, &operands, &device)?;
                launches.push(Arc::new(plan.product) as Arc<dyn Launch>);
                launches.extend(plan.sum.map(|sum| Arc::new(sum) as Arc<dyn Launch>));
                Ok(launches)
            })
        });
        let kernel = kernel.with_workspace(whole).with_resident(Vec::new(), data);
        let kernel = kernel.with_stored(multiplied(site, &problem, variant));
        let Some(weights) = weights.filter(|_| packs || is_narrow) else { return Ok(kernel) };
        let bytes = if packs {
            variant.packed_bytes(&problem) as usize
        } else {
            weights.len() * element.bytes() as usize
        };
        let note = if is_narrow { Storage::Narrow(element).note(1, &weights, bytes) } else { None };
        let kernel = kernel.with_stored(note);
        if !packs {
            return Ok(
                kernel.with_weights(format!("{element:?}"), bytes, move || bytes_as(&weights, element))
            );
        }
        let strides = self.contraction.b;
        // Packed tiles do not depend on the number of rows.
        Ok(kernel.with_weights(format!("{} {b}", variant.id), bytes, move || {
            let mut packed = vec![0; bytes];
            let all = bytes_as(&weights, element);
            gemm::warpgroup::pack(&problem, &all[b as usize..], [strides.0, strides.1], &mut packed);
            packed
        }))
    }

    fn problem(&self, element: Element) -> Result<Problem, GpuReject> {
        let c = &self.contraction;
        let [outer, inner] = match c.batch.as_slice() {
            [] => [None, None],
            [one] => [None, Some(one)],
            [outer, inner] => [Some(outer), Some(inner)],
            more => return Err(GpuReject::Form(format!("a product over {} batch axes", more.len()))),
        };
        let count = |axis: Option<&BatchAxis>| axis.map_or(Ok(1), |a| extent(a.extent));
        let matrix = |(row, column): (usize, usize), [rows, columns]: [usize; 2], a: bool| {
            let stride = |axis: Option<&BatchAxis>| axis.map_or(0, |x| if a { x.a } else { x.b } as u64);
            // One of the two steps must be from an element to its neighbour; along one element there is no step.
            let (transposed, between) = if column == 1 || columns == 1 {
                (false, row)
            } else if row == 1 || rows == 1 {
                (true, column)
            } else {
                return Err(GpuReject::Form("a matrix whose rows and columns are both strided".into()));
            };
            Ok(Matrix { transposed, row: between as u64, batch: [stride(outer), stride(inner)] })
        };
        let (m, n, k) = (extent(c.m)?, extent(c.n)?, extent(c.k)?);
        Ok(Problem {
            element,
            factors: Factors::Own,
            m,
            n,
            k,
            batches: [count(outer)?, count(inner)?],
            a: matrix(c.a, [c.m, c.k], true)?,
            b: matrix(c.b, [c.k, c.n], false)?,
        })
    }
}
