//! Vectors turned in pairs of elements by the angles of their positions: a map that reads both elements of a pair, behind a
//! gather of the angles where positions name them.

use super::composition::{Composition, Place};
use super::copy::{self, Columns};
use super::located::{Located, bytes, dense, nothing};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::tensor::Tensor;

/// What is turned: inputs are the vectors, cosines, sines and, where there are any, the positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotary {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) length: usize,
    /// Elements of a vector, and how many of them are turned.
    pub(crate) width: usize,
    pub(crate) turned: usize,
    /// Whether neighbours are a pair, not elements of both halves.
    pub(crate) interleaved: bool,
    /// Whether heads lie side by side for each token.
    pub(crate) packed: bool,
}

impl Rotary {
    /// The launches.
    pub(crate) fn kernel(self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let Self { batch, heads, length, width, turned, interleaved, packed } = self;
        let (dtype, half, vectors) = (site.dtype(0)?, turned / 2, batch * heads * length);
        if vectors == 0 || half == 0 {
            return Ok(nothing());
        }
        let mut whole = Composition::new("");
        let mut angles = [Place::Input(1), Place::Input(2)];
        if site.inputs.has(3) {
            let (cache, tokens) = (site.input_shape(1)?, batch * length);
            for (name, from) in ["cosines", "sines"].into_iter().zip(&mut angles) {
                let to = whole.between(bytes(dtype, &[tokens, half])?)?;
                let rows = copy::rows(site, [dtype, DType::I64], (&cache, 0), &[tokens])?;
                whole.add(name, rows, vec![*from, Place::Input(3)], vec![to])?;
                *from = to;
            }
        }
        let outer = if packed { [batch, length, heads] } else { [batch, heads, length] };
        let mut of_vector = dense(&[&outer[..], &[width]].concat());
        of_vector.truncate(3);
        let mut of_token = vec![(length * half) as u64, half as u64, 0];
        if !packed {
            of_token.swap(1, 2);
        }
        // Which of a pair an element is, and which pair it is of.
        let (pair, step, inner) = if interleaved { (4, 1, [half, 2]) } else { (3, half as u64, [2, half]) };
        let between = if interleaved { 2 } else { 1 };
        let along = |outer: &[u64], of_pair: u64| {
            let inner = if interleaved { [of_pair, 0] } else { [0, of_pair] };
            [outer, &inner].concat()
        };
        let mut map = Located::behind(whole, site, &[&outer[..], &inner].concat());
        let a = map.read(Place::Input(0), dtype, along(&of_vector, between), 0)?;
        let b = map.read(Place::Input(0), dtype, along(&of_vector, between), step)?;
        let cos = map.read(angles[0], dtype, along(&of_token, 1), 0)?;
        let sin = map.read(angles[1], dtype, along(&of_token, 1), 0)?;
        let table = Tensor::new(&[2], vec![0f32, 1.0]).map_err(|_| GpuReject::NoKernel)?;
        let is_second = map.table(&table, pair)?;
        let p = &mut map.builder;
        let (own, other) = (p.mul(cos, a), p.mul(sin, b));
        let first = p.sub(own, other);
        let (own, other) = (p.mul(cos, b), p.mul(sin, a));
        let second = p.add(other, own);
        let zero = p.constant_as(is_second, 0.0);
        let is_first = p.eq(is_second, zero);
        let y = p.select(is_first, first, second);
        if turned == width {
            return Ok(map.store("turned", y, dtype, Place::Output(0))?.finish());
        }
        let part = map.whole.between(bytes(dtype, &[vectors, turned])?)?;
        let mut whole = map.store("turned", y, dtype, part)?;
        let rest = (turned, width);
        let parts = [
            Columns { input: 0, from: (0, turned), to: (0, width), count: turned },
            Columns { input: 1, from: rest, to: rest, count: width - turned },
        ];
        let joined = copy::columns(site, dtype, vectors, &parts)?;
        whole.add("whole", joined, vec![part, Place::Input(0)], vec![Place::Output(0)])?;
        Ok(whole.finish())
    }
}
