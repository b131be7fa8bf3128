//! The largest of regions, found by asking every element whether it is in a bin; images that are not there among them.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Float, bytes, held, parse};
use super::roi_align::drawn;
use crate::regions::Buffers;
use crate::roi_max;

/// Regions in the image, across its edges, outside, and turned around.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let shape = drawn(r);
    let of = |value: f64| match held(shape.dtype, Float(value)) {
        Float(value) => value,
        _ => 0.0,
    };
    let [height, width] = shape.extents.map(|extent| extent as usize);
    let count = shape.images as usize * shape.channels as usize * height * width;
    let x: Vec<f64> = (0..count).map(|_| of(r.unit().into())).collect();
    let broken = r.within(0..=5) == 0;
    let mut regions = Vec::new();
    for region in 0..shape.count {
        let image = f64::from(r.within(0..=shape.images - 1));
        regions.push(if broken && region == 0 {
            r.pick(&[-1.0, shape.images.into(), f64::NAN])
        } else {
            image
        });
        let (left, top) = (f64::from(r.unit()) * 12.0, f64::from(r.unit()) * 12.0);
        let (wide, high) = (f64::from(r.unit()) * 12.0 + 6.0, f64::from(r.unit()) * 12.0 + 6.0);
        regions.extend([left, top, left + wide, top + high].map(of));
    }
    let encoded = |values: &[f64]| -> Vec<u8> {
        values.iter().flat_map(|&value| bytes(shape.dtype, Float(value))).collect()
    };
    let [down, across] = shape.bins.map(|bins| bins as usize);
    let made = (shape.count * shape.channels) as usize * down * across;
    let size = shape.dtype.bits() / 8;
    let buffers = Buffers {
        x: lab.upload("x", &encoded(&x))?,
        regions: lab.upload("regions", &encoded(&regions))?,
        y: lab.room("y", (made * size) as u64)?,
        fault: lab.upload("fault", &[0; 4])?,
    };
    if let Some(prepared) = roi_max::prepare(&shape, &buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    if (lab.bytes(buffers.fault)? != [0; 4]) != broken {
        return Err(Failure::Wrong(format!("{shape:?}: {regions:?} is found faulty, or is not")));
    }
    // Whole numbers throughout: an element is in the bin when its distance times the bins is between the bin's edges.
    let in_bin = |cell: usize, (low, high): (f64, f64), (bin, bins): (usize, usize)| {
        let (low, high) = ((low * shape.scale).round(), (high * shape.scale).round());
        let length = (high - low + 1.0).max(1.0);
        let distance = cell as f64 - low;
        let (first, end) = (bin as f64 * length, (bin + 1) as f64 * length);
        (distance + 1.0) * bins as f64 > first && distance * (bins as f64) < end
    };
    for (number, got) in lab.bytes(buffers.y)?.chunks_exact(size).enumerate() {
        let (rest, column) = (number / across, number % across);
        let (rest, row) = (rest / down, rest % down);
        let (region, channel) = (rest / shape.channels as usize, rest % shape.channels as usize);
        let told = &regions[5 * region..][..5];
        let mut want: Option<f64> = None;
        for cell in 0..height * width {
            let (y, x_at) = (cell / width, cell % width);
            let inside = in_bin(y, (told[2], told[4]), (row, down));
            if inside && in_bin(x_at, (told[1], told[3]), (column, across)) && !(broken && region == 0) {
                let plane = (told[0] as usize * shape.channels as usize + channel) * height * width;
                want = Some(want.unwrap_or(f64::NEG_INFINITY).max(x[plane + cell]));
            }
        }
        let (got, want) = (parse(shape.dtype, got), Float(want.unwrap_or(0.0)));
        if got != want {
            let what = format!("{shape:?}, {told:?}, element {number}: {got:?} instead of {want:?}");
            return Err(Failure::Wrong(what));
        }
    }
    Ok(())
}
