//! Products with weights of few bits against sums in f64.

use super::draw::{Draw, encode, rounded};
use super::epilogue::Behind;
use super::lab::{Lab, close};
use super::{Failure, decode};
use crate::blocks::{Buffers, Shape, Zeros, tensor, vectors};
use crate::element::Element;
use crate::launch::Buffer;

/// Up to 16 vectors: rows of weights and terms at the edges of warps, chunks and blocks.
pub(super) fn vectors(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let element = r.pick(&[Element::F32, Element::F16, Element::BF16]);
    let (m, n) = (r.edge(&[1, 4, 5, 16], 1..=16), r.edge(&[1, 7, 8, 9], 1..=30));
    let k = r.edge(&[1, 15, 16, 255, 256, 257, 513], 1..=600);
    let shape = shape(number, element, [m, n, k], r);
    check(&shape, None, r, lab, |lab, buffers| lab.run(vectors::prepare(&shape, buffers, &lab.device())?))
}

/// Tensor cores: rows on both sides at the edges of tiles, terms at those of steps, in parts.
pub(super) fn tensor(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let element = r.pick(&[Element::F16, Element::BF16]);
    let (m, n) = (r.edge(&[1, 127, 128, 129], 1..=20), r.edge(&[1, 127, 128, 129], 1..=20));
    let k = 8 * r.edge(&[1, 2, 3, 4, 5, 8, 9], 1..=40);
    let shape = shape(number, element, [m, n, k], r);
    let splits = r.pick(&[1, 1, 2, 3]);
    let workspace = lab.room("workspace", tensor::workspace_bytes(&shape, splits).max(1))?;
    // Weights are rounded, whatever Y's type.
    check(&shape, Some(element), r, lab, |lab, buffers| {
        let plan = tensor::prepare(&shape, splits, &Buffers { workspace, ..*buffers }, &lab.device())?;
        lab.run(plan.product)?;
        plan.sum.map_or(Ok(()), |sum| lab.run(sum))
    })
}

fn shape(number: u32, element: Element, [m, n, k]: [u32; 3], r: &mut Draw) -> Shape {
    let (bits, block) = ([2, 4, 8][number as usize % 3], r.pick(&[16, 16, 32, 64, 256]));
    let bytes = (k.div_ceil(block) * bits).div_ceil(8);
    let zeros = r.pick(&[Zeros::Middle, Zeros::Elements, Zeros::Packed(bytes), Zeros::Packed(bytes + 1)]);
    Shape { element, m, n, k, bits, block, zeros }
}

fn check(
    shape: &Shape,
    weights: Option<Element>,
    r: &mut Draw,
    lab: &mut Lab<'_>,
    run: impl FnOnce(&mut Lab<'_>, &Buffers) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Shape { element, bits, block, zeros, .. } = *shape;
    let [m, n, k, block, bits] = [shape.m, shape.n, shape.k, block, bits].map(|n| n as usize);
    let (blocks, range) = (k.div_ceil(block), 1usize << bits);
    let bytes = |r: &mut Draw, count: usize| (0..count).map(|_| r.bits() as u8).collect::<Vec<u8>>();
    let x = r.floats(element, m * k, 1.0);
    let packed = bytes(r, n * blocks * block * bits / 8);
    let scales = r.floats(element, n * blocks, 1.0 / (range as f32 * (k as f32).sqrt()));
    let zero_row = if let Zeros::Packed(bytes) = zeros { bytes as usize } else { 0 };
    let packed_zeros = bytes(r, n * zero_row);
    let plain: Vec<f32> =
        r.floats(element, n * blocks, 1.0).iter().map(|v| rounded(element, v.abs() * range as f32)).collect();
    let behind = Behind::draw(r, element, &[m as u64, n as u64])?;
    let program = behind.as_ref().map(|behind| behind.upload(lab)).transpose()?;
    let of_y = behind.as_ref().map_or(element, |behind| behind.element);
    let y = lab.room("y", (m * n) as u64 * of_y.bytes())?;
    let buffers = Buffers {
        x: lab.upload_floats("x", element, &x)?,
        w: lab.upload("w", &packed)?,
        scales: lab.upload("scales", &encode(element, &scales))?,
        zeros: match zeros {
            Zeros::Middle => Buffer::default(),
            Zeros::Elements => lab.upload_floats("zeros", element, &plain)?,
            Zeros::Packed(_) => lab.upload("zeros", &packed_zeros)?,
        },
        y,
        workspace: Buffer::default(),
        program,
    };
    run(lab, &buffers)?;
    let number = |bytes: &[u8], at: usize| f64::from(bytes[at * bits / 8] >> (at * bits % 8)) % range as f64;
    let weight = |row: usize, term: usize| {
        let at = row * blocks + term / block;
        let zero = match zeros {
            Zeros::Middle => (range / 2) as f64,
            Zeros::Elements => plain[at].into(),
            Zeros::Packed(_) => number(&packed_zeros[row * zero_row..], term / block),
        };
        let row = &packed[row * blocks * block * bits / 8..];
        (number(row, term) - zero) * f64::from(scales[at])
    };
    let got = decode(of_y, &lab.bytes(y)?);
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|term| f64::from(x[i * k + term]) * weight(j, term)).sum();
            let at = i * n + j;
            let want = behind.as_ref().map_or(sum, |behind| behind.of(sum, at as u64));
            let steps = behind.as_ref().map(Behind::steps);
            let what = || format!("{shape:?} [{i}, {j}], {steps:?}");
            close(got[at].into(), want, weights.unwrap_or(of_y), 64.0, what)?;
        }
    }
    Ok(())
}
