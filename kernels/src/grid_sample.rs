//! # Sampling at positions
//! `y[n, c, i] = Σ_t w_t(grid[n, i]) · x[n, c, at_t(grid[n, i])]`: an image over up to three axes read at positions between
//! its elements, which the data gives, innermost coordinate first, −1 and 1 being the image's ends. The nearest element, or
//! 2 or 4 neighbours on every axis, weighed linearly or by Keys' cubic with a = −0.75. Outside lie zeros, the border or the
//! image reflected. A position that is no number names the first element.
//!
//! A thread takes a position for eight channels. Positions and weights are f64, so that the nearest element is that of the
//! definition also where two are almost as near; sums are f32, or f64 for f64, of at most 64 terms in a fixed order.
//!
//! Grid `min(⌈n · ⌈channels / 8⌉ · positions / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::math::{divide, floor_f64, fma_f64, round_f64};
use crate::device::{Global, Plain};
use crate::dtype::DType;
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::weighed::{Weighed, load_float};

/// Most axes of an image.
pub const MOST_AXES: usize = 3;
/// Channels that a thread makes at its position.
const CHANNELS: u32 = 8;

/// How neighbours are weighed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Mode {
    /// The nearest one counts.
    Nearest,
    /// Two on each axis.
    Linear,
    /// Four on each axis.
    Cubic,
}

/// What lies outside the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Outside {
    /// Zeros.
    Zeros,
    /// Its outermost elements.
    Border,
    /// Its reflection.
    Reflection,
}

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    grid: Global<u8>,
    y: Global<u8>,
    /// Innermost first; 1 where there is no axis.
    extents: [u32; MOST_AXES],
    axes: u32,
    channels: u32,
    /// Eights of channels.
    groups: u32,
    /// Positions of an image.
    places: u32,
    mode: u32,
    outside: u32,
    align: u32,
    /// Positions of all images, once for each eight channels.
    elements: Elements,
    grid_type: u32,
    /// Type of X and Y, where values are weighed.
    x_type: u32,
}

const _: () = assert!(size_of::<Params>() == 80);

/// An axis of the image: its extent, and what lies within and outside it.
#[derive(Clone, Copy)]
struct Axis {
    extent: f64,
    outside: u32,
    align: bool,
}

/// The first neighbour on an axis, a whole number unless the position is none, and how far behind it the position is.
#[derive(Clone, Copy)]
struct Start {
    first: f64,
    ratio: f64,
}

impl Axis {
    /// Where nothing is held or reflected.
    #[inline(always)]
    fn border(self) -> (f64, f64) {
        if self.align { (0.0, self.extent - 1.0) } else { (-0.5, self.extent - 0.5) }
    }

    #[inline(always)]
    fn held(self, v: f64) -> f64 {
        let v = if v < 0.0 { 0.0 } else { v };
        if v > self.extent - 1.0 { self.extent - 1.0 } else { v }
    }

    /// Reflected at the ends of the border until it lies within.
    #[inline(always)]
    fn reflected(self, v: f64) -> f64 {
        let (low, high) = self.border();
        let (from, length) = (v - low, high - low);
        if length <= 0.0 || !v.is_finite() {
            return if low > 0.0 { low } else { 0.0 };
        }
        let period = 2.0 * length;
        let into = fma_f64(-floor_f64(from / period), period, from);
        // The quotient may have been rounded up to the next whole one.
        let into = if into < 0.0 { into + period } else { into };
        let into = if into >= period { into - period } else { into };
        if into > length { high - (into - length) } else { low + into }
    }

    /// The neighbours of a position.
    #[inline(always)]
    fn start(self, position: f64, mode: u32) -> Start {
        let n = self.extent;
        let mut v =
            if self.align { (position + 1.0) * 0.5 * (n - 1.0) } else { ((position + 1.0) * n - 1.0) / 2.0 };
        if mode == Mode::Nearest as u32 {
            v = round_f64(v);
        }
        let (low, high) = self.border();
        if v < low || v > high {
            if self.outside == Outside::Border as u32 {
                v = self.held(v);
            } else if self.outside == Outside::Reflection as u32 {
                v = self.reflected(v);
            }
        }
        if mode == Mode::Nearest as u32 {
            return Start { first: v, ratio: 0.0 };
        }
        let floor = floor_f64(v);
        let first = if mode == Mode::Cubic as u32 { floor - 1.0 } else { floor };
        Start { first, ratio: v - floor }
    }

    /// The element at whole coordinate `v`, if it is one of the image.
    #[inline(always)]
    fn element(self, v: f64) -> Option<u32> {
        let last = self.extent - 1.0;
        let beyond = v < 0.0 || v > last;
        if self.outside == Outside::Zeros as u32 && beyond {
            return None;
        }
        let v = if self.outside == Outside::Border as u32 {
            self.held(v)
        } else if beyond {
            self.reflected(v)
        } else {
            v
        };
        // What is no number becomes 0.
        let at = if v < last { v } else { last };
        Some(if at >= 0.0 { at as u32 } else { 0 })
    }
}

/// The weight of neighbour `k` of a position `ratio` behind the one that it follows.
#[inline(always)]
fn weight(mode: u32, k: u32, ratio: f64) -> f64 {
    if mode == Mode::Linear as u32 {
        return if k == 0 { 1.0 - ratio } else { ratio };
    }
    if mode == Mode::Nearest as u32 {
        return 1.0;
    }
    const A: f64 = -0.75;
    let d = (f64::from(k) - 1.0 - ratio).abs();
    if d <= 1.0 {
        ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0
    } else {
        ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A
    }
}

impl Params {
    #[inline(always)]
    fn axis(&self, at: usize) -> Axis {
        let (extent, outside) = (self.extents[at].into(), self.outside);
        Axis { extent, outside, align: self.align != 0 }
    }

    /// Where the neighbours of a position begin on axis `at`; on one that is not there, at its only element.
    #[inline(always)]
    fn start(&self, at: usize, position: u64) -> Start {
        if at as u32 >= self.axes {
            return Start { first: 0.0, ratio: 0.0 };
        }
        let index = position * u64::from(self.axes) + at as u64;
        self.axis(at).start(load_float(self.grid, self.grid_type, index as usize), self.mode)
    }

    /// Neighbours on axis `at`.
    #[inline(always)]
    fn neighbours(&self, at: usize) -> u32 {
        let there = (at as u32) < self.axes;
        if !there || self.mode == Mode::Nearest as u32 {
            1
        } else if self.mode == Mode::Linear as u32 {
            2
        } else {
            4
        }
    }

    /// The image and position of element `number`, its first channel, and the one behind its last.
    #[inline(always)]
    fn find(&self, number: u32) -> (u32, u32, u32, u32) {
        let (rest, place) = divide(number, self.places);
        let (n, group) = divide(rest, self.groups);
        let first = group * CHANNELS;
        let left = self.channels - first;
        (n, place, first, first + if left < CHANNELS { left } else { CHANNELS })
    }

    /// Elements of a channel.
    #[inline(always)]
    fn plane(&self) -> u32 {
        self.extents[0] * self.extents[1] * self.extents[2]
    }

    #[inline(always)]
    fn position(&self, n: u32, place: u32) -> u64 {
        u64::from(n) * u64::from(self.places) + u64::from(place)
    }
}

/// Every thread: the nearest elements.
#[inline(always)]
fn nearest<T: Plain>(p: Params) {
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    p.elements.each(|number| {
        let (n, place, first, end) = p.find(number);
        let position = p.position(n, place);
        let (mut at, mut inside) = (0, true);
        for axis in (0..MOST_AXES).rev() {
            if (axis as u32) < p.axes {
                let start = p.start(axis, position);
                match p.axis(axis).element(start.first) {
                    Some(element) => at = at * p.extents[axis] + element,
                    None => inside = false,
                }
            }
        }
        let mut channel = n * p.channels + first;
        while channel < n * p.channels + end {
            let value = if inside { x.load((channel * p.plane() + at) as usize) } else { T::from_bits(0) };
            y.store((channel * p.places + place) as usize, value);
            channel += 1;
        }
    });
}

/// Every thread: sums of weighed neighbours.
#[inline(always)]
fn weighed<S: Weighed>(p: Params) {
    p.elements.each(|number| {
        let (n, place, first, end) = p.find(number);
        let position = p.position(n, place);
        let starts = [p.start(0, position), p.start(1, position), p.start(2, position)];
        let from = n * p.channels + first;
        let mut sums = [S::zero(); CHANNELS as usize];
        let taps = [p.neighbours(0), p.neighbours(1), p.neighbours(2)];
        let mut tap = 0;
        while tap < taps[0] * taps[1] * taps[2] {
            let (rest, first_axis) = divide(tap, taps[0]);
            let (last_axis, second_axis) = divide(rest, taps[1]);
            let neighbours = [first_axis, second_axis, last_axis];
            let (mut at, mut of_all, mut inside) = (0, 1.0, true);
            for axis in (0..MOST_AXES).rev() {
                if (axis as u32) < p.axes {
                    let Start { first, ratio } = starts[axis];
                    match p.axis(axis).element(first + f64::from(neighbours[axis])) {
                        Some(element) => at = at * p.extents[axis] + element,
                        None => inside = false,
                    }
                    of_all *= weight(p.mode, neighbours[axis], ratio);
                }
            }
            if inside {
                for c in 0..CHANNELS {
                    if first + c < end {
                        let index = (from + c) * p.plane() + at;
                        let term = S::load(p.x, p.x_type, index as usize).times(of_all);
                        sums[c as usize] = sums[c as usize].plus(term);
                    }
                }
            }
            tap += 1;
        }
        for c in 0..CHANNELS {
            if first + c < end {
                let index = (from + c) * p.places + place;
                sums[c as usize].store(p.y, p.x_type, index as usize);
            }
        }
    });
}

entry!(
    /// The nearest elements of 1 byte.
    NEAREST_1 = grid_sample_nearest_1(Params): nearest::<u8>, THREADS
);
entry!(
    /// The nearest elements of 2 bytes.
    NEAREST_2 = grid_sample_nearest_2(Params): nearest::<u16>, THREADS
);
entry!(
    /// The nearest elements of 4 bytes.
    NEAREST_4 = grid_sample_nearest_4(Params): nearest::<u32>, THREADS
);
entry!(
    /// The nearest elements of 8 bytes.
    NEAREST_8 = grid_sample_nearest_8(Params): nearest::<u64>, THREADS
);
entry!(
    /// Sums in f32.
    NARROW = grid_sample_narrow(Params): weighed::<f32>, THREADS, with_spills(128)
);
entry!(
    /// Sums in f64.
    WIDE = grid_sample_wide(Params): weighed::<f64>, THREADS, with_spills(128)
);

/// A sampling as the caller describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sampling {
    /// How neighbours are weighed.
    pub mode: Mode,
    /// What lies outside.
    pub outside: Outside,
    /// Whether −1 and 1 are the centres of the outermost elements, not their outer edges.
    pub align: bool,
    /// Images.
    pub images: u32,
    /// Channels of each.
    pub channels: u32,
    /// Innermost first; 1 where there is no axis.
    pub extents: [u32; MOST_AXES],
    /// Axes of an image.
    pub axes: u32,
    /// Positions for each image.
    pub places: u32,
    /// Type of X and Y.
    pub x: DType,
    /// Type of the positions.
    pub grid: DType,
}

/// Whether positions and weighed values may be of it.
fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
}

impl Sampling {
    /// Whether there is a kernel for it; the elements of X, of the positions and of Y.
    pub fn accepts(&self) -> Result<[u64; 3], Reject> {
        if !is_float(self.grid) {
            return Err(Reject::ElementType { operand: "grid" });
        }
        let moved = matches!(self.x.bits(), 8 | 16 | 32 | 64);
        if if self.mode == Mode::Nearest { !moved } else { !is_float(self.x) } {
            return Err(Reject::ElementType { operand: "x" });
        }
        if self.axes == 0 || self.axes as usize > MOST_AXES {
            return Err(Reject::Extent { name: "axes", got: self.axes.into(), limit: MOST_AXES as u64 });
        }
        let product = |factors: &[u32]| {
            let got = factors.iter().fold(1u64, |n, &factor| n.saturating_mul(factor.into()));
            elements::limit("elements", got).map(|()| got)
        };
        let [a, b, c] = self.extents;
        let from = product(&[self.images, self.channels, a, b, c])?;
        let positions = product(&[self.images, self.places, self.axes])?;
        let to = product(&[self.images, self.channels, self.places])?;
        if from == 0 && to > 0 {
            return Err(Reject::Unsupported { what: "positions in an image without elements" });
        }
        Ok([from, positions, to])
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(
        &self,
        [x, grid, y]: [Buffer; 3],
        device: &Device,
    ) -> Result<Option<Prepared<Params>>, Reject> {
        let [from, positions, to] = self.accepts()?;
        if to == 0 {
            return Ok(None);
        }
        let (size, of_grid) = (self.x.bits() as u64 / 8, self.grid.bits() as u64 / 8);
        x.holds("x", from * size, size)?;
        grid.holds("grid", positions * of_grid, of_grid)?;
        y.holds("y", to * size, size)?;
        let groups = self.channels.div_ceil(CHANNELS);
        let count = u64::from(self.images) * u64::from(groups) * u64::from(self.places);
        let (elements, geometry) = Elements::on(device, count);
        let params = Params {
            x: Global::from_address(x.address),
            grid: Global::from_address(grid.address),
            y: Global::from_address(y.address),
            extents: self.extents,
            axes: self.axes,
            channels: self.channels,
            groups,
            places: self.places,
            mode: self.mode as u32,
            outside: self.outside as u32,
            align: self.align.into(),
            elements,
            grid_type: self.grid as u32,
            x_type: self.x as u32,
        };
        let entry: &'static Entry<Params> = match (self.mode, size) {
            (Mode::Nearest, 1) => &NEAREST_1,
            (Mode::Nearest, 2) => &NEAREST_2,
            (Mode::Nearest, 4) => &NEAREST_4,
            (Mode::Nearest, _) => &NEAREST_8,
            _ if self.x == DType::F64 => &WIDE,
            _ => &NARROW,
        };
        Prepared::new(entry, geometry, params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = Sampling {
            mode: Mode::Linear,
            outside: Outside::Zeros,
            align: false,
            images: 1,
            channels: 2,
            extents: [3, 2, 1],
            axes: 2,
            places: 5,
            x: DType::F16,
            grid: DType::F32,
        };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        assert!(shape.prepare([buffer(24), buffer(40), buffer(20)], &EMULATED).is_ok());
        let short = shape.prepare([buffer(24), buffer(36), buffer(20)], &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "grid", needed: 40, got: 36 }));
        assert!(Sampling { x: DType::I32, ..shape }.accepts().is_err());
        assert!(Sampling { x: DType::I32, mode: Mode::Nearest, ..shape }.accepts().is_ok());
        assert!(Sampling { grid: DType::I64, ..shape }.accepts().is_err());
        assert!(Sampling { axes: 4, ..shape }.accepts().is_err());
        assert!(Sampling { images: u32::MAX, ..shape }.accepts().is_err());
        assert!(Sampling { extents: [3, 0, 1], ..shape }.accepts().is_err());
    }
}
