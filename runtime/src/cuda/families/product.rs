//! Matrix products: few rows by constant weights as `gemv`, which reads packed weights once; all others as `gemm`.

use super::{element, extent};
use crate::cpu::contraction::Contraction;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use recurve_kernels::activation::Activation;
use recurve_kernels::element::Element;
use recurve_kernels::gemm::{self, Matrix, Operands, Problem};
use recurve_kernels::gemv;
use recurve_kernels::launch::{Buffer, Launch};
use std::sync::Arc;

/// `y = α · a·b + β · d`, inputs 0 and 1 and, where there is one, input `addend`.
#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) contraction: Contraction,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    /// The input that is added, and elements between its rows and columns.
    pub(crate) addend: Option<(usize, [u64; 2])>,
}

impl Product {
    /// The product's launches at `site`.
    pub(crate) fn kernel(self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let dtype = site.dtype(0)?;
        let element = element(dtype)?;
        if self.addend.is_some() && element != Element::F32 {
            return Err(GpuReject::Form(format!("an addend of {dtype}")));
        }
        let c = &self.contraction;
        if c.batch.is_empty()
            && c.m <= gemv::MOST as usize
            && c.m * c.n * c.k > 0
            && c.a == (c.k, 1)
            && self.alpha == 1.0
            && self.addend.is_none_or(|(_, step)| step == [0, 1] && self.beta == 1.0)
            && site.constant(1).is_some()
        {
            return self.skinny(site, element);
        }
        self.general(site, element)
    }

    /// As `gemv`: W is b, transposed and packed.
    fn skinny(self, site: &GpuSite<'_>, element: Element) -> Result<GpuKernel, GpuReject> {
        let c = &self.contraction;
        let shape = gemv::Shape {
            batch: extent(c.m)?,
            rows: extent(c.n)?,
            depth: extent(c.k)?,
            weights: element,
            x: element,
            y: element,
        };
        let variant = gemv::VARIANTS.choose(&shape)?;
        let (row_stride, column_stride) = (c.b.1, c.b.0);
        let weights = site.constant(1).cloned().ok_or(GpuReject::NoKernel)?;
        let (device, addend) = (site.device, self.addend.map(|(input, _)| input));
        let kernel = GpuKernel::new(move |operands| {
            let buffers = gemv::Buffers {
                x: operands.inputs[0],
                w: operands.weights[0],
                bias: addend.map_or(Buffer::default(), |input| operands.inputs[input]),
                y: operands.outputs[0],
            };
            Ok(vec![Arc::new(variant.prepare(&shape, &buffers, &device)?)])
        });
        // Packed rows do not depend on the number of vectors.
        let form = format!("gemv {element:?}");
        Ok(kernel.with_weights(form, move || {
            let mut packed = vec![0; gemv::packed_bytes(&shape) as usize];
            gemv::pack(&shape, weights.view().bytes(), row_stride, column_stride, &mut packed);
            packed
        }))
    }

    /// As `gemm`.
    fn general(self, site: &GpuSite<'_>, element: Element) -> Result<GpuKernel, GpuReject> {
        let device = site.device;
        let problem = self.problem(element)?;
        if problem.m == 0 || problem.n == 0 || problem.batches.contains(&0) {
            return Ok(GpuKernel::new(|_| Ok(Vec::new())));
        }
        let (variant, splits) = gemm::choose(&problem, &device)?;
        let workspace = variant.workspace_bytes(&problem, splits);
        let addend = self.addend.map(|(input, _)| input);
        let kernel = GpuKernel::new(move |operands| {
            let memory = Operands {
                a: operands.inputs[0],
                b: operands.inputs[1],
                c: operands.outputs[0],
                addend: addend.map_or(Buffer::default(), |input| operands.inputs[input]),
                workspace: operands.workspace,
            };
            let plan = variant.prepare(&problem, splits, &memory, &device)?;
            let mut launches: Vec<Arc<dyn Launch>> = vec![Arc::new(plan.product)];
            launches.extend(plan.sum.map(|sum| Arc::new(sum) as Arc<dyn Launch>));
            Ok(launches)
        });
        Ok(kernel.with_workspace(workspace as usize))
    }

    fn problem(&self, element: Element) -> Result<Problem, GpuReject> {
        let c = &self.contraction;
        let [outer, inner] = match c.batch.as_slice() {
            [] => [None, None],
            [one] => [None, Some(one)],
            [outer, inner] => [Some(outer), Some(inner)],
            more => return Err(GpuReject::Form(format!("a product over {} batch axes", more.len()))),
        };
        let count =
            |axis: Option<&crate::cpu::contraction::BatchAxis>| axis.map_or(Ok(1), |a| extent(a.extent));
        let matrix = |(row, column): (usize, usize), a: bool| {
            let stride = |axis: Option<&crate::cpu::contraction::BatchAxis>| {
                axis.map_or(0, |x| if a { x.a } else { x.b } as u64)
            };
            let transposed = column != 1;
            Matrix {
                transposed,
                row: if transposed { column } else { row } as u64,
                batch: [stride(outer), stride(inner)],
            }
        };
        let (m, n, k) = (extent(c.m)?, extent(c.n)?, extent(c.k)?);
        let mut addend = self.addend.map(|(_, [row, column])| [0, 0, row, column]);
        if self.beta == 0.0 {
            addend = None;
        }
        Ok(Problem {
            element,
            m,
            n,
            k,
            batches: [count(outer)?, count(inner)?],
            a: matrix(c.a, true),
            b: matrix(c.b, false),
            c_row: u64::from(n),
            addend,
            alpha: self.alpha,
            beta: self.beta,
            activation: Activation::IDENTITY,
        })
    }
}
