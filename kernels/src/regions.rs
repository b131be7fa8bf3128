//! Regions of images in bins: what kernels that make an element of each bin of each region and channel have in common.
//!
//! Elements are numbered by region, channel, bin down and bin across. Hazard, which only the data tells: an image that is not
//! there. Its region's elements are 0, and the fault word, which the host looks at, becomes 1.

use crate::device::Global;
use crate::device::atomic::Scope;
use crate::device::math::divide;
use crate::dtype::DType;
use crate::elements::{self, Elements};
use crate::launch::{Buffer, Device, Geometry, Reject};
use crate::weighed::Weighed;

/// What a launch takes of them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Frame {
    x: Global<u8>,
    /// What is told of each region, of the type of X.
    regions: Global<u8>,
    y: Global<u8>,
    fault: Global<u32>,
    pub(crate) scale: f64,
    pub(crate) images: u32,
    channels: u32,
    pub(crate) height: u32,
    pub(crate) width: u32,
    pub(crate) bins_down: u32,
    pub(crate) bins_across: u32,
    dtype: u32,
    /// Numbers that are told of a region.
    told: u32,
    elements: Elements,
}

const _: () = assert!(size_of::<Frame>() == 80);

/// Where an element is.
#[derive(Clone, Copy)]
pub(crate) struct Bin {
    pub(crate) region: u32,
    channel: u32,
    pub(crate) row: u32,
    pub(crate) column: u32,
}

impl Frame {
    /// Stores what `make` gives for each of the thread's elements; nothing is a fault.
    #[inline(always)]
    pub(crate) fn each<S: Weighed>(&self, make: impl Fn(Bin) -> Option<S>) {
        self.elements.each(|number| {
            let (rest, column) = divide(number, self.bins_across);
            let (rest, row) = divide(rest, self.bins_down);
            let (region, channel) = divide(rest, self.channels);
            let made = make(Bin { region, channel, row, column });
            if made.is_none() {
                self.fault.store_relaxed(0, 1, Scope::System);
            }
            made.unwrap_or(S::zero()).store(self.y, self.dtype, number as usize);
        });
    }

    /// Number `k` of what is told of the bin's region.
    #[inline(always)]
    pub(crate) fn told<S: Weighed>(&self, bin: Bin, k: u32) -> f64 {
        S::load(self.regions, self.dtype, (self.told * bin.region + k) as usize).real()
    }

    /// The number of the first element of the bin's channel of an image that is there.
    #[inline(always)]
    pub(crate) fn plane(&self, bin: Bin, image: u32) -> u32 {
        (image * self.channels + bin.channel) * self.height * self.width
    }

    /// An element of X.
    #[inline(always)]
    pub(crate) fn element<S: Weighed>(&self, at: u32) -> S {
        S::load(self.x, self.dtype, at as usize)
    }
}

/// Regions as the caller describes them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Regions {
    /// How many regions.
    pub count: u32,
    /// How many images.
    pub images: u32,
    /// Channels of an image.
    pub channels: u32,
    /// Its rows and columns.
    pub extents: [u32; 2],
    /// Bins of a region, down and across.
    pub bins: [u32; 2],
    /// What coordinates are multiplied with.
    pub scale: f64,
    /// Type of images, regions and the result.
    pub dtype: DType,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// The images.
    pub x: Buffer,
    /// The regions.
    pub regions: Buffer,
    /// The result.
    pub y: Buffer,
    /// A word that becomes 1 where data asks for what is not there; the host sets it to 0.
    pub fault: Buffer,
}

impl Regions {
    /// Whether there is a kernel for regions of which so many numbers are told; the elements of X and Y.
    pub(crate) fn accepts(&self, told: u32) -> Result<[u64; 2], Reject> {
        if !matches!(self.dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Reject::ElementType { operand: "x" });
        }
        let product = |factors: [u32; 4]| {
            let got = factors.iter().fold(1u64, |n, &factor| n.saturating_mul(factor.into()));
            elements::limit("elements", got).map(|()| got)
        };
        let from = product([self.images, self.channels, self.extents[0], self.extents[1]])?;
        let to = product([self.count, self.channels, self.bins[0], self.bins[1]])?;
        product([self.count, told, 1, 1])?;
        Ok([from, to])
    }

    /// Bytes of an element.
    fn size(&self) -> u64 {
        self.dtype.bits() as u64 / 8
    }

    /// Checks the buffers and makes the frame and the launch's geometry; nothing is to be done where Y is empty.
    pub(crate) fn prepare(
        &self,
        told: u32,
        buffers: &Buffers,
        device: &Device,
    ) -> Result<Option<(Frame, Geometry)>, Reject> {
        let ([from, to], size) = (self.accepts(told)?, self.size());
        if to == 0 {
            return Ok(None);
        }
        if from > 0 {
            buffers.x.holds("x", from * size, size)?;
        }
        buffers.regions.holds("regions", u64::from(told) * u64::from(self.count) * size, size)?;
        buffers.y.holds("y", to * size, size)?;
        buffers.fault.holds("fault", 4, 4)?;
        let (elements, geometry) = Elements::on(device, to);
        let frame = Frame {
            x: Global::from_address(buffers.x.address),
            regions: Global::from_address(buffers.regions.address),
            y: Global::from_address(buffers.y.address),
            fault: Global::from_address(buffers.fault.address),
            scale: self.scale,
            images: self.images,
            channels: self.channels,
            height: self.extents[0],
            width: self.extents[1],
            bins_down: self.bins[0],
            bins_across: self.bins[1],
            dtype: self.dtype as u32,
            told,
            elements,
        };
        Ok(Some((frame, geometry)))
    }
}
