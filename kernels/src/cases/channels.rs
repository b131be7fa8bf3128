//! Response normalisation against the formula in f64.

use super::Failure;
use super::draw::Draw;
use super::lab::{Lab, close};
use crate::channels::Shape;
use crate::element::Element;

/// Shapes at the edges of a block, regions as wide as all channels and wider.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let element = r.pick(&[Element::F32, Element::F16, Element::BF16]);
    let shape = Shape {
        element,
        images: r.within(1..=3),
        channels: r.within(1..=7),
        positions: r.edge(&[1, 16, 255, 256, 257], 1..=40),
        below: r.within(0..=4),
        above: r.within(0..=8),
        alpha: r.pick(&[0.3, 1e-3]),
        beta: r.pick(&[0.5, 0.75, 1.5]),
        bias: r.pick(&[1.0, 2.0]),
    };
    let (channels, positions) = (shape.channels as usize, shape.positions as usize);
    let values = r.floats(element, shape.images as usize * channels * positions, 3.0);
    let x = lab.upload_floats("x", element, &values)?;
    let y = lab.room("y", element.bytes() * values.len() as u64)?;
    if let Some(prepared) = shape.prepare(x, y, &lab.device())? {
        lab.run(prepared)?;
    }
    for (number, got) in lab.floats(y, element, 0, values.len())?.into_iter().enumerate() {
        let (plane, position) = (number / positions, number % positions);
        let (image, channel) = (plane / channels, plane % channels);
        let region =
            channel.saturating_sub(shape.below as usize)..(channel + shape.above as usize + 1).min(channels);
        let at = |c: usize| f64::from(values[(image * channels + c) * positions + position]);
        let squares: f64 = region.map(|c| at(c) * at(c)).sum();
        let scale = f64::from(shape.bias) + f64::from(shape.alpha) * squares;
        let want = at(channel) / scale.powf(shape.beta.into());
        close(got.into(), want, element, 64.0, || format!("{shape:?}, element {number}"))?;
    }
    Ok(())
}
