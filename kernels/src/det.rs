//! # Determinants
//! The product of the pivots of an elimination with row exchanges, `matrices` of `n × n`, in f64 whatever the type.
//!
//! A warp takes a matrix: it copies it into its own part of the workspace as f64, finds each pivot by shuffles, exchanges
//! rows and eliminates, its lanes along the rows. Lanes read what others wrote behind `warp::sync` alone. A matrix that has a
//! NaN keeps it: the pivot of a column is its largest by bits without the sign.
//!
//! Grid `min(⌈matrices / 8⌉, 4 per multiprocessor)`, block 256, no shared memory, workspace `8·n²` bytes for each warp.

use crate::device::{Global, thread, warp};
use crate::dtype::DType;
use crate::elements::{self, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject};
use crate::weighed::{Weighed, load_float};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    y: Global<u8>,
    work: Global<f64>,
    matrices: u32,
    n: u32,
    dtype: u32,
    /// Warps of the grid.
    warps: u32,
}

const _: () = assert!(size_of::<Params>() == 40);

/// Lanes of a warp.
const LANES: u32 = 32;

/// The launch for so many matrices.
pub const fn geometry(matrices: u32, multiprocessors: u32) -> Geometry {
    let (blocks, most) = (matrices.div_ceil(THREADS / LANES), 4 * multiprocessors);
    Geometry::linear(if blocks < most { blocks } else { most }, THREADS)
}

/// The row from `column` on whose element there is the largest, the last of equal ones; every lane has it.
#[inline(always)]
fn pivot(a: Global<f64>, n: u32, column: u32, lane: u32) -> u32 {
    let (mut most, mut at) = (0u64, column);
    let mut row = column + lane;
    while row < n {
        let size = a.load((row * n + column) as usize).abs().to_bits();
        if size >= most {
            (most, at) = (size, row);
        }
        row += LANES;
    }
    let mut distance = LANES / 2;
    while distance > 0 {
        let other = warp::shuffle_wide(warp::ALL, warp::Source::Xor, most, distance);
        let there = warp::shuffle_xor(warp::ALL, at, distance);
        if other > most || (other == most && there > at) {
            (most, at) = (other, there);
        }
        distance /= 2;
    }
    at
}

/// Every thread.
#[inline(always)]
fn run(p: Params) {
    let own = thread::index_1d();
    let (lane, warp_number) = (own % LANES, own / LANES);
    let size = p.n * p.n;
    let a = p.work.offset((warp_number * size) as usize);
    let mut matrix = warp_number;
    while matrix < p.matrices {
        let mut at = lane;
        while at < size {
            a.store(at as usize, load_float(p.x, p.dtype, (matrix * size + at) as usize));
            at += LANES;
        }
        warp::sync(warp::ALL);
        let (mut product, mut column) = (1.0, 0);
        while column < p.n {
            let row = pivot(a, p.n, column, lane);
            // Everybody has read.
            warp::sync(warp::ALL);
            if row != column {
                product = -product;
                let mut at = column + lane;
                while at < p.n {
                    let (upper, lower) = ((column * p.n + at) as usize, (row * p.n + at) as usize);
                    let (above, below) = (a.load(upper), a.load(lower));
                    a.store(upper, below);
                    a.store(lower, above);
                    at += LANES;
                }
            }
            warp::sync(warp::ALL);
            let top = a.load((column * p.n + column) as usize);
            product *= top;
            if top == 0.0 {
                break;
            }
            let mut row = column + 1;
            while row < p.n {
                // Nobody writes this column any more.
                let factor = a.load((row * p.n + column) as usize) / top;
                let mut at = column + 1 + lane;
                while at < p.n {
                    let here = (row * p.n + at) as usize;
                    a.store(here, a.load(here) - factor * a.load((column * p.n + at) as usize));
                    at += LANES;
                }
                row += 1;
            }
            warp::sync(warp::ALL);
            column += 1;
        }
        if lane == 0 {
            if p.dtype == DType::F64 as u32 {
                Weighed::store(product, p.y, p.dtype, matrix as usize);
            } else {
                Weighed::store(product as f32, p.y, p.dtype, matrix as usize);
            }
        }
        warp::sync(warp::ALL);
        matrix += p.warps;
    }
}

entry!(
    /// Of every type.
    DET = det(Params): run, THREADS, with_spills(64)
);

/// Matrices as the caller describes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Determinants {
    /// How many.
    pub matrices: u32,
    /// Rows and columns of each.
    pub n: u32,
    /// Type of matrices and determinants.
    pub dtype: DType,
}

impl Determinants {
    /// Whether there is a kernel for it; the elements of X.
    pub fn accepts(&self) -> Result<u64, Reject> {
        if !matches!(self.dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Reject::ElementType { operand: "x" });
        }
        let size = u64::from(self.n) * u64::from(self.n);
        elements::limit("elements of a matrix", size)?;
        // With the warps of the grid added to a matrix's number.
        elements::limit("matrices", u64::from(self.matrices))?;
        let all = size.saturating_mul(self.matrices.into());
        elements::limit("elements", all)?;
        Ok(all)
    }

    fn warps(&self, device: &Device) -> u32 {
        geometry(self.matrices, device.multiprocessors).grid[0] * (THREADS / LANES)
    }

    /// Bytes of the workspace.
    pub fn workspace(&self, device: &Device) -> Result<u64, Reject> {
        let work = u64::from(self.warps(device)) * u64::from(self.n) * u64::from(self.n);
        elements::limit("elements of the workspace", work)?;
        Ok(8 * work)
    }

    /// A launch that has been checked, of matrices, determinants and the workspace; nothing is to be done for no matrices.
    pub fn prepare(
        &self,
        [x, y, work]: [Buffer; 3],
        device: &Device,
    ) -> Result<Option<Prepared<Params>>, Reject> {
        let all = self.accepts()?;
        if self.matrices == 0 {
            return Ok(None);
        }
        let size = self.dtype.bits() as u64 / 8;
        if all > 0 {
            x.holds("x", all * size, size)?;
            work.holds("workspace", self.workspace(device)?, 8)?;
        }
        y.holds("y", u64::from(self.matrices) * size, size)?;
        let params = Params {
            x: Global::from_address(x.address),
            y: Global::from_address(y.address),
            work: Global::from_address(work.address),
            matrices: self.matrices,
            n: self.n,
            dtype: self.dtype as u32,
            warps: self.warps(device),
        };
        Prepared::new(&DET, geometry(self.matrices, device.multiprocessors), params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = Determinants { matrices: 9, n: 3, dtype: DType::F32 };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let work = buffer(shape.workspace(&EMULATED).expect("a size"));
        assert_eq!(work.bytes, 16 * 9 * 8);
        assert!(shape.prepare([buffer(324), buffer(36), work], &EMULATED).is_ok());
        let short = shape.prepare([buffer(324), buffer(36), buffer(8)], &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "workspace", needed: 1152, got: 8 }));
        assert!(Determinants { dtype: DType::I32, ..shape }.accepts().is_err());
        assert!(Determinants { n: 1 << 17, ..shape }.accepts().is_err());
    }
}
