//! Fourier transforms as products by a matrix of cosines and sines, which the host computes in f64 and rounds once. Frames
//! of a signal are rows of a matrix that overlap; a window that is constant is a factor of the matrix.
//!
//! `2·n²` multiplications are more than a fast transform has, but few beside what a GPU multiplies; a matrix of more than
//! [`MOST_BYTES`] is refused.

use super::composition::{Composition, Place};
use super::located::{Located, bytes, nothing};
use super::map;
use super::product::Product;
use crate::cpu::contraction::{BatchAxis, Contraction};
use crate::cpu::moments::load_floats;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::TensorFact;
use crate::graph::fact::{Fact, Facts};
use crate::tensor::Tensor;
use half::{bf16, f16};
use std::f64::consts::TAU;

/// The largest matrix.
const MOST_BYTES: usize = 128 << 20;

/// Lines of numbers of one or two parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transform {
    /// Points of the transform.
    pub(crate) length: usize,
    /// Numbers of a line that count; what is missing is zero.
    pub(crate) taken: usize,
    /// Parts of a number: real and imaginary, or the real one alone.
    pub(crate) parts: usize,
    /// Results of a line.
    pub(crate) results: usize,
    pub(crate) inverse: bool,
    /// A line is one half of a spectrum whose other half mirrors it, and results are real.
    pub(crate) mirrored: bool,
}

impl Transform {
    /// Parts of a result.
    fn made(&self) -> usize {
        if self.mirrored { 1 } else { 2 }
    }

    /// Numbers of a line that the matrix has rows for.
    fn rows(&self) -> usize {
        self.taken.min(if self.mirrored { self.length / 2 + 1 } else { self.length })
    }

    /// The matrix, each number's rows times its element of the window.
    fn matrix(&self, dtype: DType, window: Option<&[f64]>) -> Result<Tensor, GpuReject> {
        let (rows, columns) = (self.rows() * self.parts, self.results * self.made());
        let many = || GpuReject::Form(format!("a Fourier transform of {} points", self.length));
        let count = rows.checked_mul(columns).filter(|&count| count <= MOST_BYTES / 4).ok_or_else(many)?;
        let scale = if self.inverse { 1.0 / self.length as f64 } else { 1.0 };
        let sign = if self.inverse { 1.0 } else { -1.0 };
        let mut all = Vec::with_capacity(count);
        for i in 0..self.rows() {
            let weight = scale * window.map_or(1.0, |window| window[i]);
            let own = i == 0 || 2 * i == self.length;
            for part in 0..self.parts {
                for k in 0..self.results {
                    let turn = (k as u128 * i as u128 % self.length as u128) as f64 / self.length as f64;
                    let (sin, cos) = (sign * TAU * turn).sin_cos();
                    let [real, imaginary] = if part == 0 { [cos, sin] } else { [-sin, cos] };
                    if self.mirrored {
                        // A number and its mirror image have the same real part.
                        let value = if !own {
                            2.0 * real
                        } else if part == 0 {
                            real
                        } else {
                            0.0
                        };
                        all.push(weight * value);
                    } else {
                        all.extend([weight * real, weight * imaginary]);
                    }
                }
            }
        }
        let shape = [rows, columns];
        let tensor = match dtype {
            DType::F16 => Tensor::new(&shape, all.into_iter().map(f16::from_f64).collect()),
            DType::BF16 => Tensor::new(&shape, all.into_iter().map(bf16::from_f64).collect()),
            DType::F64 => Tensor::new(&shape, all),
            _ => Tensor::new(&shape, all.into_iter().map(|v| v as f32).collect()),
        };
        tensor.map_err(|_| many())
    }
}

/// Where the rows of a product's left matrix lie: images of them, rows of each, and elements between neighbours.
struct Rows {
    images: usize,
    rows: usize,
    between_images: usize,
    between_rows: usize,
    /// Elements up to the last one.
    reach: usize,
}

/// Adds the product of the rows at `from` by the transform's matrix, stored at `to`.
fn add_product(
    site: &GpuSite<'_>,
    whole: &mut Composition,
    transform: &Transform,
    (rows, window): (&Rows, Option<&[f64]>),
    [from, to]: [Place; 2],
) -> Result<(), GpuReject> {
    let dtype = site.dtype(0)?;
    let matrix = transform.matrix(dtype, window)?;
    let (k, n) = (transform.rows() * transform.parts, transform.results * transform.made());
    let given = [
        Fact::from(TensorFact::known(dtype, &[rows.reach])),
        Fact::from(TensorFact::constant(matrix.clone())),
    ];
    let made = [Fact::from(TensorFact::known(dtype, &[rows.images, rows.rows, n]))];
    let given: Vec<Option<&Fact>> = given.iter().map(Some).collect();
    let inner = GpuSite {
        inputs: Facts(&given),
        outputs: &made,
        wanted: &[true],
        strided: &[],
        behind: None,
        ..*site
    };
    let axis = BatchAxis { extent: rows.images, a: rows.between_images, b: 0, y: 0 };
    let batch = if rows.images == 1 { Vec::new() } else { vec![axis] };
    let contraction =
        Contraction { batch, m: rows.rows, n, k, a: (rows.between_rows, 1), b: (n, 1), y: n }.row_major();
    let product = Product { contraction, offsets: [0; 2], alpha: 1.0, beta: 1.0, addend: None };
    let kernel = product.kernel(&inner)?.of_this_binding();
    let right = if kernel.leaves_unread(&inner, 1) { Place::Nowhere } else { whole.derived(&matrix) };
    whole.add("transform", kernel, vec![from, right], vec![to])
}

/// The transform of the lines of input 0, which lies as `[outer, extent, inner, parts]`.
pub(crate) fn lines(
    site: &GpuSite<'_>,
    transform: &Transform,
    [outer, extent, inner]: [usize; 3],
) -> Result<GpuKernel, GpuReject> {
    let dtype = site.dtype(0)?;
    let (parts, made, results) = (transform.parts, transform.made(), transform.results);
    if outer == 0 || inner == 0 || results == 0 {
        return Ok(nothing());
    }
    if transform.rows() == 0 {
        return Err(GpuReject::Form("a Fourier transform of no numbers".into()));
    }
    let mut whole = Composition::new("");
    let (mut from, mut to) = (Place::Input(0), Place::Output(0));
    if inner > 1 {
        from = whole.between(bytes(dtype, &[outer, inner, extent, parts])?)?;
        let strides = [extent * inner * parts, parts, inner * parts, 1];
        let turned = map::moved(site, [dtype; 2], &[outer, inner, extent, parts], &strides)?;
        whole.add("turned", turned, vec![Place::Input(0)], vec![from])?;
        to = whole.between(bytes(dtype, &[outer, inner, results, made])?)?;
    }
    let (rows, between_rows) = (outer * inner, extent * parts);
    let all = Rows { images: 1, rows, between_images: 0, between_rows, reach: rows * between_rows };
    add_product(site, &mut whole, transform, (&all, None), [from, to])?;
    if inner > 1 {
        let strides = [inner * results * made, made, results * made, 1];
        let back = map::moved(site, [dtype; 2], &[outer, results, inner, made], &strides)?;
        whole.add("back", back, vec![to], vec![Place::Output(0)])?;
    }
    Ok(whole.finish())
}

/// Frames of signals of `time` numbers each, one every `step`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    pub(crate) batch: usize,
    pub(crate) time: usize,
    pub(crate) step: usize,
    pub(crate) frames: usize,
}

/// The transform of frames of input 0, times the window that is input 2, where there is one.
pub(crate) fn frames(site: &GpuSite<'_>, transform: &Transform, of: Frames) -> Result<GpuKernel, GpuReject> {
    let dtype = site.dtype(0)?;
    let (parts, length, Frames { batch, time, step, frames }) = (transform.parts, transform.length, of);
    if batch == 0 || frames == 0 || transform.results == 0 {
        return Ok(nothing());
    }
    let mut whole = Composition::new("");
    let windowed = site.inputs.has(2);
    let window = site.constant(2).filter(|_| windowed).map(floats).transpose()?;
    let from_data = windowed && window.is_none();
    // Kernels of products read no rows that overlap; nests, which those of f64 are, do.
    let overlaps = frames > 1 && step < transform.rows() && dtype != DType::F64;
    if !from_data && !overlaps {
        let rows = Rows {
            images: batch,
            rows: frames,
            between_images: time * parts,
            between_rows: step * parts,
            reach: batch * time * parts,
        };
        let places = [Place::Input(0), Place::Output(0)];
        add_product(site, &mut whole, transform, (&rows, window.as_deref()), places)?;
        return Ok(whole.finish());
    }
    let product = whole.between(bytes(dtype, &[batch, frames, length, parts])?)?;
    let mut map = Located::behind(whole, site, &[batch, frames, length, parts]);
    let strides = [time * parts, step * parts, parts, 1].map(|stride| stride as u64);
    let x = map.read(Place::Input(0), dtype, strides.to_vec(), 0)?;
    let y = if from_data {
        let weight = map.read(Place::Input(2), dtype, vec![0, 0, 1, 0], 0)?;
        map.builder.mul(x, weight)
    } else {
        x
    };
    let mut whole = map.store("window", y, dtype, product)?;
    let (rows, between_rows) = (batch * frames, length * parts);
    let all = Rows { images: 1, rows, between_images: 0, between_rows, reach: rows * between_rows };
    let places = [product, Place::Output(0)];
    add_product(site, &mut whole, transform, (&all, window.as_deref()), places)?;
    Ok(whole.finish())
}

/// The elements of a constant.
fn floats(tensor: &Tensor) -> Result<Vec<f64>, GpuReject> {
    let mut values = vec![0.0; tensor.len()];
    load_floats(tensor.view(), &mut values).map_err(|_| GpuReject::NoKernel)?;
    Ok(values)
}
